//! What keeps running until a stop: jobs that begin again when the log fails, listeners, and the bounded drain.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow};
use hansard_gateway::{Gateway, Surface};
use hansard_jobs::sweep::Sweep;
use hansard_jobs::topology;
use hansard_runtime::metrics::Metrics;
use hansard_runtime::ports::log::LogError;
use hansard_runtime::standing;
use hansard_schemas::Stage;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::parts::Parts;
use crate::traces;

/// Waits before a job begins again, first and last.
const WAIT_FIRST: Duration = Duration::from_millis(100);
const WAIT_LAST: Duration = Duration::from_secs(30);
/// How long a call under way may go on after a stop was asked for.
const CALLS_END_WITHIN: Duration = Duration::from_secs(2);

/// How long the last traces may take to be sent, within the drain: a collector that is gone holds nobody up.
const TRACES_SENT_WITHIN: Duration = Duration::from_secs(2);

/// The tasks of a process, none of which ends before the stop.
pub(crate) struct Running {
    tasks: JoinSet<Result<()>>,
    shutdown: watch::Sender<bool>,
    drain: Duration,
    traces: traces::Sender,
}

impl Running {
    /// Nothing yet; after a stop it waits so long for work under way, and for what that told to be sent.
    pub(crate) fn new(drain: Duration, traces: traces::Sender) -> Self {
        Self { tasks: JoinSet::new(), shutdown: watch::Sender::new(false), drain, traces }
    }

    /// Runs a task that ends at the stop.
    pub(crate) fn spawn<T>(&mut self, task: impl FnOnce(watch::Receiver<bool>) -> T)
    where
        T: Future<Output = Result<()>> + Send + 'static,
    {
        self.tasks.spawn(task(self.shutdown.subscribe()));
    }

    /// Runs a job of the log.
    pub(crate) fn job(&mut self, job: Stage, parts: &Parts) {
        let Parts { ports, connectors, settings, families, .. } = parts;
        let (ports, connectors) = (ports.clone(), connectors.clone());
        let (settings, families) = (Arc::clone(settings), families.clone());
        let metrics = families.job(job.as_str());
        self.spawn(|stopping| async move {
            let run = || {
                topology::run(job, ports.clone(), connectors.clone(), &settings, &families, stopping.clone())
            };
            keep_running(job, run, &metrics, stopping.clone()).await
        });
    }

    /// Tells what the loops of the jobs do not know of themselves.
    pub(crate) fn watch(&mut self, parts: &Parts) {
        let (families, ports) = (parts.families.clone(), parts.ports.clone());
        self.spawn(|stopping| async move {
            standing::watch(&families, &ports, stopping).await;
            Ok(())
        });
    }

    /// Sweeps by the clock.
    pub(crate) fn sweep(&mut self, sweep: Arc<Sweep>) {
        self.spawn(|stopping| async move {
            sweep.keep_running(stopping).await;
            Ok(())
        });
    }

    /// Serves calls until the stop, and a little longer those under way: streams of events would never end.
    pub(crate) fn serve(&mut self, listener: TcpListener, gateway: &Arc<Gateway>, surface: Surface) {
        let router = gateway.router(surface);
        self.spawn(|stopping| async move {
            let served = axum::serve(listener, router).with_graceful_shutdown(stopped(stopping.clone()));
            let late = async {
                stopped(stopping).await;
                tokio::time::sleep(CALLS_END_WITHIN).await;
            };
            tokio::select! {
                served = served.into_future() => Ok(served?),
                () = late => Ok(()),
            }
        });
    }

    /// Runs until `stop` ends, or something that must not end does; then drains, bounded.
    ///
    /// # Errors
    /// What ended that must not.
    pub(crate) async fn run_until<T>(mut self, stop: impl Future<Output = T>) -> Result<T> {
        let ended = tokio::select! {
            stopped = stop => Ok(stopped),
            ended = self.tasks.join_next() => match ended {
                Some(Ok(Err(error))) => Err(error),
                Some(Err(error)) => Err(error.into()),
                Some(Ok(Ok(()))) | None => Err(anyhow!("a job ended by itself")),
            },
        };
        self.shutdown.send_replace(true);
        let until = tokio::time::Instant::now() + self.drain;
        let drained = async { while self.tasks.join_next().await.is_some() {} };
        if tokio::time::timeout_at(until, drained).await.is_err() {
            tracing::warn!("some work did not end in time; it is taken up again at the next start");
        }
        self.tasks.shutdown().await;
        if let Some(traces) = &self.traces {
            let until = until.min(tokio::time::Instant::now() + TRACES_SENT_WITHIN);
            if tokio::time::timeout_at(until, traces.flush()).await.is_err() {
                tracing::warn!("the last traces were not sent in time");
            }
        }
        ended
    }
}

