//! The licence of everything that is linked into Hansard or runs in its tests.

use super::crates::metadata;

/// SPDX names of licences under which a dependency may come.
const PERMITTED: [&str; 15] = [
    "0BSD",
    "Apache-2.0",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "BSL-1.0",
    "CC0-1.0",
    "CDLA-Permissive-2.0",
    "ISC",
    "MIT",
    "MIT-0",
    "MPL-2.0",
    "Unicode-3.0",
    "Unicode-DFS-2016",
    "Unlicense",
    "Zlib",
];

/// Whether an SPDX expression lets us choose permitted licences only.
fn permitted(expression: &str) -> bool {
    // A slash is how `OR` was written before SPDX; an exception only ever adds permissions.
    let spaced = expression.replace('/', " OR ").replace('(', " ( ").replace(')', " ) ");
    let mut words = spaced.split_whitespace().peekable();
    let all = either(&mut words);
    all && words.next().is_none()
}

type Words<I> = std::iter::Peekable<I>;

fn either<'a>(words: &mut Words<impl Iterator<Item = &'a str>>) -> bool {
    let mut good = both(words);
    while words.next_if_eq(&"OR").is_some() {
        good |= both(words);
    }
    good
}

fn both<'a>(words: &mut Words<impl Iterator<Item = &'a str>>) -> bool {
    let mut good = one(words);
    while words.next_if_eq(&"AND").is_some() {
        good &= one(words);
    }
    good
}

fn one<'a>(words: &mut Words<impl Iterator<Item = &'a str>>) -> bool {
    if words.next_if_eq(&"(").is_some() {
        let good = either(words);
        return words.next_if_eq(&")").is_some() && good;
    }
    let good = words.next().is_some_and(|name| PERMITTED.contains(&name));
    if words.next_if_eq(&"WITH").is_some() {
        words.next();
    }
    good
}

#[test]
fn every_dependency_has_a_permitted_licence() {
    for bad in
        ["GPL-3.0-only", "", "MIT AND AGPL-3.0", "MIT AND (LGPL-2.1 OR GPL-2.0)", "(MIT", "MIT)", "MIT ISC"]
    {
        assert!(!permitted(bad), "the rule overlooks {bad:?}");
    }
    for good in ["MIT", "Apache-2.0 OR GPL-2.0-only", "MIT/Apache-2.0", "ISC AND (GPL-3.0 OR MIT)"] {
        assert!(permitted(good), "the rule blames {good}");
    }
    assert!(permitted("Apache-2.0 WITH LLVM-exception"));

    let answer = metadata();
    let used: Vec<_> =
        answer["resolve"]["nodes"].as_array().expect("a list").iter().map(|node| &node["id"]).collect();
    let mut found = Vec::new();
    for package in answer["packages"].as_array().expect("a list") {
        let licence = package["license"].as_str().unwrap_or_default();
        if used.contains(&&package["id"]) && !permitted(licence) {
            found.push(format!("Cargo.lock: {} {}: {licence:?}", package["name"], package["version"]));
        }
    }
    assert!(found.is_empty(), "\n{}\n", found.join("\n"));
    assert!(used.len() > 100, "cargo named only {} packages", used.len());
}
