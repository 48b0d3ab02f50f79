//! Rules about who may depend on whom: the table of the house, held against Cargo's own answer.

use std::collections::BTreeMap;
use std::process::Command;
use std::sync::OnceLock;

use serde_json::Value;

use super::tree::{File, hold, root};

const INNER: [&str; 3] = ["hansard-core", "hansard-schemas", "hansard-runtime"];
const WITH_TLS: [&str; 4] = ["hansard-core", "hansard-schemas", "hansard-runtime", "hansard-tls"];
const WITH_JOBS: [&str; 4] = ["hansard-core", "hansard-schemas", "hansard-runtime", "hansard-jobs"];

const WITH_PROVIDER: [&str; 5] =
    ["hansard-core", "hansard-schemas", "hansard-runtime", "hansard-jobs", "hansard-provider"];

/// Which of our crates each may use, apart from its tests. Audio, speech, summary and webhook implement ports that live in jobs;
/// who calls a service with an operator's authorities uses tls, and what providers share is provider. The program, the scenarios and the benchmarks may use all.
const OURS: [(&str, &[&str]); 18] = [
    ("hansard-core", &[]),
    ("hansard-schemas", &[]),
    ("hansard-runtime", &["hansard-core", "hansard-schemas"]),
    ("hansard-jobs", &INNER),
    ("hansard-kafka", &INNER),
    ("hansard-scylla", &WITH_TLS),
    ("hansard-registry", &WITH_TLS),
    ("hansard-s3", &WITH_TLS),
    ("hansard-embedded", &INNER),
    ("hansard-otlp", &WITH_TLS),
    ("hansard-gateway", &INNER),
    ("hansard-contract", &INNER),
    ("hansard-tls", &[]),
    ("hansard-audio", &WITH_JOBS),
    ("hansard-provider", &WITH_TLS),
    ("hansard-speech", &WITH_PROVIDER),
    ("hansard-summary", &WITH_PROVIDER),
    ("hansard-webhook", &WITH_JOBS),
];
const FREE: [&str; 3] = ["hansard", "hansard-bench", "hansard-tests"];

// The gateway's tests run on the embedded engine and its S3 server: real parts, where else there would be mocks.

/// What the two innermost crates may take from outside, apart from their tests; nothing else.
const TAKEN: [(&str, &[&str]); 2] = [
    ("hansard-core", &["regex", "regex-syntax", "sha2", "thiserror", "hex"]),
    ("hansard-schemas", &["apache-avro", "bytes", "hex", "serde", "serde_json", "sha2", "thiserror"]),
];

/// Clients of real systems, by the beginning of their names, and the crates whose own they are.
const CLIENTS: [(&str, &[&str]); 23] = [
    ("rdkafka", &["hansard-kafka"]),
    ("scylla", &["hansard-scylla"]),
    ("aws-", &["hansard-s3"]),
    ("rustls", &["hansard-tls"]),
    ("s3s", &["hansard-s3", "hansard-embedded"]),
    ("fjall", &["hansard-embedded"]),
    ("redb", &["hansard-embedded"]),
    ("symphonia", &["hansard-audio"]),
    ("opusic", &["hansard-audio"]),
    ("ogg", &["hansard-audio"]),
    ("rubato", &["hansard-audio"]),
    ("earshot", &["hansard-audio", "hansard-speech"]),
    ("flacenc", &["hansard-audio"]),
    ("hound", &["hansard-audio", "hansard-speech"]),
    ("claxon", &["hansard-audio", "hansard-speech"]),
    ("opentelemetry", &["hansard-otlp"]),
    ("libloading", &["hansard-speech"]),
    (
        "reqwest",
        &[
            "hansard-provider",
            "hansard-speech",
            "hansard-summary",
            "hansard-gateway",
            "hansard-registry",
            "hansard-webhook",
            "hansard-otlp",
        ],
    ),
    ("hyper", &["hansard-s3", "hansard-embedded", "hansard-gateway"]),
    ("axum", &["hansard-gateway"]),
    ("tower", &["hansard-gateway"]),
    ("utoipa", &["hansard-gateway"]),
    ("maud", &["hansard-gateway"]),
];

/// A crate of ours as Cargo sees it.
struct Member {
    name: String,
    /// What it uses in production and in build scripts, and what only its tests use.
    uses: Vec<String>,
    tests_use: Vec<String>,
}

/// Cargo's answer about the whole workspace, for this machine's platform.
pub(super) fn metadata() -> &'static Value {
    static METADATA: OnceLock<Value> = OnceLock::new();
    METADATA.get_or_init(|| {
        let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned());
        let rustc = Command::new("rustc").arg("-vV").output().expect("rustc is installed").stdout;
        let rustc = String::from_utf8_lossy(&rustc).into_owned();
        let host = rustc.lines().find_map(|line| line.strip_prefix("host: ")).expect("rustc names its host");
        let answer = Command::new(cargo)
            .args(["metadata", "--format-version", "1", "--filter-platform", host])
            .current_dir(root())
            .output()
            .expect("cargo runs");
        assert!(
            answer.status.success(),
            "cargo metadata failed: {}",
            String::from_utf8_lossy(&answer.stderr)
        );
        serde_json::from_slice(&answer.stdout).expect("cargo metadata answers JSON")
    })
}