/// A listener on an address that may be taken, named by its setting's flag.
///
/// # Errors
/// It is taken, or is none of this machine.
pub(crate) async fn listen(address: std::net::SocketAddr, flag: &str) -> Result<TcpListener> {
    TcpListener::bind(address).await.with_context(|| {
        format!("cannot listen on {address}; give another address with {flag}, or end what uses it")
    })
}

/// Answers probes, not ready, for as long as there is a sender, which tells what the process waits for. Gives the listener
/// back, to be served in full after that.
///
/// # Errors
/// The listener cannot be shared.
pub(crate) fn answer_probes(
    listener: TcpListener,
    awaited: watch::Receiver<&'static str>,
) -> Result<TcpListener> {
    let listener = listener.into_std()?;
    let (meanwhile, mut gone) = (TcpListener::from_std(listener.try_clone()?)?, awaited.clone());
    let served = axum::serve(meanwhile, hansard_gateway::starting(awaited))
        .with_graceful_shutdown(async move { while gone.changed().await.is_ok() {} });
    tokio::spawn(served.into_future());
    Ok(TcpListener::from_std(listener)?)
}

async fn stopped(mut stopping: watch::Receiver<bool>) {
    // A dropped sender means the same: nobody is left to serve.
    let _ = stopping.wait_for(|stop| *stop).await;
}

/// Runs a job, and begins it again with a growing wait when the log fails under it.
async fn keep_running<T: Future<Output = Result<(), LogError>>>(
    job: Stage,
    run: impl Fn() -> T,
    metrics: &Metrics,
    mut stopping: watch::Receiver<bool>,
) -> Result<()> {
    let mut wait = WAIT_FIRST;
    loop {
        let began = Instant::now();
        let Err(error) = run().await else { return Ok(()) };
        if matches!(error, LogError::OutOfRange { .. }) {
            // Beginning again would read the same; what was deleted unread is for a person to know of.
            return Err(error).with_context(|| {
                format!("{job} has stopped; keep the log longer, or accept the loss and set its group's offset anew")
            });
        }
        if matches!(error, LogError::Stalled { .. }) {
            metrics.stalled();
        }
        tracing::error!(job = job.as_str(), %error, "the job begins again");
        metrics.unassigned(Some(error.to_string()));
        if began.elapsed() > WAIT_LAST {
            wait = WAIT_FIRST;
        }
        tokio::select! {
            _ = stopping.wait_for(|stop| *stop) => return Ok(()),
            () = tokio::time::sleep(wait) => wait = (wait * 2).min(WAIT_LAST),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn probes_are_answered_before_anything_else_is() {
        let listener = listen("127.0.0.1:0".parse().expect("an address"), "--flag").await.expect("free");
        let at = listener.local_addr().expect("an address");
        let get = async |path: &str| {
            let answer = reqwest::get(format!("http://{at}{path}")).await.expect("an answer");
            (answer.status().as_u16(), answer.text().await.expect("a body"))
        };
        let (awaits, awaited) = watch::channel("registry");
        let listener = answer_probes(listener, awaited).expect("shared");
        assert_eq!(get("/healthz").await, (200, "ok\n".to_owned()));
        for waits_for in ["registry", "database"] {
            awaits.send_replace(waits_for);
            let (status, body) = get("/readyz").await;
            assert_eq!((status, body.contains(waits_for)), (503, true), "{body}");
        }
        assert_eq!(get("/metrics").await.0, 404);
        drop(awaits);
        let router = axum::Router::new().route("/readyz", axum::routing::get(async || "in full"));
        tokio::spawn(axum::serve(listener, router).into_future());
        // The first of the two may take one more call on its way out.
        while get("/readyz").await != (200, "in full".to_owned()) {}
    }
}
