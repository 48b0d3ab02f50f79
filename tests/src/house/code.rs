//! Rules about Rust source: its size, its first lines, and what is never written.

use proc_macro2::TokenTree;

use super::tokens::{self, Run, is, is_word, last_line, line, parentheses, places, runs};
use super::tree::{File, Findings, hold};

const FILE_LINES_MAX: usize = 500;
const FUNCTION_LINES_MAX: usize = 70;
const PORT_METHODS_MAX: usize = 6;

/// A rule over the runs of tokens of Rust files.
fn in_code(rule: impl Fn(&File, &Run) -> Findings) -> impl Fn(&File) -> Findings {
    move |file| {
        if !file.is_rust() {
            return Vec::new();
        }
        let mut found: Findings = runs(&file.text).iter().flat_map(|run| rule(file, run)).collect();
        found.sort();
        found
    }
}

fn all(lines: Vec<usize>, what: &str) -> Findings {
    lines.into_iter().map(|line| (line, what.to_owned())).collect()
}

#[test]
fn files_stay_short() {
    let rule = |file: &File| match file.text.lines().count() {
        lines if file.is_rust() && lines > FILE_LINES_MAX => {
            vec![(lines, format!("{lines} lines, of at most {FILE_LINES_MAX}; split it by purpose"))]
        }
        _ => Vec::new(),
    };
    let line = "// A line.\n";
    hold(
        rule,
        &[("a.rs", &line.repeat(FILE_LINES_MAX + 1))],
        &[("a.rs", &line.repeat(FILE_LINES_MAX)), ("a.avsc", &line.repeat(FILE_LINES_MAX + 1))],
    );
}

#[test]
fn functions_stay_short() {
    let rule = in_code(|_, run| {
        let mut found = Vec::new();
        for (at, tree) in run.trees.iter().enumerate() {
            let named = run.trees.get(at + 1).is_some_and(|next| tokens::word_of(next).is_some());
            if !is_word(tree, "fn") || !named {
                continue;
            }
            let end = run.trees[at..].iter().find(|tree| tokens::braces(tree) || is(tree, ';'));
            let lines = end.map_or(0, |end| last_line(end) - line(tree) + 1);
            if lines > FUNCTION_LINES_MAX {
                let name = &run.trees[at + 1];
                found
                    .push((line(tree), format!("fn {name}: {lines} lines, of at most {FUNCTION_LINES_MAX}")));
            }
        }
        found
    });
    let of = |lines: usize| {
        format!("impl A {{\n    fn b() {{\n{}    }}\n}}\n", "        c();\n".repeat(lines - 2))
    };
    hold(rule, &[("a.rs", &of(FUNCTION_LINES_MAX + 1))], &[("a.rs", &of(FUNCTION_LINES_MAX))]);
}

#[test]
fn every_file_says_what_it_is() {
    let rule = |file: &File| {
        let silent = file.is_rust() && !file.text.starts_with("//! ");
        if silent { vec![(1, "does not open with a line of `//!`".to_owned())] } else { Vec::new() }
    };
    hold(rule, &[("a.rs", "use b::c;\n")], &[("a.rs", "//! Why it is here.\n")]);
}

/// Tests run those of libraries and programs: those in docs would each be built by themselves.
#[test]
fn no_test_hides_in_docs() {
    let rule = |file: &File| {
        let text = |line: &str| {
            let docs = ["//!", "///"].iter().find_map(|mark| line.trim_start().strip_prefix(mark));
            docs.map_or(String::new(), |text| text.trim_start().to_owned())
        };
        let fence = |line: &str| ["```", "~~~"].iter().any(|mark| text(line).starts_with(mark));
        let lines = file.text.lines().enumerate().filter(|(_, line)| file.is_rust() && fence(line));
        lines.map(|(at, _)| (at + 1, "an example in docs is not run; make it a test".to_owned())).collect()
    };
    hold(
        rule,
        &[("a.rs", "/// ```\n/// a();\n/// ```\nfn a() {}\n"), ("a.rs", "    //!~~~text\n")],
        &[("a.rs", "/// A `b`.\n"), ("a.md", "/// ```\n")],
    );
}

