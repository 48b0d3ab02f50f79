//! Asks librdkafka for the group's generation, which its Rust client does not show: a transaction under a negative
//! generation is not fenced at all.
#![allow(unsafe_code)] // The C library's call takes and gives raw pointers; no safe binding exists.

use rdkafka::bindings::{
    rd_kafka_consumer_group_metadata, rd_kafka_consumer_group_metadata_destroy,
    rd_kafka_consumer_group_metadata_generation_id,
};
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext, ConsumerGroupMetadata};

/// The present membership, to be called within the assignment event: later the same call gives the new generation
/// also for partitions that were lost. `None` when the membership is already over.
pub(crate) fn membership<C: ConsumerContext>(consumer: &BaseConsumer<C>) -> Option<ConsumerGroupMetadata> {
    // The metadata cannot be looked into once it is the Rust client's. A generation never returns to an older one,
    // so that equal numbers before and after mean that it stands between.
    let before = generation(consumer)?;
    let metadata = consumer.group_metadata()?;
    (before >= 0 && generation(consumer) == Some(before)).then_some(metadata)
}

fn generation<C: ConsumerContext>(consumer: &BaseConsumer<C>) -> Option<i32> {
    // SAFETY: the client outlives this call; the copy that librdkafka hands out is destroyed here and nowhere else,
    // and is not looked at where it is null.
    unsafe {
        let metadata = rd_kafka_consumer_group_metadata(consumer.client().native_ptr());
        if metadata.is_null() {
            return None;
        }
        let generation = rd_kafka_consumer_group_metadata_generation_id(metadata);
        rd_kafka_consumer_group_metadata_destroy(metadata);
        Some(generation)
    }
}
