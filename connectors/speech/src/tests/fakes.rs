//! The tests' stand-ins for providers: foreign processes with a strict reading of what they are sent, seeded faults, and a
//! ledger of what they were asked.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use hansard_jobs::ports::SpeechRequest;

use super::recordings::{flac, request_of};

/// The running fake; stopped when dropped.
pub(crate) struct Fake {
    process: Child,
    pub(crate) url: String,
    folder: tempfile::TempDir,
}

impl Fake {
    pub(crate) fn start(script: &str, options: &[&str]) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let providers = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/providers");
        let mut process = Command::new("python3")
            .arg("-B")
            .arg(providers.join(script))
            .arg("--ledger")
            .arg(folder.path().join("ledger"))
            .args(options)
            .stdout(Stdio::piped())
            .spawn()
            .expect("these tests need python3");
        let mut port = String::new();
        let stdout = process.stdout.take().expect("a pipe");
        BufReader::new(stdout).read_line(&mut port).expect("a port");
        Self { process, url: format!("http://127.0.0.1:{}", port.trim()), folder }
    }

    pub(crate) fn ledger(&self) -> Vec<serde_json::Value> {
        let ledger = std::fs::read_to_string(self.folder.path().join("ledger")).expect("a ledger");
        ledger.lines().map(|line| serde_json::from_str(line).expect("a whole line")).collect()
    }
}

impl Drop for Fake {
    fn drop(&mut self) {
        let id = i32::try_from(self.process.id()).ok().and_then(rustix::process::Pid::from_raw);
        let stopped = id.map(|id| rustix::process::kill_process(id, rustix::process::Signal::TERM));
        assert_eq!(stopped, Some(Ok(())));
        assert!(self.process.wait().is_ok_and(|status| status.success()), "it stops on SIGTERM");
    }
}

/// One second of sound that no other `n` has.
pub(crate) fn segment(n: i16) -> SpeechRequest {
    let samples: Vec<i16> = (0..16_000).map(|at| at % 100 + n).collect();
    SpeechRequest { idempotency_key: format!("key-{n}"), ..request_of(flac(&samples, 16_000), 0, 1_000) }
}

/// The rule that the fake states.
pub(crate) fn text_of(sha256: &[u8]) -> String {
    let letter = |letters: &str, index: u8| letters.chars().nth(usize::from(index)).expect("within");
    let word = |byte: &u8| {
        let parts = [("bdfghjklmnprstvz", byte >> 4), ("aeiu", byte >> 2 & 3), ("lmnr", byte & 3)];
        parts.into_iter().map(|(letters, index)| letter(letters, index)).collect::<String>()
    };
    sha256[..8].iter().map(word).collect::<Vec<_>>().join(" ")
}
