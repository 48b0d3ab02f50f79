//! Facts in columns: each field of a record under its own name, so that an operator can read a row. A field that is
//! forgotten here does not compile.

use hansard_schemas::{
    Counts, Erase, Failure, Finalize, FinalizeChunk, Finish, Gap, Merge, MergeInput, Object, Open, Options,
    Origin, Record, Redaction, Rerun, Split, SplitSegment, Summary, Transcript, Upload, Word, Words,
};
use scylla::value::CqlValue;

use crate::value::{Column, Columns, Unreadable, Value, named, typed};

/// A kind of fact.
pub(crate) trait Kind: Sized {
    /// Names and types of its columns.
    fn columns() -> Vec<(&'static str, String)>;
    /// Their values, in the same order.
    fn values(&self) -> Vec<Value<'_>>;
    /// The fact from the columns of a row.
    fn read(conversation: &str, row: &mut Columns<'_>) -> Result<Self, Unreadable>;
}

/// A user-defined type: its name, and names and types of its fields.
pub(crate) type PartType = (&'static str, Vec<(&'static str, String)>);

/// Columns of texts, which facts leave out.
pub(crate) const TEXTS: [&str; 3] = ["text", "words", "redactions"];

macro_rules! parts {
    ($($part:ident $name:literal { $($field:ident),+ })+) => {
        $(
            impl Column for $part {
                fn cql_type() -> String {
                    concat!("frozen<", $name, ">").to_owned()
                }
                fn value(&self) -> Value<'_> {
                    Value::Part(vec![$((stringify!($field), self.$field.value()),)+])
                }
                fn read(value: Option<CqlValue>) -> Option<Self> {
                    let mut fields = match value {
                        None => return Some(Self::default()),
                        Some(CqlValue::UserDefinedType { fields, .. }) => fields,
                        Some(_) => return None,
                    };
                    let mut take = |name| {
                        let found = fields.iter_mut().find(|(field, _)| field == name);
                        found.and_then(|(_, value)| value.take())
                    };
                    Some(Self { $($field: Column::read(take(stringify!($field)))?,)+ })
                }
            }
        )+

        /// All user-defined types, each after those that it contains.
        pub(crate) fn part_types() -> Vec<PartType> {
            vec![$(($name, vec![$((stringify!($field), type_of(|part: &$part| &part.$field)),)+]),)+]
        }
    };
}

parts! {
    Options "options" { language, provider, model, redact_pii, diarize, keyterms }
    Object "object" { bucket, key, etag, bytes, version_id, sha256 }
    SplitSegment "split_segment" { index, start_ms, end_ms, bytes, sha256, forced_cut }
    Word "word" { text, start_ms, end_ms, confidence, speaker }
    Redaction "redaction" { kind, start, end }
    Origin "origin" { topic, partition, offset }
    Counts "counts" { chunks, segments, transcribed, failed, missing }
    FinalizeChunk "finalize_chunk" { chunk_id, track, status, digest, sequence, offset_ms, duration_ms, segments }
    Gap "gap" { track, status, code, chunk_id, segment, sequence }
    MergeInput "merge_input" { chunk_id, status, code, offset_ms, duration_ms }
}

impl Column for Words {
    fn cql_type() -> String {
        Vec::<Word>::cql_type()
    }
    fn value(&self) -> Value<'_> {
        if self.is_empty() { Value::Unset } else { Value::List(self.iter().map(word).collect()) }
    }
    fn read(value: Option<CqlValue>) -> Option<Self> {
        Vec::<Word>::read(value).map(Self::from_iter)
    }
}

fn word(Word { text, start_ms, end_ms, confidence, speaker }: Word) -> Value<'static> {
    Value::Part(vec![
        ("text", Value::Owned(text)),
        ("start_ms", Value::BigInt(start_ms)),
        ("end_ms", Value::BigInt(end_ms)),
        ("confidence", confidence.map_or(Value::Unset, Value::Float)),
        ("speaker", speaker.map_or(Value::Unset, Value::Owned)),
    ])
}

