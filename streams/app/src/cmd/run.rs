//! `hansard run`: jobs of a cluster in this process.

use std::collections::BTreeSet;
use std::pin::pin;

use anyhow::Result;
use clap::Args;
use serde_json::json;

use crate::cluster::{Cluster, Job};
use crate::cmd::up::stop;
use crate::config::{Config, ServerFlags};
use crate::{logging, output};

/// Runs jobs against Kafka, a CQL database and S3. One line on standard output says that they run; SIGTERM or SIGINT
/// drains and ends.
#[derive(Debug, Args)]
pub(crate) struct Run {
    /// The jobs of this process.
    #[arg(required = true, value_enum)]
    jobs: Vec<Job>,
    /// Print that line as JSON.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    flags: ServerFlags,
}

impl Run {
    /// Runs until a signal.
    ///
    /// # Errors
    /// Whatever keeps it from starting, or ended it.
    pub(crate) async fn run(self) -> Result<()> {
        let config = Config::read(self.flags.values(&[])?)?;
        logging::start(&config.log)?;
        let mut stop = pin!(stop()?);
        let (instance, jobs) = (config.cluster.instance.clone(), BTreeSet::from_iter(self.jobs));
        let started = tokio::select! {
            () = &mut stop => return Ok(()),
            started = Box::pin(Cluster::start(config, &jobs)) => started?,
        };
        let (url, admin) =
            (started.address.map(|at| format!("http://{at}")), format!("http://{}", started.admin));
        if self.json {
            let line = json!({ "url": url, "admin_url": admin, "instance": instance });
            output::line(&line.to_string())?;
        } else {
            let calls = url.map(|url| format!("listens on {url}, ")).unwrap_or_default();
            output::line(&format!("Hansard {calls}answers probes on {admin}, instance {instance}"))?;
        }
        started.run_until(stop).await
    }
}
