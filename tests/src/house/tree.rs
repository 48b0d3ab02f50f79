//! The files that the rules read: everything git tracks or would track, as text.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use super::tokens;

/// A text file of the tree.
pub(super) struct File {
    /// Its path from the root, with slashes.
    pub(super) path: String,
    /// Its content.
    pub(super) text: String,
    /// Whether all of it is test code: compiled only for tests, or part of the tests' own crates. A benchmark is not: it
    /// measures time.
    pub(super) test: bool,
}

/// What a rule finds in a file: the line, and what is wrong there.
pub(super) type Findings = Vec<(usize, String)>;

impl File {
    pub(super) fn new(path: &str, text: &str) -> Self {
        let crates = path.starts_with("tests/") && !path.starts_with("tests/bench/");
        let test = crates || path.contains("/tests/") || path.ends_with("/tests.rs");
        Self { path: path.to_owned(), text: text.to_owned(), test }
    }

    /// The lines with their numbers, from 1.
    pub(super) fn lines(&self) -> impl Iterator<Item = (usize, &str)> {
        (1..).zip(self.text.lines())
    }

    pub(super) fn is_rust(&self) -> bool {
        self.path.ends_with(".rs")
    }
}

/// The root of the repository.
pub(super) fn root() -> PathBuf {
    let tests = Path::new(env!("CARGO_MANIFEST_DIR"));
    tests.parent().map(Path::to_path_buf).expect("the tests' crate lies below the root")
}

/// The paths that `git ls-files` answers with the given options.
pub(super) fn git_files(options: &[&str]) -> Vec<String> {
    let listed = Command::new("git").arg("-C").arg(root()).args(["ls-files", "-z"]).args(options).output();
    let listed = listed.expect("git must be installed: the rules are about the files that it tracks");
    assert!(listed.status.success(), "git ls-files failed: {}", String::from_utf8_lossy(&listed.stderr));
    let text = String::from_utf8(listed.stdout).expect("paths in the tree are UTF-8");
    text.split_terminator('\0').map(str::to_owned).collect()
}

/// Every text file of the tree, read once.
pub(super) fn files() -> &'static [File] {
    static FILES: OnceLock<Vec<File>> = OnceLock::new();
    FILES.get_or_init(|| {
        let paths = git_files(&["--cached", "--others", "--exclude-standard"]);
        // A file that is tracked but removed, or is not text, has no lines to name.
        let read = |path: &String| std::fs::read_to_string(root().join(path)).ok();
        let mut files: Vec<File> =
            paths.iter().filter_map(|path| Some(File::new(path, &read(path)?))).collect();
        let only_for_tests: Vec<String> = files.iter().flat_map(test_modules).collect();
        for file in &mut files {
            file.test |= only_for_tests.iter().any(|module| file.path.starts_with(module));
        }
        files
    })
}

/// The beginnings of the paths of modules that a file declares by `#[cfg(test)] mod name;`.
fn test_modules(file: &File) -> Vec<String> {
    let Some((folder, name)) = file.path.strip_suffix(".rs").and_then(|path| path.rsplit_once('/')) else {
        return Vec::new();
    };
    let own_folder =
        if matches!(name, "lib" | "main" | "mod") { folder.to_owned() } else { format!("{folder}/{name}") };
    let modules = tokens::test_modules(&file.text);
    modules
        .iter()
        .flat_map(|module| [format!("{own_folder}/{module}.rs"), format!("{own_folder}/{module}/")])
        .collect()
}

/// Proves a rule on samples (path, text), then applies it to the tree.
///
/// # Panics
/// Where the rule overlooks a bad sample, blames a good one, or finds something in the tree; the text names each place.
pub(super) fn hold(rule: impl Fn(&File) -> Findings, bad: &[(&str, &str)], good: &[(&str, &str)]) {
    for (path, text) in bad {
        assert!(!rule(&File::new(path, text)).is_empty(), "the rule overlooks {path}: {text}");
    }
    for (path, text) in good {
        assert_eq!(rule(&File::new(path, text)), [], "the rule blames {path}: {text}");
    }
    let found: Vec<String> = files()
        .iter()
        .flat_map(|file| {
            rule(file)
                .into_iter()
                .map(|(line, what)| format!("{}:{line}: {what}", file.path))
                .collect::<Vec<_>>()
        })
        .collect();
    assert!(found.is_empty(), "\n{}\n", found.join("\n"));
}

#[test]
fn modules_for_tests_are_known() {
    let lib = File::new("a/src/lib.rs", "#[cfg(test)]\nmod proof;\nmod work;");
    assert_eq!(test_modules(&lib), ["a/src/proof.rs", "a/src/proof/"]);
    let inner = File::new("a/src/b.rs", "#[cfg(test)] mod proof;");
    assert_eq!(test_modules(&inner), ["a/src/b/proof.rs", "a/src/b/proof/"]);
}
