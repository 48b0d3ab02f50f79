//! What crosses a boundary of Hansard: the records with their Avro schemas and encoding, the digests over them,
//! the catalogue of topics, and the limits. It never touches a network, a disk, a clock or another crate of ours.

mod codec;
mod digest;
mod framing;
pub mod limits;
mod macros;
mod partition;
mod records;
mod released;
#[cfg(test)]
mod tests;
mod topics;
mod validate;
mod words;

pub use codec::DatumError;
pub use digest::{event_id, segment_digest, split_digest, text_sha256, upload_digest};
pub use framing::{DecodeError, Framing, Registry, RegistryError, decode, encode, encode_into, fingerprint};
pub use limits::{Invalid, Problem};
pub use partition::partition_for;
pub use records::{
    Callback, Conversation, Counts, Delivery, Encode, Erase, Failure, Finalize, FinalizeChunk, Finish, Gap,
    Merge, MergeInput, Object, Open, Options, Origin, Record, RecordName, Redaction, Rerun, Segment, Split,
    SplitSegment, Summary, Transcript, Upload, Word,
};
pub use topics::{
    CATALOGUE, InvalidPrefix, Keep, PARTITIONS_DEFAULT, Party, RETRY_TIERS, Stage, TEXT_RETENTION_DAYS_MAX,
    Topic, TopicSpec, Topics, UnknownName, topic_of,
};
pub use validate::validate;
pub use words::Words;
