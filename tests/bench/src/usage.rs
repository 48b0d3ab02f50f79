//! What this process and its children have used so far, as the kernel counts it.

use std::time::Instant;

use anyhow::{Context as _, Result};
use nix::sys::resource::{UsageWho, getrusage};

/// A point in the life of a process.
pub(crate) struct Usage {
    process: String,
    at: Instant,
    cpu_seconds: f64,
}

/// What was used between two points.
pub(crate) struct Used {
    pub(crate) seconds: f64,
    pub(crate) cpu_seconds: f64,
    /// Of the whole life, not only between the points.
    pub(crate) peak_mib: f64,
}

impl Usage {
    pub(crate) fn now() -> Result<Self> {
        Self::of("self")
    }

    /// Of another process, by its id.
    pub(crate) fn of(process: &str) -> Result<Self> {
        Ok(Self { process: process.to_owned(), at: Instant::now(), cpu_seconds: cpu_seconds(process)? })
    }

    pub(crate) fn since(&self) -> Result<Used> {
        Ok(Used {
            seconds: self.at.elapsed().as_secs_f64(),
            cpu_seconds: cpu_seconds(&self.process)? - self.cpu_seconds,
            peak_mib: peak_mib(&self.process)?,
        })
    }
}

/// User and system time, from `/proc/PID/stat` (fields 14 and 15, in ticks of 10 ms: see proc(5)).
fn cpu_seconds(process: &str) -> Result<f64> {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat"))?;
    let after_name = stat.rsplit_once(')').context("no name in /proc/PID/stat")?.1;
    let fields: Vec<&str> = after_name.split_ascii_whitespace().collect();
    let ticks = |place: usize| {
        fields.get(place).context("too few fields")?.parse::<f64>().map_err(anyhow::Error::from)
    };
    Ok((ticks(11)? + ticks(12)?) / 100.0)
}

fn peak_mib(process: &str) -> Result<f64> {
    let status = std::fs::read_to_string(format!("/proc/{process}/status"))?;
    let line =
        status.lines().find(|line| line.starts_with("VmHWM:")).context("no VmHWM in /proc/PID/status")?;
    let kib = line.split_ascii_whitespace().nth(1).context("no number in VmHWM")?.parse::<f64>()?;
    Ok(kib / 1024.0)
}

/// User and system seconds of all children that ended and were waited for, and the peak of the largest in MiB. The
/// peak is never below that of this process when it started them (getrusage(2)).
#[expect(clippy::cast_precision_loss, reason = "counts far below 2^52")]
pub(crate) fn children() -> Result<(f64, f64)> {
    let usage = getrusage(UsageWho::RUSAGE_CHILDREN)?;
    let seconds = |time: nix::sys::time::TimeVal| time.tv_sec() as f64 + time.tv_usec() as f64 / 1e6;
    Ok((seconds(usage.user_time()) + seconds(usage.system_time()), usage.max_rss() as f64 / 1024.0))
}
