//! Between wire records and core's facts: the one place where each becomes the other.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::ports::facts::Row;
use hansard_core::fact::{self, Fact};
use hansard_core::id::{Digest, IdError, Millis, Offset, Revision, Timestamp};
use hansard_core::manifest::{self, Manifest};
use hansard_core::{ChunkId, FinalizeDigest, Generation, Track};
use hansard_schemas as wire;
use hansard_schemas::{Record, RecordName, encode, event_id, upload_digest};
use sha2::{Digest as _, Sha256};

/// Why a record is no fact.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConvertError {
    /// A name, digest or word in it is none.
    #[error(transparent)]
    Id(#[from] IdError),
    /// A number is negative or too large.
    #[error("{field} is {value}, expected a number from 0 to {max}")]
    Range {
        /// Which field.
        field: &'static str,
        /// Its value.
        value: i64,
        /// The greatest allowed value.
        max: i64,
    },
    /// A record that is no fact stands among facts.
    #[error("a {0} is no fact")]
    NoFact(RecordName),
}

/// What a row means for its window.
///
/// # Errors
/// Where the record says something that no job of ours would write.
pub fn fact(row: &Row) -> Result<Fact, ConvertError> {
    let (offset, time) = (row.offset, row.time);
    Ok(match &*row.record {
        Record::Open(open) => Fact::Open(fact::Open {
            offset,
            time,
            idle_after: open.idle_after_ms.map(Millis),
            missing_after: open.missing_after_ms.map(Millis),
        }),
        Record::Upload(upload) => Fact::Upload(fact::Upload {
            offset,
            time,
            chunk: chunk(&upload.chunk_id)?,
            digest: upload_digest(upload).parse()?,
            track: Track::new(upload.track.as_str())?,
            sequence: upload.sequence.map(|sequence| small("sequence", sequence)).transpose()?,
            recorded_at: Timestamp(upload.recorded_at),
        }),
        Record::Finish(finish) => Fact::Finish(self::finish(finish, offset, time)?),
        Record::Rerun(rerun) => Fact::Rerun(fact::Rerun {
            offset,
            time,
            event: rerun.event_id.as_str().into(),
            stage: rerun.stage.parse()?,
            only: rerun.only.parse()?,
            options: rerun.options.as_ref().map(|options| Arc::new(core_options(options))),
        }),
        Record::Erase(_) => Fact::Erase,
        Record::Split(split) => Fact::Split(fact::Split {
            offset,
            time,
            chunk: chunk(&split.chunk_id)?,
            upload_digest: split.upload_digest.parse()?,
            digest: split.digest.parse()?,
            segments: small("segments", i64::try_from(split.segments.len()).unwrap_or(i64::MAX))?,
            duration: Millis(split.duration_ms),
        }),
        Record::Transcript(transcript) => Fact::Transcript(fact::Transcript {
            time,
            chunk: chunk(&transcript.chunk_id)?,
            upload_digest: transcript.upload_digest.parse()?,
            split_digest: transcript.split_digest.parse()?,
            segment: small("segment", transcript.segment.into())?,
            generation: Generation(transcript.generation),
            text_sha256: transcript.text_sha256.parse()?,
        }),
        Record::Failure(failure) => Fact::Failure(self::failure(failure, time)?),
        Record::Finalize(finalize) => Fact::Finalize(self::finalize(finalize, time)?),
        Record::Merge(merge) => {
            let failed = failed(&merge.outcome, merge.code.as_deref());
            Fact::Merge(ending(&merge.finalize_digest, merge.generation, failed, time)?)
        }
        Record::Summary(summary) => {
            let failed = failed(&summary.outcome, summary.code.as_deref());
            Fact::Summary(ending(&summary.finalize_digest, summary.generation, failed, time)?)
        }
        Record::Segment(_) | Record::Callback(_) | Record::Conversation(_) | Record::Delivery(_) => {
            return Err(ConvertError::NoFact(row.record.name()));
        }
    })
}