#[test]
fn every_crate_says_what_it_never_does() {
    let rule = |file: &File| {
        let root = ["/src/lib.rs", "/src/main.rs"].iter().any(|end| file.path.ends_with(end));
        let mut first = file.text.lines().take_while(|line| line.starts_with("//!"));
        if root && !first.any(|line| line.to_lowercase().contains("never")) {
            return vec![(1, "the crate's first lines do not say what it never does".to_owned())];
        }
        Vec::new()
    };
    hold(
        rule,
        &[("a/src/lib.rs", "//! Decides.\n\n// never\n")],
        &[("a/src/lib.rs", "//! Decides.\n//! It never waits.\n"), ("a/src/b.rs", "//! Decides.\n")],
    );
}

#[test]
fn no_match_is_thrown_away() {
    let rule = in_code(|_, run| {
        let trees = &run.trees;
        let starts = |at: usize| at == 0 || is(&trees[at - 1], ';') || tokens::braces(&trees[at - 1]);
        let bare = |at: usize| {
            starts(at) && is_word(&trees[at], "matches") && is(&trees[at + 1], '!') && is(&trees[at + 3], ';')
        };
        let lines =
            (0..trees.len().saturating_sub(3)).filter(|at| bare(*at)).map(|at| line(&trees[at])).collect();
        all(lines, "a bare `matches!` asserts nothing; put `assert!` around it")
    });
    hold(
        rule,
        &[
            ("a.rs", "fn a() { matches!(b, C); }"),
            ("a.rs", "proptest! { fn a() { b(); matches!(c, D(_)); } }"),
        ],
        &[
            ("a.rs", "fn a() { assert!(matches!(b, C)); let d = matches!(b, C); }"),
            ("a.rs", "// matches!(b, C);"),
        ],
    );
}

#[test]
fn no_test_is_ignored() {
    let rule = in_code(|_, run| {
        let ignored = |pair: &[TokenTree]| match pair {
            [sign, TokenTree::Group(group)] if is(sign, '#') => {
                tokens::all_idents(group.stream()).contains(&"ignore".to_owned()).then(|| line(sign))
            }
            _ => None,
        };
        all(run.trees.windows(2).filter_map(ignored).collect(), "an ignored test proves nothing")
    });
    hold(
        rule,
        &[
            ("a.rs", "#[test]\n#[ignore = \"slow\"]\nfn a() {}"),
            ("a.rs", "#[cfg_attr(windows, ignore)] fn a() {}"),
        ],
        &[("a.rs", "// #[ignore]\n#[test] fn ignore() {}")],
    );
}

#[test]
fn nothing_is_left_to_do() {
    let rule = in_code(|_, run| {
        let found = ["todo", "unimplemented"].iter().flat_map(|word| places(run, &[word, "!"])).collect();
        all(found, "a promise in place of code")
    });
    hold(
        rule,
        &[("a.rs", "fn a() { todo!() }"), ("a.rs", "fn a() { unimplemented!() }")],
        &[("a.rs", "// todo!()\nfn todo() {}")],
    );
}

#[test]
fn no_test_sleeps() {
    let rule = in_code(|file, run| {
        if !file.test && !run.test {
            return Vec::new();
        }
        // The clock port's `sleep_until` is another thing: its time moves when the test moves it.
        let sleeps: [&[&str]; 2] = [&["sleep", "()"], &["time", ":", ":", "sleep_until", "()"]];
        let found = sleeps.iter().flat_map(|pattern| places(run, pattern)).collect();
        all(found, "a test that sleeps is slow on a good day and red on a bad one; wait for what is awaited")
    });
    hold(
        rule,
        &[
            ("a/src/lib.rs", "#[cfg(test)] mod tests { #[test] fn a() { std::thread::sleep(b); } }"),
            ("a/src/tests/b.rs", "async fn a() { tokio::time::sleep(b).await }"),
            ("a/src/tests/b.rs", "async fn a() { tokio::time::sleep_until(b).await }"),
        ],
        &[
            ("a/src/lib.rs", "fn a() { std::thread::sleep(b); }"),
            ("a/src/tests/b.rs", "async fn a() { clock.sleep_until(b).await }"),
        ],
    );
}

