//! The context of all clients but the group member's: librdkafka's logs and errors go to the log of this process.

use rdkafka::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::ConsumerContext;
use rdkafka::error::KafkaError;

/// Logs, and nothing else.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Reporting;

impl ClientContext for Reporting {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, line: &str) {
        log_line(level, facility, line);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        tracing::warn!(%error, reason, "kafka client");
    }
}

impl ConsumerContext for Reporting {}

pub(crate) fn log_line(level: RDKafkaLogLevel, facility: &str, line: &str) {
    use RDKafkaLogLevel::{Alert, Critical, Debug, Emerg, Error, Info, Notice, Warning};
    match level {
        Emerg | Alert | Critical | Error => tracing::error!(facility, line, "librdkafka"),
        Warning => tracing::warn!(facility, line, "librdkafka"),
        Notice | Info => tracing::info!(facility, line, "librdkafka"),
        Debug => tracing::debug!(facility, line, "librdkafka"),
    }
}