fn chunk(id: &str) -> Result<ChunkId, IdError> {
    ChunkId::new(id)
}

fn small(field: &'static str, value: i64) -> Result<u32, ConvertError> {
    let max = i64::from(i32::MAX);
    let range = ConvertError::Range { field, value, max };
    u32::try_from(value).ok().filter(|_| value <= max).ok_or(range)
}

fn finish(finish: &wire::Finish, offset: Offset, time: Timestamp) -> Result<fact::Finish, ConvertError> {
    let by_track = finish.expected_by_track.iter().map(|(track, expected)| {
        Ok((Track::new(track.as_str())?, small("expected_by_track", (*expected).into())?))
    });
    Ok(fact::Finish {
        offset,
        time,
        expected_chunks: finish.expected_chunks.map(|n| small("expected_chunks", n.into())).transpose()?,
        expected_by_track: by_track.collect::<Result<BTreeMap<_, _>, ConvertError>>()?,
    })
}

fn failure(failure: &wire::Failure, time: Timestamp) -> Result<fact::Failure, ConvertError> {
    let digest = |text: &Option<String>| text.as_deref().map(str::parse::<Digest>).transpose();
    Ok(fact::Failure {
        time,
        stage: failure.stage.parse()?,
        terminal: failure.terminal,
        code: failure.code.as_str().into(),
        generation: Generation(failure.generation),
        chunk: failure.chunk_id.as_deref().map(chunk).transpose()?,
        upload_digest: digest(&failure.upload_digest)?,
        split_digest: digest(&failure.split_digest)?,
        segment: failure.segment.map(|segment| small("segment", segment.into())).transpose()?,
        finalize_digest: failure.finalize_digest.as_deref().map(str::parse).transpose()?,
    })
}

/// What a Finalize means for its window: of its own emission before it is read back, and of the record itself.
///
/// # Errors
/// As [`fact`].
pub fn finalize(finalize: &wire::Finalize, time: Timestamp) -> Result<fact::Finalize, ConvertError> {
    let mut generations = manifest::Generations::default();
    for (stage, generation) in &finalize.generations {
        generations.raise(stage.parse()?, Generation(*generation));
    }
    let count = |n: i32| u64::try_from(n).unwrap_or(0);
    Ok(fact::Finalize {
        time,
        revision: Revision(finalize.revision),
        digest: finalize.digest.parse()?,
        content: content(finalize),
        outcome: finalize.outcome.parse()?,
        generations,
        counts: manifest::Counts {
            chunks: count(finalize.counts.chunks),
            segments: count(finalize.counts.segments),
            transcribed: count(finalize.counts.transcribed),
            failed: count(finalize.counts.failed),
            missing: count(finalize.counts.missing),
        },
    })
}

/// Digest of everything that a Finalize says, without when and by whom it was written.
fn content(finalize: &wire::Finalize) -> Digest {
    let bare = wire::Finalize {
        event_id: String::new(),
        occurred_at: 0,
        source: String::new(),
        attributes: BTreeMap::new(),
        ..finalize.clone()
    };
    Digest(Sha256::digest(encode(&bare)).into())
}

/// `superseded` ends nothing, and is never written as a fact.
fn failed(outcome: &str, code: Option<&str>) -> Option<Arc<str>> {
    (outcome != "done").then(|| code.unwrap_or(outcome).into())
}

fn ending(
    digest: &str,
    generation: i64,
    failed: Option<Arc<str>>,
    time: Timestamp,
) -> Result<fact::Ending, ConvertError> {
    let finalize_digest: FinalizeDigest = digest.parse()?;
    Ok(fact::Ending { time, finalize_digest, generation: Generation(generation), failed })
}

/// Options as core carries them.
#[must_use]
pub fn core_options(options: &wire::Options) -> fact::Options {
    let text = |text: &Option<String>| text.as_deref().map(Arc::from);
    fact::Options {
        language: text(&options.language),
        provider: text(&options.provider),
        model: text(&options.model),
        redact_pii: options.redact_pii,
        diarize: options.diarize,
        keyterms: options.keyterms.iter().map(|term| term.as_str().into()).collect(),
    }
}

