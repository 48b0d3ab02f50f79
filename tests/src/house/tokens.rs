//! Rust source as tokens, so that a rule sees code and never a comment or a string, also inside macros.

use proc_macro2::{Delimiter, Ident, TokenStream, TokenTree};

/// A run of neighbouring tokens in one pair of brackets, or at the top of a file.
pub(super) struct Run {
    /// The tokens, a pair of brackets being one.
    pub(super) trees: Vec<TokenTree>,
    /// Whether they belong to an item under `#[cfg(test)]` or `#[test]`.
    pub(super) test: bool,
}

/// Every run of a file, at every depth of brackets.
///
/// # Panics
/// Where the text is not Rust: then the build fails too.
pub(super) fn runs(text: &str) -> Vec<Run> {
    let stream: TokenStream = text.parse().expect("the file is made of Rust's tokens");
    let mut found = Vec::new();
    collect(stream, false, &mut found);
    found
}

fn collect(stream: TokenStream, test: bool, found: &mut Vec<Run>) {
    let trees: Vec<TokenTree> = stream.into_iter().collect();
    let mut rest = trees.as_slice();
    while !rest.is_empty() {
        let for_tests = is_test_attribute(rest);
        let length = if for_tests {
            item_length(rest)
        } else {
            (1..rest.len()).find(|at| is_test_attribute(&rest[*at..])).unwrap_or(rest.len())
        };
        let (run, after) = rest.split_at(length);
        for tree in run {
            if let TokenTree::Group(group) = tree {
                collect(group.stream(), test || for_tests, found);
            }
        }
        found.push(Run { trees: run.to_vec(), test: test || for_tests });
        rest = after;
    }
}

/// The number of tokens of an item with its attributes: up to its braces or its semicolon.
fn item_length(trees: &[TokenTree]) -> usize {
    trees.iter().position(|tree| braces(tree) || is(tree, ';')).map_or(trees.len(), |end| end + 1)
}

/// Whether an attribute begins here that makes its item one for tests: `#[cfg(test)]`, `#[test]`, `#[tokio::test]`.
fn is_test_attribute(trees: &[TokenTree]) -> bool {
    let [sign, TokenTree::Group(group), ..] = trees else { return false };
    let inside = all_idents(group.stream());
    let names: Vec<&str> = inside.iter().map(String::as_str).collect();
    is(sign, '#')
        && match names.as_slice() {
            ["cfg", rest @ ..] => rest.contains(&"test") && !rest.contains(&"not"),
            names => names.last() == Some(&"test"),
        }
}

/// Every identifier of a stream, also the nested ones, in order.
pub(super) fn all_idents(stream: TokenStream) -> Vec<String> {
    let of = |tree| match tree {
        TokenTree::Ident(ident) => vec![ident.to_string()],
        TokenTree::Group(group) => all_idents(group.stream()),
        TokenTree::Punct(_) | TokenTree::Literal(_) => Vec::new(),
    };
    stream.into_iter().flat_map(of).collect()
}

/// The names of the modules that a file declares for tests only, and that are files of their own.
pub(super) fn test_modules(text: &str) -> Vec<String> {
    let of_run = |run: &Run| match run.trees.as_slice() {
        [.., keyword, TokenTree::Ident(name), end] if run.test && is_word(keyword, "mod") && is(end, ';') => {
            Some(name.to_string())
        }
        _ => None,
    };
    runs(text).iter().filter_map(of_run).collect()
}

/// Whether the token is this sign.
pub(super) fn is(tree: &TokenTree, sign: char) -> bool {
    matches!(tree, TokenTree::Punct(punct) if punct.as_char() == sign)
}

/// Whether the token is this word.
pub(super) fn is_word(tree: &TokenTree, word: &str) -> bool {
    word_of(tree).is_some_and(|ident| ident == word)
}

/// The word that the token is.
pub(super) fn word_of(tree: &TokenTree) -> Option<&Ident> {
    if let TokenTree::Ident(ident) = tree { Some(ident) } else { None }
}

/// Whether the token is a block in braces.
pub(super) fn braces(tree: &TokenTree) -> bool {
    matches!(tree, TokenTree::Group(group) if group.delimiter() == Delimiter::Brace)
}

/// Whether the token is something in parentheses.
pub(super) fn parentheses(tree: &TokenTree) -> bool {
    matches!(tree, TokenTree::Group(group) if group.delimiter() == Delimiter::Parenthesis)
}

/// The line on which the token begins.
pub(super) fn line(tree: &TokenTree) -> usize {
    tree.span().start().line
}

/// The last line of the token.
pub(super) fn last_line(tree: &TokenTree) -> usize {
    tree.span().end().line
}

/// The places where the tokens of `pattern` stand in a row, by line. A part is a word, or `()` for anything in
/// parentheses, or signs, each of which is a token.
pub(super) fn places(run: &Run, pattern: &[&str]) -> Vec<usize> {
    let fits = |tree: &TokenTree, part: &str| match part.chars().next() {
        Some('(') => parentheses(tree),
        Some(first) if first.is_alphabetic() => is_word(tree, part),
        Some(sign) => is(tree, sign),
        None => false,
    };
    let mut lines = Vec::new();
    for window in run.trees.windows(pattern.len()) {
        if window.iter().zip(pattern).all(|(tree, part)| fits(tree, part)) {
            lines.push(line(&window[0]));
        }
    }
    lines
}

#[test]
fn items_for_tests_are_told_apart() {
    let text = "fn work() { a(); }\n#[cfg(test)]\nmod tests { fn check() { b(); } }\n#[cfg(not(test))] fn c() {}\n\
                #[tokio::test] async fn d() {}";
    let of = |word: &str| -> Vec<bool> {
        let runs = runs(text);
        runs.iter()
            .filter(|run| run.trees.iter().any(|tree| is_word(tree, word)))
            .map(|run| run.test)
            .collect()
    };
    assert_eq!([of("a"), of("b"), of("c"), of("d")], [[false], [true], [false], [true]]);
}
