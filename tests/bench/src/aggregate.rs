//! Facts through the aggregator, preloaded, on the embedded engine with everything durable.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use hansard_core::id::{Offset, Partition};
use hansard_runtime::ports::log::{Log, TopicPartition};
use hansard_schemas::Topic;
use tokio::sync::watch;

use crate::load::facts_of;
use crate::usage::Usage;
use crate::world::{self, PARTITIONS};

/// Both sizes, each loaded and run by processes of their own.
pub(crate) fn compare(facts: usize, directory: Option<PathBuf>) -> Result<()> {
    let temporary = match directory {
        Some(directory) => tempfile::tempdir_in(directory)?,
        None => tempfile::tempdir()?,
    };
    println!(
        "{:>8} {:>10} {:>10} {:>12} {:>14} {:>10}",
        "chunks", "facts", "seconds", "facts/s", "CPU s/million", "peak MiB"
    );
    // One below the limit of what a Finish may expect.
    for chunks in [20, 4_999] {
        let data = temporary.path().join(chunks.to_string());
        let conversations = facts / facts_of(chunks);
        ensure!(conversations > 0, "{facts} facts are less than one conversation of {chunks} chunks");
        child(&["load", &path(&data)?, &facts.to_string(), &chunks.to_string()])?;
        let line = child(&["run", &path(&data)?, &conversations.to_string()])?;
        println!("{chunks:>8} {}", line.trim_end());
        std::fs::remove_dir_all(&data)?;
    }
    Ok(())
}

fn path(path: &Path) -> Result<String> {
    path.to_str().map(str::to_owned).context("the directory's name is not UTF-8")
}

fn child(arguments: &[&str]) -> Result<String> {
    let output = Command::new(std::env::current_exe()?)
        .args(arguments)
        .stderr(std::process::Stdio::inherit())
        .output()?;
    if !output.status.success() {
        bail!("`{}` ended with {}", arguments.join(" "), output.status);
    }
    Ok(String::from_utf8(output.stdout)?)
}

/// Runs the aggregator until each conversation has its Finalize, and prints a line of figures.
pub(crate) async fn run(directory: &Path, conversations: usize) -> Result<()> {
    let (_engine, ports) = world::open(directory)?;
    let facts =
        ends(ports.log.as_ref(), &[Topic::Uploads, Topic::Splits, Topic::Transcripts, Topic::Failures])
            .await?;
    let (stop, stopping) = watch::channel(false);
    let begun = Usage::now()?;
    let log = Arc::clone(&ports.log);
    let job = tokio::spawn(world::aggregator(ports, stopping));
    while ends(log.as_ref(), &[Topic::Finalizes]).await? < i64::try_from(conversations)? {
        ensure!(!job.is_finished(), "the aggregator ended by itself");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let used = begun.since()?;
    stop.send_replace(true);
    job.await??;
    #[expect(clippy::cast_precision_loss, reason = "counts far below 2^52")]
    let facts = facts as f64;
    println!(
        "{facts:>10} {:>10.2} {:>12.0} {:>14.2} {:>10.0}",
        used.seconds,
        facts / used.seconds,
        used.cpu_seconds / facts * 1e6,
        used.peak_mib
    );
    Ok(())
}

/// Records of some topics, over all partitions.
async fn ends(log: &dyn Log, topics: &[Topic]) -> Result<i64> {
    let partitions = (0..i32::try_from(PARTITIONS)?).map(Partition);
    let of: Vec<TopicPartition> = partitions
        .flat_map(|partition| topics.iter().map(move |topic| TopicPartition { topic: *topic, partition }))
        .collect();
    Ok(log
        .ends(&of)
        .await?
        .into_iter()
        .map(|range| (range.end.0 - range.start.max(Offset(0)).0).max(0))
        .sum())
}
