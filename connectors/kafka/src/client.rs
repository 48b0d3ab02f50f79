//! The context of all clients but the group member's: librdkafka's logs and errors go to the log of this process, and
//! why it could not connect goes into the errors that follow from it.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use rdkafka::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};

/// Where to look when no broker can be reached.
const REMEDY: &str = "see kafka.brokers, and in kafka.set security.protocol, ssl.ca.location, sasl.username and \
                      sasl.password";

/// How long what librdkafka has queued is served: a poll that does not wait ends at its first line of log.
const SERVED_WITHIN: Duration = Duration::from_millis(10);

/// Logs, and keeps why the last connection failed.
#[derive(Debug, Default)]
pub(crate) struct Reporting {
    failed: Mutex<Option<String>>,
}

impl ClientContext for Reporting {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, line: &str) {
        log_line(level, facility, line);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        tracing::warn!(%error, reason, "kafka client");
        // That none is left follows from what each failed for.
        if error.rdkafka_error_code() != Some(RDKafkaErrorCode::AllBrokersDown) {
            *self.failed.lock().unwrap_or_else(PoisonError::into_inner) = Some(reason.to_owned());
        }
    }
}

impl ConsumerContext for Reporting {}

/// The error; where it says no more than that no broker is reached, with what the last connection failed for.
pub(crate) fn explain(client: &BaseConsumer<Reporting>, error: &KafkaError) -> String {
    use RDKafkaErrorCode::{
        AllBrokersDown, Authentication, BrokerTransportFailure, OperationTimedOut, Resolve,
    };
    // Polling calls the context; it gives no records, since nothing is assigned.
    while client.poll(SERVED_WITHIN).is_some() {}
    let failed = client.context().failed.lock().unwrap_or_else(PoisonError::into_inner);
    match (error.rdkafka_error_code(), &*failed) {
        (
            Some(AllBrokersDown | Authentication | BrokerTransportFailure | OperationTimedOut | Resolve),
            Some(failed),
        ) => format!("{error}: {failed}; {REMEDY}"),
        _ => error.to_string(),
    }
}

pub(crate) fn log_line(level: RDKafkaLogLevel, facility: &str, line: &str) {
    use RDKafkaLogLevel::{Alert, Critical, Debug, Emerg, Error, Info, Notice, Warning};
    match level {
        Emerg | Alert | Critical | Error => tracing::error!(facility, line, "librdkafka"),
        Warning => tracing::warn!(facility, line, "librdkafka"),
        Notice | Info => tracing::info!(facility, line, "librdkafka"),
        Debug => tracing::debug!(facility, line, "librdkafka"),
    }
}
