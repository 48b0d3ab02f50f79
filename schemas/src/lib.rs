//! What crosses a boundary of Hansard: the records with their Avro schemas and encoding, the digests over them,
//! the catalogue of topics, and the limits. It never touches a network, a disk, a clock or another crate of ours.
//!
//! ```
//! use hansard_schemas::{Finish, Record, decode, encode};
//!
//! let finish = Finish { conversation_id: "c-1".into(), expected_chunks: Some(3), ..Default::default() };
//! assert_eq!(decode(&encode(&finish))?, Record::from(finish));
//! # Ok::<(), hansard_schemas::DecodeError>(())
//! ```

mod codec;
mod framing;
mod macros;
mod records;
mod released;
#[cfg(test)]
mod tests;

pub use codec::DatumError;
pub use framing::{DecodeError, Framing, Registry, RegistryError, decode, encode, encode_into, fingerprint};
pub use records::{
    Callback, Conversation, Counts, Delivery, Encode, Erase, Failure, Finalize, FinalizeChunk, Finish, Gap,
    Merge, MergeInput, Object, Open, Options, Origin, Record, RecordName, Redaction, Rerun, Segment, Split,
    SplitSegment, Summary, Transcript, Upload, Word,
};
