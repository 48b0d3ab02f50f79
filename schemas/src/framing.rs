//! What stands before a datum to name its schema: Avro's single-object encoding, or the id of a schema
//! registry. Sources: <https://avro.apache.org/docs/1.12.0/specification/#single-object-encoding> and
//! <https://docs.confluent.io/platform/current/schema-registry/fundamentals/serdes-develop/index.html#wire-format>.

use std::collections::HashMap;
use std::sync::{Arc, RwLock};

use apache_avro::Schema;
use apache_avro::schema_compatibility::SchemaCompatibility;
use bytes::Bytes;

use crate::codec::DatumError;
use crate::records::{Encode, Record, RecordName};
use crate::released::{self, Writer};

/// Opens Avro's single-object encoding; the fingerprint follows in 8 little-endian bytes.
const SINGLE_OBJECT: [u8; 2] = [0xC3, 0x01];

/// Opens the wire format of schema registries; the schema's id follows in 4 big-endian bytes.
const REGISTRY: u8 = 0;

/// Room for most records, so that a buffer rarely grows twice.
const USUAL_BYTES: usize = 512;

/// Why bytes are no record of ours.
#[derive(Debug, thiserror::Error)]
pub enum DecodeError {
    /// The bytes open like neither encoding.
    #[error("bytes {head:02x?} open no avro encoding, expected c3 01 or 00")]
    Unframed {
        /// Up to the first ten bytes.
        head: Vec<u8>,
    },
    /// Neither a current nor a released schema has this fingerprint.
    #[error("schema with fingerprint {fingerprint:016x} is unknown, upgrade this job or mend the producer")]
    UnknownSchema {
        /// CRC-64-AVRO of the writer's schema.
        fingerprint: u64,
    },
    /// The id was not learned yet: fetch its schema from the registry, [`Registry::learn`] it, and try again.
    #[error("schema id {id} was not fetched from the registry")]
    UnknownId {
        /// The registry's id.
        id: u32,
    },
    /// The id's schema was fetched, and nothing under it can ever be read.
    #[error(transparent)]
    Unreadable(#[from] Arc<RegistryError>),
    /// The datum does not follow its schema.
    #[error("{record} is damaged: {source}")]
    Datum {
        /// The record that it claims to be.
        record: RecordName,
        /// What is wrong.
        source: DatumError,
    },
    /// A datum under another version of the schema cannot be brought to the current one.
    #[error("{record} under another schema does not resolve to the current one: {source}")]
    Resolve {
        /// The record that it claims to be.
        record: RecordName,
        /// What is wrong.
        source: Box<apache_avro::Error>,
    },
}

/// Encodes a record in Avro's single-object encoding.
pub fn encode(record: &impl Encode) -> Bytes {
    let mut out = Vec::with_capacity(USUAL_BYTES);
    encode_into(record, &mut out);
    out.into()
}

/// Appends a record in Avro's single-object encoding.
pub fn encode_into(record: &impl Encode, out: &mut Vec<u8>) {
    out.extend_from_slice(&SINGLE_OBJECT);
    out.extend_from_slice(&fingerprint(record.record_name()).to_le_bytes());
    record.write_datum(out);
}

/// Decodes a record from Avro's single-object encoding, under any released version of its schema.
///
/// # Errors
/// [`DecodeError`]; none of them passes by itself, except that an upgrade may bring an unknown schema.
pub fn decode(bytes: &[u8]) -> Result<Record, DecodeError> {
    let unframed = || DecodeError::Unframed { head: bytes[..bytes.len().min(10)].to_vec() };
    let framed = bytes.strip_prefix(&SINGLE_OBJECT).ok_or_else(unframed)?;
    let (fingerprint, datum) = framed.split_first_chunk().ok_or_else(unframed)?;
    released::read(u64::from_le_bytes(*fingerprint), datum)
}

/// CRC-64-AVRO of the parsing canonical form of a record's current schema.
pub fn fingerprint(record: RecordName) -> u64 {
    released::fingerprint(record)
}

/// How records are framed in a deployment.
#[derive(Debug)]
pub enum Framing {
    /// Without a registry: Avro's single-object encoding.
    SingleObject,
    /// With a schema registry: Confluent's wire format.
    Registry(Registry),
}

impl Framing {
    /// Encodes a record.
    pub fn encode(&self, record: &impl Encode) -> Bytes {
        let mut out = Vec::with_capacity(USUAL_BYTES);
        self.encode_into(record, &mut out);
        out.into()
    }

