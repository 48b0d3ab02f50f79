//! Every version of every schema that was ever released, so that what is in the log stays readable.
//!
//! To release a changed schema: copy it to `schemas/released/<Record>/<version>.avsc`, add its line here, and run
//! the crate's tests with `HANSARD_RELEASE=1`, which writes the golden bytes of the new version.

use std::collections::HashMap;
use std::io::{self, Read};
use std::sync::LazyLock;

use apache_avro::Schema;
use apache_avro::reader::datum::GenericDatumReader;
use apache_avro::util::max_allocation_bytes;
use apache_avro::writer::datum::GenericDatumWriter;

use crate::codec::DatumError;
use crate::framing::DecodeError;
use crate::records::{Record, RecordName};

/// What the Avro library may allocate for one array or map of a datum under an older schema. No record exceeds
/// 900 kB, which holds at most some 200,000 items of some 50 bytes each.
const ALLOCATION_BYTES_MAX: usize = 32 << 20;

/// A released version of a schema.
pub(crate) struct Released {
    pub(crate) record: RecordName,
    #[cfg_attr(not(test), expect(dead_code, reason = "only the tests of compatibility ask for it"))]
    pub(crate) version: u32,
    pub(crate) schema: &'static str,
}

macro_rules! released {
    ($($record:ident $version:literal,)+) => {
        /// All released versions, older ones of a record before newer ones.
        pub(crate) const RELEASED: &[Released] = &[$(Released {
            record: RecordName::$record,
            version: $version,
            schema: include_str!(concat!("../released/", stringify!($record), "/", $version, ".avsc")),
        },)+];
    };
}

released! {
    Open 1,
    Upload 1,
    Finish 1,
    Rerun 1,
    Erase 1,
    Split 1,
    Segment 1,
    Callback 1,
    Transcript 1,
    Failure 1,
    Finalize 1,
    Merge 1,
    Summary 1,
    Conversation 1,
    Conversation 2,
    Delivery 1,
}

/// A schema under which a datum was written.
#[derive(Debug, Clone)]
pub(crate) enum Writer {
    /// The current one, which our structs read by themselves.
    Current(RecordName),
    /// Another version of this record's schema.
    Other(RecordName, Box<Schema>),
}

/// What is known of schemas, by fingerprint.
pub(crate) struct Known {
    /// In the order of [`RecordName::ALL`].
    current: Vec<(u64, Schema)>,
    others: HashMap<u64, Writer>,
}

static KNOWN: LazyLock<Known> = LazyLock::new(|| {
    max_allocation_bytes(ALLOCATION_BYTES_MAX);
    Known::with(RELEASED.iter().map(|released| (released.record, released.schema)))
});

impl Known {
    /// The current schemas and these released ones.
    pub(crate) fn with<'a>(released: impl Iterator<Item = (RecordName, &'a str)>) -> Self {
        let current: Vec<_> = RecordName::ALL.iter().map(|record| embedded(record.schema())).collect();
        let mut others: HashMap<_, _> = released
            .map(|(record, json)| (embedded(json), record))
            .map(|((fingerprint, schema), record)| (fingerprint, Writer::Other(record, Box::new(schema))))
            .collect();
        // Producers that use the library for Rust write the fingerprint of its own canonical form.
        others.extend(RecordName::ALL.iter().zip(&current).map(|(record, (_, schema))| {
            (crc_64_avro(schema.canonical_form().as_bytes()), Writer::Current(*record))
        }));
        Self { current, others }
    }

    /// Reads a datum that was written under the schema of this fingerprint.
    pub(crate) fn read(&self, fingerprint: u64, datum: &[u8]) -> Result<Record, DecodeError> {
        if let Some(index) = self.current.iter().position(|(current, _)| *current == fingerprint) {
            return read_current(RecordName::ALL[index], datum);
        }
        self.others.get(&fingerprint).ok_or(DecodeError::UnknownSchema { fingerprint })?.read(datum)
    }
}

fn embedded(json: &str) -> (u64, Schema) {
    let schema = Schema::parse_str(json).unwrap_or_else(|error| panic!("embedded schema {json}: {error}"));
    (crc_64_avro(canonical(&schema).as_bytes()), schema)
}