/// The crates of the workspace by the path of their manifest from the root.
fn members() -> BTreeMap<String, Member> {
    let answer = metadata();
    let ours = answer["workspace_members"].as_array().expect("a list");
    let packages =
        answer["packages"].as_array().expect("a list").iter().filter(|package| ours.contains(&package["id"]));
    packages
        .map(|package| {
            let name = text(&package["name"]);
            let of_kind = |tests: bool| -> Vec<String> {
                let all = package["dependencies"].as_array().expect("a list").iter();
                let chosen =
                    all.filter(|used| (used["kind"] == "dev") == tests).map(|used| text(&used["name"]));
                // A crate names itself to switch on a feature for its own tests.
                chosen.filter(|used| *used != name).collect()
            };
            let manifest = text(&package["manifest_path"]);
            let prefix = format!("{}/", root().display());
            let path = manifest.strip_prefix(&prefix).unwrap_or(&manifest).to_owned();
            (path, Member { uses: of_kind(false), tests_use: of_kind(true), name })
        })
        .collect()
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

/// What a crate uses against the table, with the reason.
fn forbidden(member: &Member) -> Vec<(String, String)> {
    let name = member.name.as_str();
    if FREE.contains(&name) {
        return Vec::new();
    }
    let Some((_, ours)) = OURS.iter().find(|(known, _)| *known == name) else {
        return vec![("name".to_owned(), format!("{name} is not in the table of crates"))];
    };
    let mut found = Vec::new();
    for used in &member.uses {
        let taken = TAKEN.iter().find(|(inner, _)| *inner == name);
        let owners = CLIENTS.iter().find(|(client, _)| used.starts_with(client)).map(|(_, owners)| *owners);
        if is_ours(used) {
            if !ours.contains(&used.as_str()) {
                found.push((used.clone(), format!("{name} may not use {used}")));
            }
        } else if let Some((_, taken)) = taken
            && !taken.contains(&used.as_str())
        {
            found.push((used.clone(), format!("{name} takes {used}, which is not among {taken:?}")));
        } else if owners.is_some_and(|owners| !owners.contains(&name)) {
            found.push((used.clone(), format!("{name} may not name the client {used}")));
        }
    }
    for used in &member.tests_use {
        let edge = name == "hansard-gateway" && ["hansard-embedded", "hansard-s3"].contains(&used.as_str());
        let shared = WITH_JOBS.contains(&used.as_str()) || used == "hansard-contract" || edge;
        if is_ours(used) && !shared {
            found.push((
                used.clone(),
                format!("{name}'s tests may not use {used}; a scenario belongs to the tests' crate"),
            ));
        }
    }
    found
}

fn is_ours(name: &str) -> bool {
    name == "hansard" || name.starts_with("hansard-")
}

#[test]
fn crates_use_only_what_the_table_allows() {
    let blamed = |name: &str, uses: &[&str], tests_use: &[&str]| {
        let owned = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        !forbidden(&Member { name: name.to_owned(), uses: owned(uses), tests_use: owned(tests_use) })
            .is_empty()
    };
    let bad: [(&str, &[&str]); 9] = [
        ("hansard-core", &["hansard-schemas"]),
        ("hansard-core", &["serde"]),
        ("hansard-schemas", &["tokio"]),
        ("hansard-runtime", &["hansard-jobs"]),
        ("hansard-runtime", &["rdkafka"]),
        ("hansard-jobs", &["symphonia"]),
        ("hansard-kafka", &["hansard-scylla"]),
        ("hansard-scylla", &["aws-sdk-s3"]),
        ("hansard-elsewhere", &[]),
    ];
    for (name, uses) in bad {
        assert!(blamed(name, uses, &[]), "the rule overlooks that {name} uses {uses:?}");
    }
    assert!(blamed("hansard-kafka", &[], &["hansard-s3"]), "the rule overlooks what tests use");
    assert!(!blamed("hansard-kafka", &["hansard-runtime", "rdkafka", "tokio"], &["hansard-contract"]));
    assert!(!blamed("hansard-speech", &["hansard-jobs", "reqwest"], &["axum"]));
    assert!(!blamed("hansard", &["hansard-kafka", "rdkafka"], &[]));

    let mut found = Vec::new();
    for (path, member) in members() {
        let manifest = std::fs::read_to_string(root().join(&path)).unwrap_or_default();
        for (used, why) in forbidden(&member) {
            let line = manifest.lines().position(|line| line.starts_with(&used)).map_or(1, |at| at + 1);
            found.push(format!("{path}:{line}: {why}"));
        }
    }
    assert!(found.is_empty(), "\n{}\n", found.join("\n"));
}

/// `cargo run` names no package: it means the only program of the default members.
#[test]
fn cargo_run_means_the_program() {
    let answer = metadata();
    let default = answer["workspace_default_members"].as_array().expect("a list");
    let packages = answer["packages"].as_array().expect("a list").iter();
    let targets = packages
        .filter(|package| default.contains(&package["id"]))
        .flat_map(|package| package["targets"].as_array().expect("a list"));
    let is_program = |target: &&Value| target["kind"] == serde_json::json!(["bin"]);
    let programs: Vec<String> = targets.filter(is_program).map(|target| text(&target["name"])).collect();
    assert_eq!(programs, ["hansard"], "`cargo run --release -- demo` is the first command of the README");
}

#[test]
fn every_crate_keeps_the_workspace_s_lints() {
    let rule = |file: &File| {
        let manifest = file.path.ends_with("/Cargo.toml");
        if manifest && !file.text.contains("[lints]\nworkspace = true\n") {
            return vec![(1, "does not take the workspace's lints".to_owned())];
        }
        Vec::new()
    };
    hold(
        rule,
        &[("a/Cargo.toml", "[package]\n")],
        &[("a/Cargo.toml", "[package]\n[lints]\nworkspace = true\n"), ("Cargo.toml", "[workspace]\n")],
    );
}