/// Options as records carry them.
#[must_use]
pub fn wire_options(options: &fact::Options) -> wire::Options {
    let text = |text: &Option<Arc<str>>| text.as_deref().map(str::to_owned);
    wire::Options {
        language: text(&options.language),
        provider: text(&options.provider),
        model: text(&options.model),
        redact_pii: options.redact_pii,
        diarize: options.diarize,
        keyterms: options.keyterms.iter().map(|term| term.to_string()).collect(),
    }
}

/// An Upload's options, overlaid by what a Rerun gives. Whose recording asks for redaction is not asked again.
#[must_use]
pub fn overlaid(own: &wire::Options, over: &fact::Options) -> wire::Options {
    let over = wire_options(over);
    wire::Options {
        language: over.language.or_else(|| own.language.clone()),
        provider: over.provider.or_else(|| own.provider.clone()),
        model: over.model.or_else(|| own.model.clone()),
        redact_pii: own.redact_pii.filter(|asked| *asked).or(over.redact_pii).or(own.redact_pii),
        diarize: over.diarize.or(own.diarize),
        keyterms: if over.keyterms.is_empty() { own.keyterms.clone() } else { over.keyterms },
    }
}

/// A manifest as the record that closes its window.
#[must_use]
pub fn finalize_record(conversation: &str, manifest: &Manifest) -> wire::Finalize {
    let generations = manifest.generations.iter().map(|(stage, g)| (stage.as_str().to_owned(), g.0));
    let options = manifest.options.iter().map(|(stage, o)| (stage.as_str().to_owned(), wire_options(o)));
    wire::Finalize {
        conversation_id: conversation.to_owned(),
        event_id: event_id(
            RecordName::Finalize,
            &[conversation.as_bytes(), &manifest.revision.0.to_be_bytes()],
        ),
        revision: manifest.revision.0,
        generations: generations.collect(),
        options: options.collect(),
        outcome: manifest.outcome.as_str().to_owned(),
        cause: manifest.cause.as_str().to_owned(),
        digest: manifest.digest.to_string(),
        counts: wire_counts(&manifest.counts),
        chunks: manifest.chunks.iter().map(wire_chunk).collect(),
        gaps: manifest.gaps.iter().map(wire_gap).collect(),
        gaps_truncated: manifest.gaps_truncated,
        ..Default::default()
    }
}

/// Counts as records carry them; the limits keep them far below 2^31.
#[must_use]
pub fn wire_counts(counts: &manifest::Counts) -> wire::Counts {
    let count = |n: u64| i32::try_from(n).unwrap_or(i32::MAX);
    wire::Counts {
        chunks: count(counts.chunks),
        segments: count(counts.segments),
        transcribed: count(counts.transcribed),
        failed: count(counts.failed),
        missing: count(counts.missing),
    }
}

fn wire_chunk(chunk: &manifest::ManifestChunk) -> wire::FinalizeChunk {
    wire::FinalizeChunk {
        chunk_id: chunk.chunk.as_str().to_owned(),
        track: chunk.track.as_str().to_owned(),
        status: chunk.status.as_str().to_owned(),
        digest: chunk.digest.0.to_vec(),
        sequence: chunk.sequence.map(i64::from),
        offset_ms: chunk.offset.0,
        duration_ms: chunk.duration.0,
        segments: i32::try_from(chunk.segments).unwrap_or(i32::MAX),
    }
}

fn wire_gap(gap: &manifest::Gap) -> wire::Gap {
    wire::Gap {
        track: gap.track.as_str().to_owned(),
        status: gap.status.as_str().to_owned(),
        code: gap.code.to_string(),
        chunk_id: gap.chunk.as_ref().map(|chunk| chunk.as_str().to_owned()),
        segment: gap.segment.and_then(|segment| i32::try_from(segment).ok()),
        sequence: gap.sequence.map(i64::from),
    }
}