/// The parsing canonical form as the specification has it, and Java's implementation: the library leaves
/// `{"type":"long"}` where a logical type was stripped. No name can contain what is replaced here.
/// Source: <https://avro.apache.org/docs/1.12.0/specification/#parsing-canonical-form-for-schemas>.
pub(crate) fn canonical(schema: &Schema) -> String {
    let primitives = ["boolean", "int", "long", "float", "double", "bytes", "string"];
    primitives.iter().fold(schema.canonical_form(), |form, primitive| {
        form.replace(&format!(r#"{{"type":"{primitive}"}}"#), &format!(r#""{primitive}""#))
    })
}

/// The 64-bit Rabin fingerprint that single-object encoding names schemas by.
/// Source: <https://avro.apache.org/docs/1.12.0/specification/#schema-fingerprints>.
pub(crate) fn crc_64_avro(bytes: &[u8]) -> u64 {
    const EMPTY: u64 = 0xC15D_213A_A4D7_A795;
    bytes.iter().fold(EMPTY, |fingerprint, byte| {
        (0..8).fold(fingerprint ^ u64::from(*byte), |rest, _| (rest >> 1) ^ (EMPTY * (rest & 1)))
    })
}

/// The fingerprint of a record's current schema.
pub(crate) fn fingerprint(record: RecordName) -> u64 {
    KNOWN.current[record as usize].0
}

/// The current schema of a record.
pub(crate) fn current(record: RecordName) -> &'static Schema {
    &KNOWN.current[record as usize].1
}

/// Reads a datum that was written under the current or a released schema.
pub(crate) fn read(fingerprint: u64, datum: &[u8]) -> Result<Record, DecodeError> {
    KNOWN.read(fingerprint, datum)
}

impl Writer {
    /// The writer of a schema from elsewhere, if it is one of a record of ours.
    pub(crate) fn of(schema: Schema) -> Option<Self> {
        let name = schema.name()?;
        let record = RecordName::parse(name.name()).filter(|_| name.namespace() == Some("hansard"))?;
        Some(if crc_64_avro(canonical(&schema).as_bytes()) == fingerprint(record) {
            Self::Current(record)
        } else {
            Self::Other(record, Box::new(schema))
        })
    }

    /// Reads a datum, by way of the current schema if it was written under another.
    pub(crate) fn read(&self, datum: &[u8]) -> Result<Record, DecodeError> {
        match self {
            Self::Current(record) => read_current(*record, datum),
            Self::Other(record, schema) => read_current(*record, &resolve(*record, schema, datum)?),
        }
    }
}

fn read_current(record: RecordName, datum: &[u8]) -> Result<Record, DecodeError> {
    record.read_datum(datum).map_err(|source| DecodeError::Datum { record, source })
}

/// Rewrites a datum under the current schema.
fn resolve(record: RecordName, writer: &Schema, datum: &[u8]) -> Result<Vec<u8>, DecodeError> {
    let reader = current(record);
    let mut input = Strict { datum, at: 0 };
    let resolved = GenericDatumReader::builder(writer)
        .reader_schema(reader)
        .build()
        .and_then(|datum_reader| datum_reader.read_value(&mut input))
        .and_then(|value| GenericDatumWriter::builder(reader).build()?.write_value_to_vec(value))
        .map_err(|source| DecodeError::Resolve { record, source: Box::new(source) })?;
    match datum.len() - input.at {
        0 => Ok(resolved),
        left => Err(DecodeError::Datum { record, source: DatumError::Trailing { at: input.at, left } }),
    }
}

/// Bytes whose end is an error of its own kind: the Avro library takes an ordinary end within a string or
/// union for a null, and so would read a truncated datum as a whole one.
struct Strict<'a> {
    datum: &'a [u8],
    at: usize,
}

impl Read for Strict<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = (&self.datum[self.at..]).read(buffer)?;
        if read == 0 && !buffer.is_empty() {
            return Err(io::Error::new(io::ErrorKind::InvalidData, DatumError::Truncated { at: self.at }));
        }
        self.at += read;
        Ok(read)
    }
}