#[test]
fn unsafe_code_is_given_a_reason() {
    let rule = |file: &File| {
        let allowed = file.lines().find(|(_, line)| line.starts_with("#![allow(unsafe_code)]"));
        let reason = |(number, line): (usize, &str)| {
            let above: Vec<&str> = file.text.lines().take(number - 1).collect();
            let told =
                above.iter().all(|line| line.starts_with("//") || line.is_empty() || line.starts_with("#!["));
            let said = above.iter().any(|line| line.starts_with("//") && line.contains("unsafe"));
            told && (said || line.contains("//"))
        };
        let rule = in_code(|_, run| {
            let uses = run.trees.iter().filter(|tree| is_word(tree, "unsafe")).map(line).collect();
            all(uses, "`unsafe` in a file whose top does not allow it with the reason")
        });
        if allowed.is_some_and(reason) { Vec::new() } else { rule(file) }
    };
    hold(
        rule,
        &[
            ("a.rs", "//! Calls C.\nfn a() { unsafe { b() } }"),
            ("a.rs", "//! Calls C.\n#![allow(unsafe_code)]\nfn a() { unsafe { b() } }"),
            ("a.rs", "//! Calls C.\nfn a() { unsafe { b() } }\n#![allow(unsafe_code)] // The library is C."),
        ],
        &[
            ("a.rs", "//! Calls C.\n#![allow(unsafe_code)] // The library is C.\nfn a() { unsafe { b() } }"),
            ("a.rs", "//! Calls C, which is `unsafe`.\n#![allow(unsafe_code)]\nfn a() { unsafe { b() } }"),
            ("a.rs", "// unsafe\nfn a() {}"),
        ],
    );
}

#[test]
fn no_error_is_a_catch_all() {
    let rule = in_code(|_, run| {
        let strings = |pair: &[TokenTree]| match pair {
            [word, TokenTree::Group(group)] if is_word(word, "Other") && parentheses(&pair[1]) => {
                (tokens::all_idents(group.stream()) == ["String"]).then(|| line(word))
            }
            _ => None,
        };
        all(
            run.trees.windows(2).filter_map(strings).collect(),
            "`Other(String)` hides which error it is; name it",
        )
    });
    hold(rule, &[("a.rs", "enum E { A, Other(String) }")], &[("a.rs", "enum E { Other { cause: String } }")]);
}

#[test]
fn error_texts_end_without_a_full_stop() {
    let rule = in_code(|_, run| {
        let stop = |pair: &[TokenTree]| match pair {
            [word, TokenTree::Group(group)] if is_word(word, "error") && parentheses(&pair[1]) => {
                let text = group.stream().into_iter().next()?.to_string();
                (text.ends_with(".\"") && !text.ends_with("..\"")).then(|| line(word))
            }
            _ => None,
        };
        all(run.trees.windows(2).filter_map(stop).collect(), "an error's text ends without a full stop")
    });
    hold(
        rule,
        &[("a.rs", "enum E { #[error(\"it broke.\")] A }")],
        &[("a.rs", "enum E { #[error(\"it broke\")] A }")],
    );
}

#[test]
fn ports_are_narrow() {
    let rule = in_code(|file, run| {
        let mut found = Vec::new();
        for (at, tree) in run.trees.iter().enumerate() {
            let port = file.path.contains("/port") || file.path.starts_with("streams/jobs/");
            if !port || file.test || !is_word(tree, "trait") {
                continue;
            }
            let Some(TokenTree::Group(body)) = run.trees[at..].iter().find(|tree| tokens::braces(tree))
            else {
                continue;
            };
            let methods = body.stream().into_iter().filter(|tree| is_word(tree, "fn")).count();
            if methods > PORT_METHODS_MAX {
                let name = &run.trees[at + 1];
                found.push((
                    line(tree),
                    format!("trait {name}: {methods} methods, of at most {PORT_METHODS_MAX}"),
                ));
            }
        }
        found
    });
    let of = |methods: usize| format!("pub trait A: Send {{ {} }}", "fn b(&self);".repeat(methods));
    hold(
        rule,
        &[("streams/runtime/src/ports/a.rs", &of(PORT_METHODS_MAX + 1))],
        &[
            ("streams/runtime/src/ports/a.rs", &of(PORT_METHODS_MAX)),
            ("connectors/a/src/b.rs", &of(PORT_METHODS_MAX + 1)),
        ],
    );
}
