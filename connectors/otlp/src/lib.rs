//! Traces to a collector, by OTLP over HTTP. It never makes anybody wait for the collector: what that one does not take in
//! time is lost, and counted.

mod span;
#[cfg(test)]
mod tests;

use std::time::Duration;

use hansard_runtime::ports::traces::{Span, Traces};
use hansard_tls::Authorities;
use opentelemetry::KeyValue;
use opentelemetry_otlp::{
    ExporterBuildError, Protocol, SpanExporter, WithExportConfig as _, WithHttpConfig as _,
};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::{SpanData, SpanExporter as _};
use prometheus::{IntCounterVec, Opts, Registry};
use reqwest::{Certificate, Client};
use tokio::sync::{mpsc, oneshot};

/// Spans that wait to be sent; more are lost.
const WAITING_MAX: usize = 8_192;
/// Spans of one request.
const BATCH_MAX: usize = 512;
/// The longest that a span waits for others.
const GATHERED_WITHIN: Duration = Duration::from_secs(2);
/// The longest that the collector may take for a request.
const ANSWER_WITHIN: Duration = Duration::from_secs(5);

/// Where traces go.
#[derive(Debug, Clone, PartialEq)]
pub struct OtlpConfig {
    /// The collector's address, as `http://collector:4318`; `/v1/traces` is added where it does not end so.
    pub endpoint: String,
    /// Whose certificates are accepted, where that is an https one.
    pub authorities: Authorities,
    /// Of the traces that nobody outside has begun, the share that is recorded, 0 to 1.
    pub ratio: f64,
    /// Names this process among all.
    pub instance: String,
}

/// Why traces cannot be sent at all.
#[derive(Debug, thiserror::Error)]
pub enum OtlpError {
    /// The exporter cannot be made of this configuration.
    #[error("traces cannot be sent to {endpoint}: {source}; give an address like http://collector:4318")]
    Exporter {
        /// The address.
        endpoint: String,
        /// What is wrong with it.
        source: ExporterBuildError,
    },
    /// TLS cannot be set up.
    #[error("the client that sends traces cannot be made")]
    Client(#[from] reqwest::Error),
    /// The registry already has the metric of spans.
    #[error("the metric of spans cannot be had")]
    Metric(#[from] prometheus::Error),
}

/// The sender of spans.
pub struct OtlpTraces {
    queue: mpsc::Sender<Queued>,
    spans: IntCounterVec,
    ratio: f64,
}

enum Queued {
    Span(Box<Span>),
    /// Everything before it has been sent, or lost, when this is answered.
    Flush(oneshot::Sender<()>),
}

impl OtlpTraces {
    /// Begins to send, in a task of the present runtime.
    ///
    /// # Errors
    /// The address is none.
    pub fn start(config: &OtlpConfig) -> Result<Self, OtlpError> {
        let base = config.endpoint.trim_end_matches('/');
        let endpoint = format!("{}/v1/traces", base.strip_suffix("/v1/traces").unwrap_or(base));
        let client = Client::builder()
            .timeout(ANSWER_WITHIN)
            .tls_certs_merge(Certificate::from_pem_bundle(config.authorities.pem())?)
            .build()?;
        let exporter = SpanExporter::builder()
            .with_http()
            .with_http_client(client)
            .with_protocol(Protocol::HttpBinary)
            .with_endpoint(&endpoint)
            .with_timeout(ANSWER_WITHIN)
            .build();
        let mut exporter = exporter.map_err(|source| OtlpError::Exporter { endpoint, source })?;
        let named = [
            KeyValue::new("service.name", "hansard"),
            KeyValue::new("service.version", env!("CARGO_PKG_VERSION")),
            KeyValue::new("service.instance.id", config.instance.clone()),
        ];
        exporter.set_resource(&Resource::builder_empty().with_attributes(named).build());
        let (queue, waiting) = mpsc::channel(WAITING_MAX);
        let told = Opts::new("hansard_spans_total", "Spans by what became of them: sent or lost.");
        let spans = IntCounterVec::new(told, &["result"])?;
        ["sent", "lost"].iter().for_each(|result| count(&spans, result, 0));
        tokio::spawn(send(exporter, waiting, spans.clone()));
        Ok(Self { queue, spans, ratio: config.ratio })
    }

    /// Registers the count of spans.
    ///
    /// # Errors
    /// The registry has it already.
    pub fn register(&self, registry: &Registry) -> Result<(), OtlpError> {
        Ok(registry.register(Box::new(self.spans.clone()))?)
    }

    /// Ends when all that was told before has been sent, or was lost. Who calls bounds it in time.
    pub async fn flush(&self) {
        let (flushed, done) = oneshot::channel();
        // Where the task is gone there is nothing to wait for.
        if self.queue.send(Queued::Flush(flushed)).await.is_ok() {
            let _ = done.await;
        }
    }
}

impl Traces for OtlpTraces {
    fn samples(&self, trace: [u8; 16]) -> bool {
        // Its last bytes are as good as random, and everybody has the same.
        let [.., a, b, c, d] = trace;
        f64::from(u32::from_be_bytes([a, b, c, d])) < self.ratio * 4_294_967_296.0
    }

    fn ended(&self, span: Span) {
        if self.queue.try_send(Queued::Span(Box::new(span))).is_err() {
            count(&self.spans, "lost", 1);
        }
    }
}

fn count(spans: &IntCounterVec, result: &str, more: usize) {
    spans.with_label_values(&[result]).inc_by(u64::try_from(more).unwrap_or(u64::MAX));
}

/// Sends what comes, in batches.
async fn send(exporter: SpanExporter, mut waiting: mpsc::Receiver<Queued>, counted: IntCounterVec) {
    let mut failing = false;
    while let Some(first) = waiting.recv().await {
        let (batch, flushed) = gather(first, &mut waiting).await;
        let spans = batch.len();
        // Of a request without an end the exporter's own limit may know nothing.
        let sent = match batch.is_empty() {
            true => Ok(()),
            false => tokio::time::timeout(ANSWER_WITHIN, exporter.export(batch))
                .await
                .map_err(|_| format!("no answer within {} s", ANSWER_WITHIN.as_secs()))
                .and_then(|sent| sent.map_err(|error| error.to_string())),
        };
        match sent {
            Ok(()) if spans == 0 => {}
            Ok(()) => {
                count(&counted, "sent", spans);
                if std::mem::take(&mut failing) {
                    tracing::info!("traces are taken again");
                }
            }
            Err(cause) => {
                count(&counted, "lost", spans);
                if !std::mem::replace(&mut failing, true) {
                    tracing::warn!(cause, "traces are not taken, and lost until they are");
                }
            }
        }
        if let Some(flushed) = flushed {
            // Who asked may not wait any longer.
            let _ = flushed.send(());
        }
    }
}

/// What comes within a while, at most one batch; and who asked for it to be sent at once.
async fn gather(
    first: Queued,
    waiting: &mut mpsc::Receiver<Queued>,
) -> (Vec<SpanData>, Option<oneshot::Sender<()>>) {
    let until = tokio::time::Instant::now() + GATHERED_WITHIN;
    let (mut batch, mut next) = (Vec::new(), Some(first));
    loop {
        match next {
            Some(Queued::Span(span)) => batch.push(span::data(*span)),
            Some(Queued::Flush(flushed)) => return (batch, Some(flushed)),
            None => return (batch, None),
        }
        if batch.len() >= BATCH_MAX {
            return (batch, None);
        }
        next = tokio::time::timeout_at(until, waiting.recv()).await.unwrap_or(None);
    }
}
