//! The HTTP edge: how producers bring recordings in, how readers get answers out, and the operator's page.
//!
//! It never decides what a conversation is (that is core's), never holds state that another instance would lack, never
//! passes audio through itself (links do), and never shows a secret or a text in an error, a log or a metric.

mod append;
mod callback;
mod caller;
mod config;
mod dead_letters;
mod events;
mod explain;
mod ingest;
mod operate;
mod pages;
mod presign;
mod probes;
mod problem;
mod read;
mod request;
mod results;
mod routes;
mod shape;
mod sweep;
mod tail;
mod token;
mod view;

#[cfg(test)]
mod tests;

use std::sync::Arc;

use axum::Router;
use hansard_runtime::metrics::Families;
use hansard_runtime::ports::Ports;
use prometheus::{HistogramOpts, HistogramVec, IntCounterVec, Opts};
use tokio::sync::Semaphore;

pub use callback::{Told, callback_token};
pub use caller::{Keys, Role};
pub use config::{Config, Limits, UrlCheck};
pub use presign::{Link, PartLink, Presign, Wanted};
pub use probes::starting;
pub use problem::{Code, Problem};
pub use routes::{ROUTES, Route};
pub use sweep::Sweeper;
pub use token::SigningKey;

/// The gateway as a value: what it needs of the world, and its configuration.
pub struct Gateway {
    ports: Ports,
    presign: Arc<dyn Presign>,
    sweeper: Arc<dyn Sweeper>,
    families: Families,
    requests: IntCounterVec,
    seconds: HistogramVec,
    callbacks: IntCounterVec,
    streams: Arc<Semaphore>,
    config: Config,
}

/// Which calls a listener answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Surface {
    /// All: for one machine, and for the operators' own listener.
    Everything,
    /// What producers and readers need: without the page, metrics and dead letters.
    Public,
    /// What an orchestrator and Prometheus ask: for a process without a gateway.
    Probes,
}

impl Gateway {
    /// Makes the gateway and registers its metrics.
    ///
    /// # Errors
    /// When the registry already has a metric of the same name.
    pub fn new(
        ports: Ports,
        presign: Arc<dyn Presign>,
        sweeper: Arc<dyn Sweeper>,
        families: Families,
        config: Config,
    ) -> Result<Self, prometheus::Error> {
        let requests = IntCounterVec::new(
            Opts::new("hansard_http_requests_total", "Calls by route and status."),
            &["route", "method", "status"],
        )?;
        let opts = HistogramOpts::new("hansard_http_seconds", "Time to the answer of a call, by route.");
        let seconds = HistogramVec::new(opts, &["route"])?;
        families.registry().register(Box::new(requests.clone()))?;
        families.registry().register(Box::new(seconds.clone()))?;
        let callbacks = IntCounterVec::new(
            Opts::new("hansard_callbacks_total", "Calls of providers: taken, foreign, unread, of_no_job."),
            &["result"],
        )?;
        families.registry().register(Box::new(callbacks.clone()))?;
        let streams = Arc::new(Semaphore::new(config.limits.streams));
        Ok(Self { ports, presign, sweeper, families, requests, seconds, callbacks, streams, config })
    }

    /// The calls of one listener.
    pub fn router(self: &Arc<Self>, surface: Surface) -> Router {
        routes::router(self.clone(), surface)
    }
}
