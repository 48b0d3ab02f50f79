//! The services that a benchmark runs on, started for it and ended with it.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, ensure};

use crate::usage::Usage;

/// Services below a directory; ended when dropped.
pub(crate) struct Services {
    directory: Option<PathBuf>,
    /// The brokers' address.
    pub(crate) kafka: String,
    /// A node of the database, where it was asked for.
    pub(crate) cql: Option<String>,
}

fn script(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../services").join(name)
}

impl Services {
    /// Starts them, unless `HANSARD_TEST_KAFKA` leads to those that run already, with `HANSARD_TEST_CQL` beside it.
    pub(crate) fn start(below: &Path, names: &[&str]) -> Result<Self> {
        if let Ok(kafka) = std::env::var("HANSARD_TEST_KAFKA") {
            return Ok(Self { directory: None, kafka, cql: std::env::var("HANSARD_TEST_CQL").ok() });
        }
        let directory = below.join("services");
        let started = Command::new(script("up"))
            .arg(&directory)
            .args(names)
            .stderr(std::process::Stdio::inherit())
            .output()
            .context("tests/services/up")?;
        ensure!(started.status.success(), "the services did not start");
        let lines = String::from_utf8(started.stdout)?;
        let of = |name: &str| {
            let line = lines.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('='));
            line.map(str::to_owned)
        };
        let kafka = of("HANSARD_TEST_KAFKA").context("no address of the broker")?;
        Ok(Self { directory: Some(directory), kafka, cql: of("HANSARD_TEST_CQL") })
    }

    /// What their processes have used so far; of none that were there before.
    pub(crate) fn begun(&self) -> Result<Vec<(&'static str, Usage)>> {
        let names = ["kafka", "cassandra"].into_iter().take(1 + usize::from(self.cql.is_some()));
        let all = names.map(|name| Ok(self.usage(name)?.map(|usage| (name, usage))));
        all.filter_map(Result::transpose).collect()
    }

    fn usage(&self, service: &str) -> Result<Option<Usage>> {
        let Some(directory) = &self.directory else { return Ok(None) };
        let pid = std::fs::read_to_string(directory.join(service).join("pid"))?;
        let pid = pid.split_ascii_whitespace().next().context("no pid of the service")?;
        Usage::of(pid).map(Some)
    }
}

impl Drop for Services {
    #[expect(clippy::print_stderr, reason = "an error cannot leave a drop")]
    fn drop(&mut self) {
        let Some(directory) = &self.directory else { return };
        match Command::new(script("down")).arg(directory).status() {
            Ok(status) if status.success() => {}
            other => eprintln!("the services below {} were not ended: {other:?}", directory.display()),
        }
    }
}
