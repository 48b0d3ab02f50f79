//! The context of all clients but the group member's: librdkafka's logs and errors go to the log of this process, and
//! why it could not connect goes into the errors that follow from it.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rdkafka::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext};
use rdkafka::error::{KafkaError, KafkaResult, RDKafkaErrorCode};
use rdkafka::metadata::Metadata;

/// Where to look when no broker can be reached.
const REMEDY: &str = "see kafka.brokers, kafka.ca, and in kafka.set security.protocol, ssl.ca.location, sasl.username \
                      and sasl.password";

/// How long what librdkafka has queued is served: a poll that does not wait ends at its first line of log.
const SERVED_WITHIN: Duration = Duration::from_millis(10);

/// How long an answer is waited for before it is looked whether one can come; what is left of the time follows.
const LOOKS_AFTER: [Duration; 2] = [Duration::from_millis(500), Duration::from_secs(1)];

/// Logs, and keeps why the last connection failed.
#[derive(Debug, Default)]
pub(crate) struct Reporting {
    failed: Mutex<Option<(RDKafkaErrorCode, String)>>,
}

impl ClientContext for Reporting {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, line: &str) {
        log_line(level, facility, line);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        tracing::warn!(%error, reason, "kafka client");
        // That none is left follows from what each failed for.
        if let Some(code) =
            error.rdkafka_error_code().filter(|code| *code != RDKafkaErrorCode::AllBrokersDown)
        {
            *self.failed() = Some((code, reason.to_owned()));
        }
    }
}

impl Reporting {
    fn failed(&self) -> MutexGuard<'_, Option<(RDKafkaErrorCode, String)>> {
        self.failed.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ConsumerContext for Reporting {}

/// Calls the client's context for what is queued; polling gives no records, since nothing is assigned.
fn serve(client: &BaseConsumer<Reporting>) {
    while client.poll(SERVED_WITHIN).is_some() {}
}

/// Asks for a topic, or for all. Brokers that refuse the password will not answer, however long that is waited for.
pub(crate) fn metadata(
    client: &BaseConsumer<Reporting>,
    topic: Option<&str>,
    within: Duration,
) -> KafkaResult<Metadata> {
    let until = Instant::now() + within;
    for step in LOOKS_AFTER {
        match client.fetch_metadata(topic, step.min(within)) {
            Err(error) if !is_refused(client) => tracing::debug!(%error, "asking again"),
            answer => return answer,
        }
    }
    client.fetch_metadata(topic, until.saturating_duration_since(Instant::now()))
}

fn is_refused(client: &BaseConsumer<Reporting>) -> bool {
    serve(client);
    matches!(&*client.context().failed(), Some((RDKafkaErrorCode::Authentication, _)))
}

/// The error; where it says no more than that no broker is reached, with what the last connection failed for.
pub(crate) fn explain(client: &BaseConsumer<Reporting>, error: &KafkaError) -> String {
    use RDKafkaErrorCode::{
        AllBrokersDown, Authentication, BrokerTransportFailure, OperationTimedOut, Resolve,
    };
    serve(client);
    match (error.rdkafka_error_code(), &*client.context().failed()) {
        (
            Some(AllBrokersDown | Authentication | BrokerTransportFailure | OperationTimedOut | Resolve),
            Some((_, failed)),
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