    /// Appends an encoded record.
    pub fn encode_into(&self, record: &impl Encode, out: &mut Vec<u8>) {
        match self {
            Self::SingleObject => encode_into(record, out),
            Self::Registry(registry) => {
                out.push(REGISTRY);
                out.extend_from_slice(&registry.ids[record.record_name() as usize].to_be_bytes());
                record.write_datum(out);
            }
        }
    }

    /// Decodes a record. With a registry both encodings are read, so that a deployment can change over.
    ///
    /// # Errors
    /// [`DecodeError`]; [`DecodeError::UnknownId`] asks for [`Registry::learn`].
    pub fn decode(&self, bytes: &[u8]) -> Result<Record, DecodeError> {
        let (Self::Registry(registry), [REGISTRY, framed @ ..]) = (self, bytes) else {
            return decode(bytes);
        };
        let (id, datum) =
            framed.split_first_chunk().ok_or_else(|| DecodeError::Unframed { head: bytes.to_vec() })?;
        registry.read(u32::from_be_bytes(*id), datum)
    }
}

/// Why a registry's ids cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum RegistryError {
    /// A record has no id to be written under.
    #[error("{0} has no schema id, register the schemas first")]
    Unregistered(RecordName),
    /// The registry's schema is none that Avro knows.
    #[error("schema id {id} is no avro schema: {source}")]
    Invalid {
        /// The registry's id.
        id: u32,
        /// What is wrong.
        source: Box<apache_avro::Error>,
    },
    /// The registry's schema is that of another program.
    #[error("schema id {id} is no record of hansard")]
    Foreign {
        /// The registry's id.
        id: u32,
    },
    /// What is written under the registry's schema cannot be read under ours.
    #[error("schema id {id} does not resolve to the current {record}: {reason}")]
    Incompatible {
        /// The registry's id.
        id: u32,
        /// The record that it describes.
        record: RecordName,
        /// What is wrong.
        reason: Box<apache_avro::error::CompatibilityError>,
    },
}

/// A schema registry's ids, as far as they were fetched. Fetching is its owner's business.
#[derive(Debug)]
pub struct Registry {
    /// Ids to write under, in the order of [`RecordName::ALL`].
    ids: Vec<u32>,
    writers: RwLock<HashMap<u32, Result<Writer, Arc<RegistryError>>>>,
}

impl Registry {
    /// Starts with the ids of all current schemas.
    ///
    /// # Errors
    /// [`RegistryError::Unregistered`] if a record is left out.
    pub fn new(ids: &HashMap<RecordName, u32>) -> Result<Self, RegistryError> {
        let all = RecordName::ALL.iter();
        Ok(Self {
            ids: all
                .map(|record| ids.get(record).copied().ok_or(RegistryError::Unregistered(*record)))
                .collect::<Result<_, _>>()?,
            writers: RwLock::new(
                ids.iter().map(|(record, id)| (*id, Ok(Writer::Current(*record)))).collect(),
            ),
        })
    }

    /// Takes in the schema of an id that a record was written under, as fetched from the registry. What is wrong with it
    /// is remembered too, since an id means the same for ever.
    ///
    /// # Errors
    /// [`RegistryError`] where records under that id can never be read.
    pub fn learn(&self, id: u32, schema: &str) -> Result<(), Arc<RegistryError>> {
        let writer = writer(id, schema).map_err(Arc::new);
        let learned = writer.as_ref().map(drop).map_err(Arc::clone);
        self.writers.write().unwrap_or_else(|poisoned| poisoned.into_inner()).insert(id, writer);
        learned
    }

    fn read(&self, id: u32, datum: &[u8]) -> Result<Record, DecodeError> {
        let writers = self.writers.read().unwrap_or_else(|poisoned| poisoned.into_inner());
        let writer = writers.get(&id).ok_or(DecodeError::UnknownId { id })?;
        writer.as_ref().map_err(Arc::clone)?.read(datum)
    }
}

/// The writer of a registry's schema.
fn writer(id: u32, schema: &str) -> Result<Writer, RegistryError> {
    let schema = Schema::parse_str(schema)
        .map_err(|source| RegistryError::Invalid { id, source: Box::new(source) })?;
    let writer = Writer::of(schema).ok_or(RegistryError::Foreign { id })?;
    if let Writer::Other(record, schema) = &writer {
        SchemaCompatibility::can_read(schema, released::current(*record)).map_err(|reason| {
            RegistryError::Incompatible { id, record: *record, reason: Box::new(reason) }
        })?;
    }
    Ok(writer)
}
