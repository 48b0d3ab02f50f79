//! Rules about files and names: what lies where, what nothing is called, what no file tells.

use super::tokens::{runs, word_of};
use super::tree::{File, Findings, git_files, hold};

/// What the top level holds; names with a dot in front belong to tools.
const TOP: [&str; 9] =
    ["Cargo.toml", "Cargo.lock", "README.md", "LICENSE", "schemas", "streams", "connectors", "helm", "tests"];

/// Words that say nothing about what a thing is.
const EMPTY_WORDS: [&str; 15] = [
    "common", "handler", "handlers", "helper", "helpers", "manager", "managers", "message", "messages",
    "misc", "types", "util", "utils", "worker", "workers",
];

fn beside_the_house(paths: &[String]) -> Vec<&str> {
    let mut beside: Vec<&str> = paths
        .iter()
        .map(|path| path.split('/').next().unwrap_or_default())
        .filter(|top| !top.starts_with('.') && !TOP.contains(top))
        .collect();
    beside.dedup();
    beside
}

#[test]
fn the_top_level_is_the_house() {
    let of = |paths: &[&str]| paths.iter().map(|path| (*path).to_owned()).collect::<Vec<_>>();
    assert_eq!(
        beside_the_house(&of(&["README.md", ".ci/run", "PLAN.md", "docs/a.md", "docs/b.md"])),
        ["PLAN.md", "docs"]
    );
    assert_eq!(beside_the_house(&git_files(&["--cached"])), [""; 0], "does not belong at the top level");
}

#[test]
fn the_licence_is_there() {
    let whole = |paths: &[String], text: &str| {
        paths.iter().any(|path| path == "LICENSE")
            && text.contains("Apache License")
            && text.contains("Version 2.0")
    };
    assert!(!whole(&["LICENSE".to_owned()], "MIT License"), "the rule overlooks another licence");
    assert!(!whole(&[], "Apache License Version 2.0"), "the rule overlooks an untracked licence");
    let text = std::fs::read_to_string(super::tree::root().join("LICENSE")).unwrap_or_default();
    assert!(whole(&git_files(&["--cached"]), &text), "LICENSE:1: is not the Apache License, Version 2.0");
}

#[test]
fn names_say_what_a_thing_is() {
    let rule = |file: &File| {
        let name = file.path.rsplit('/').next().unwrap_or_default();
        let stem = name.split('.').next().unwrap_or_default();
        let mut found: Findings =
            empty_words(stem).map(|word| (1, format!("the name says `{word}`"))).collect();
        if file.is_rust() {
            found.extend(empty_declarations(file));
        }
        found
    };
    hold(
        rule,
        &[
            ("streams/jobs/src/utils.rs", ""),
            ("streams/jobs/src/retry_common.rs", ""),
            ("tests/a.rs", "pub struct UploadHandler;"),
            ("tests/a.rs", "mod types { }"),
            ("tests/a.rs", "enum MessageKind {}"),
        ],
        &[
            ("streams/jobs/src/transcribe.rs", "pub struct Uncommonly; fn common() {}"),
            ("tests/a.rs", "// struct Handler\nimpl Handler for A { type Item = B; }"),
        ],
    );
}

/// The empty words in a name, be it `snake_case`, `kebab-case` or `CamelCase`.
fn empty_words(name: &str) -> impl Iterator<Item = String> {
    let mut spaced = String::new();
    for letter in name.chars() {
        if letter.is_uppercase() || !letter.is_alphanumeric() {
            spaced.push(' ');
        }
        spaced.extend(letter.to_lowercase().filter(|letter| letter.is_alphanumeric()));
    }
    let words: Vec<String> = spaced.split(' ').map(str::to_owned).collect();
    words.into_iter().filter(|word| EMPTY_WORDS.contains(&word.as_str()))
}

fn empty_declarations(file: &File) -> Findings {
    let declaring = ["struct", "enum", "trait", "mod", "type"];
    let mut found = Vec::new();
    for run in runs(&file.text) {
        for pair in run.trees.windows(2) {
            let [Some(keyword), Some(name)] = [word_of(&pair[0]), word_of(&pair[1])] else { continue };
            if declaring.iter().any(|word| keyword == word) {
                let line = name.span().start().line;
                found.extend(
                    empty_words(&name.to_string()).map(|word| (line, format!("{name} says `{word}`"))),
                );
            }
        }
    }
    found.sort();
    found
}

/// The lines that hold one of the texts.
fn telling(file: &File, texts: &[&str], what: &str) -> Findings {
    let mut found = Vec::new();
    for (number, line) in file.lines() {
        found.extend(
            texts.iter().filter(|text| line.contains(**text)).map(|text| (number, format!("{what}: {text}"))),
        );
    }
    found
}

#[test]
fn no_file_names_a_machine() {
    // Put together here, so that this file does not hold them itself.
    let paths = [concat!("/wo", "rk/"), concat!("/ro", "ot/"), concat!("/ho", "me/"), concat!("/Us", "ers/")];
    let bad: Vec<String> = paths.iter().map(|path| format!("cd {path}somebody")).collect();
    let bad: Vec<(&str, &str)> = bad.iter().map(|text| ("tests/run", text.as_str())).collect();
    hold(
        |file| telling(file, &paths, "a path of one machine"),
        &bad,
        &[("tests/run", "cd ~/framework/network")],
    );
}

#[test]
fn no_file_names_a_registry() {
    let hosts = [
        concat!("crates", ".io"),
        concat!("pypi", ".org"),
        concat!("pythonhosted", ".org"),
        concat!("npmjs", ".org"),
        concat!("proxy.golang", ".org"),
        concat!("maven.apache", ".org"),
        concat!("deb.debian", ".org"),
    ];
    let rule = |file: &File| {
        // Cargo writes the registry into its lock file, and reads it from there.
        if file.path == "Cargo.lock" { Vec::new() } else { telling(file, &hosts, "a registry's host") }
    };
    let bad: Vec<String> = hosts.iter().map(|host| format!("curl https://{host}/a")).collect();
    let bad: Vec<(&str, &str)> = bad.iter().map(|text| ("tests/run", text.as_str())).collect();
    hold(rule, &bad, &[("tests/run", "mvn dependency:copy-dependencies"), ("Cargo.lock", bad[0].1)]);
}

#[test]
fn each_crate_has_one_test_binary() {
    let rule = |file: &File| match file.path.split('/').collect::<Vec<_>>().as_slice() {
        ["streams" | "connectors", _, "tests", ..] | ["schemas", "tests", ..] if file.is_rust() => {
            vec![(1, "a test binary of its own; put it below the crate's src".to_owned())]
        }
        _ => Vec::new(),
    };
    hold(
        rule,
        &[("streams/jobs/tests/a.rs", ""), ("schemas/tests/a.rs", "")],
        &[("streams/jobs/src/tests/a.rs", ""), ("tests/src/a.rs", "")],
    );
}
