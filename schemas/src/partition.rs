//! Which partition a key belongs to, as Kafka's Java client has it. Producers that hash otherwise put a
//! conversation into a partition where nobody looks for it.

/// The partition of a key among `partitions`, which must not be 0.
/// Source: `org.apache.kafka.clients.producer.internals.BuiltInPartitioner.partitionForKey`.
pub fn partition_for(key: &[u8], partitions: u32) -> i32 {
    assert!(partitions > 0 && partitions <= i32::MAX.cast_unsigned(), "{partitions} partitions");
    // Kafka drops the sign and does not negate.
    let positive = murmur2(key) & i32::MAX.cast_unsigned();
    (positive % partitions).cast_signed()
}

/// Austin Appleby's 32-bit MurmurHash2 with Kafka's seed. Source: `org.apache.kafka.common.utils.Utils.murmur2`.
pub(crate) fn murmur2(data: &[u8]) -> u32 {
    const SEED: u32 = 0x9747_B28C;
    const M: u32 = 0x5BD1_E995;
    // Keys are far shorter than 4 GiB; Kafka takes the length as an int.
    #[expect(clippy::cast_possible_truncation, reason = "as Kafka does")]
    let mut hash = SEED ^ data.len() as u32;
    let (words, tail) = data.as_chunks::<4>();
    for word in words {
        let word = u32::from_le_bytes(*word).wrapping_mul(M);
        hash = hash.wrapping_mul(M) ^ (word ^ (word >> 24)).wrapping_mul(M);
    }
    if !tail.is_empty() {
        let rest = tail.iter().rev().fold(0, |rest, byte| rest << 8 | u32::from(*byte));
        hash = (hash ^ rest).wrapping_mul(M);
    }
    hash = (hash ^ (hash >> 13)).wrapping_mul(M);
    hash ^ (hash >> 15)
}
