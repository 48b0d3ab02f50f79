//! Traces as configured: to a collector, or nowhere.

use std::sync::Arc;

use anyhow::Result;
use hansard_otlp::{OtlpConfig, OtlpTraces};
use hansard_runtime::ports::traces::Traces;

use crate::config;

/// What sends them, if anything does.
pub(crate) type Sender = Option<Arc<OtlpTraces>>;

/// Begins to send, where a collector is configured.
///
/// # Errors
/// Its address is none.
pub(crate) fn start(traces: &config::Traces, instance: &str) -> Result<Sender> {
    let config::Traces { otlp: Some(endpoint), authorities, ratio } = traces.clone() else { return Ok(None) };
    let config = OtlpConfig { endpoint, authorities, ratio, instance: instance.to_owned() };
    Ok(Some(Arc::new(OtlpTraces::start(&config)?)))
}

/// The port of the same.
pub(crate) fn port(sender: &Sender) -> Option<Arc<dyn Traces>> {
    sender.clone().map(|sender| sender as Arc<dyn Traces>)
}
