//! Appends outside transactions, by one idempotent producer that all callers share.

use hansard_core::id::Offset;
use hansard_runtime::ports::log::{LogError, Outgoing};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::producer::{DeliveryFuture, FutureProducer, FutureRecord};

use crate::client::Reporting;
use crate::config::{ConfigError, KafkaConfig};
use crate::convert::{Names, headers, partition_error, size, unavailable};

pub(crate) struct Appender {
    producer: FutureProducer<Reporting>,
    names: Names,
    limit: usize,
}

impl Appender {
    pub(crate) fn new(config: &KafkaConfig) -> Result<Self, ConfigError> {
        let settings = config.appender();
        let producer = settings
            .create_with_context(Reporting::default())
            .map_err(|error| ConfigError::Client { cause: error.to_string() })?;
        // librdkafka's default, which it checks each record against.
        let limit =
            settings.get("message.max.bytes").and_then(|bytes| bytes.parse().ok()).unwrap_or(1_000_000);
        Ok(Self { producer, names: Names::new(&config.prefix, &[]), limit })
    }

    /// Ends when all records are durable. Those to one partition keep their order.
    pub(crate) async fn append(&self, records: &[Outgoing]) -> Result<Vec<Offset>, LogError> {
        let mut deliveries = Vec::with_capacity(records.len());
        let mut offsets = Vec::with_capacity(records.len());
        for outgoing in records {
            loop {
                match self.send(outgoing) {
                    Ok(delivery) => break deliveries.push((outgoing, delivery)),
                    // The queue holds what others have sent, too: make room by awaiting our own first.
                    Err(KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull))
                        if !deliveries.is_empty() =>
                    {
                        for (outgoing, delivery) in deliveries.drain(..) {
                            offsets.push(self.delivered(outgoing, delivery).await?);
                        }
                    }
                    Err(error) => return Err(self.error(outgoing, &error)),
                }
            }
        }
        for (outgoing, delivery) in deliveries {
            offsets.push(self.delivered(outgoing, delivery).await?);
        }
        Ok(offsets)
    }

    fn send(&self, outgoing: &Outgoing) -> Result<DeliveryFuture, KafkaError> {
        let topic = self.names.full(outgoing.to.topic);
        let mut record = FutureRecord::to(&topic).partition(outgoing.to.partition.0);
        if let Some(key) = &outgoing.key {
            record = record.key(key.as_ref());
        }
        if let Some(value) = &outgoing.value {
            record = record.payload(value.as_ref());
        }
        if !outgoing.headers.is_empty() {
            record = record.headers(headers(&outgoing.headers));
        }
        self.producer.send_result::<[u8], [u8]>(record).map_err(|(error, _)| error)
    }

    async fn delivered(&self, outgoing: &Outgoing, delivery: DeliveryFuture) -> Result<Offset, LogError> {
        match delivery.await {
            Ok(Ok(delivered)) => Ok(Offset(delivered.offset)),
            Ok(Err((error, _))) => Err(self.error(outgoing, &error)),
            Err(_) => Err(LogError::Closed),
        }
    }

    fn error(&self, outgoing: &Outgoing, error: &KafkaError) -> LogError {
        match error.rdkafka_error_code() {
            Some(RDKafkaErrorCode::MessageSizeTooLarge) => {
                LogError::TooLarge { to: outgoing.to, bytes: size(outgoing), limit: self.limit }
            }
            Some(_) => partition_error(outgoing.to, error),
            None => unavailable(error),
        }
    }
}