/// The CQL type of a field.
fn type_of<R, T: Column>(_: fn(&R) -> &T) -> String {
    T::cql_type()
}

macro_rules! name {
    ($field:ident) => {
        stringify!($field)
    };
    ($field:ident $column:ident) => {
        stringify!($column)
    };
}

macro_rules! kinds {
    ($($kind:ident $name:literal { $($field:ident $(=> $column:ident)?),+ })+) => {
        $(kinds!(@kind $kind { event_id, occurred_at, source, attributes, $($field $(=> $column)?),+ });)+

        /// The names of all kinds, with the columns of each.
        pub(crate) fn kinds() -> Vec<(&'static str, Vec<(&'static str, String)>)> {
            vec![$(($name, <$kind as Kind>::columns()),)+]
        }

        /// The values of a fact's own columns; `None` for a record that is none.
        pub(crate) fn values(record: &Record) -> Option<Vec<Value<'_>>> {
            match record {
                $(Record::$kind(record) => Some(record.values()),)+
                _ => None,
            }
        }

        /// A fact of the named kind from a row; `None` for a kind that this version does not know.
        pub(crate) fn read(
            kind: &str,
            conversation: &str,
            row: &mut Columns<'_>,
        ) -> Option<Result<Record, Unreadable>> {
            match kind {
                $($name => Some(<$kind as Kind>::read(conversation, row).map(Record::$kind)),)+
                _ => None,
            }
        }
    };
    (@kind $kind:ident { $($field:ident $(=> $column:ident)?),+ }) => {
        impl Kind for $kind {
            fn columns() -> Vec<(&'static str, String)> {
                vec![$({
                    let name = name!($field $($column)?);
                    (name, typed(name, type_of(|record: &$kind| &record.$field)))
                },)+]
            }
            fn values(&self) -> Vec<Value<'_>> {
                vec![$(named(name!($field $($column)?), self.$field.value()),)+]
            }
            fn read(conversation: &str, row: &mut Columns<'_>) -> Result<Self, Unreadable> {
                Ok(Self {
                    conversation_id: conversation.to_owned(),
                    $($field: row.take(name!($field $($column)?))?,)+
                })
            }
        }
    };
}

// `segment` is part of the key, where it is never missing; the field of that name stands in `segment_index`.
kinds! {
    Open "open" { title, external_ref, labels, options, idle_after_ms, missing_after_ms, webhook_urls }
    Upload "upload" {
        chunk_id, object, content_type, recorded_at, track, sequence, continues, options
    }
    Finish "finish" { expected_chunks, expected_by_track }
    Rerun "rerun" { stage, only, options }
    Erase "erase" { requested_by, reason }
    Split "split" {
        chunk_id, upload_digest, plan_version, digest, bucket, key_prefix, duration_ms, codec, container,
        sample_rate, channels, truncated, silent_ms, segments
    }
    Transcript "transcript" {
        chunk_id, upload_digest, split_digest, provider, model, text, text_sha256, segment => segment_index,
        generation, start_ms, end_ms, audio_ms, language, provider_job_id, currency, language_confidence, words,
        redactions, latency_ms, cost_micros
    }
    Failure "failure" {
        stage, class, code, message, chunk_id, upload_digest, split_digest, finalize_digest, provider,
        segment => segment_index, revision, http_status, generation, attempt, terminal, first_failed_at, retry_at,
        origin
    }
    Finalize "finalize" {
        revision, generations, options => stage_options, outcome, cause, digest, counts, chunks, gaps,
        gaps_truncated
    }
    Merge "merge" {
        revision, generation, finalize_digest, outcome, key, format, sha256, peaks_key, code, bytes, duration_ms,
        inputs
    }
    Summary "summary" {
        revision, generation, finalize_digest, transcript_digest, outcome, transcript_key, text, title, language,
        provider, model, prompt_version, code, currency, key_points, action_items, tokens_in, tokens_out,
        cost_micros
    }
}
