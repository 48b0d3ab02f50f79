//! A fixed value of each record, with every field set: what the golden bytes were made from.

use std::collections::BTreeMap;

use crate::{
    Callback, Conversation, Counts, Delivery, Erase, Failure, Finalize, FinalizeChunk, Finish, Gap, Merge,
    MergeInput, Object, Open, Options, Origin, Record, Redaction, Rerun, Segment, Split, SplitSegment,
    Summary, Transcript, Upload, Word,
};

const HEX: &str = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08";

/// The samples of a released version: fields that came later have their defaults.
pub(super) fn of(version: u32) -> Vec<Record> {
    match version {
        1 => all().into_iter().map(as_of_1).collect(),
        2 => all(),
        other => panic!("samples of version {other} are needed, with the fields that it added"),
    }
}

fn as_of_1(record: Record) -> Record {
    match record {
        Record::Conversation(conversation) => Conversation { webhooks: false, ..conversation }.into(),
        other => other,
    }
}

pub(super) fn all() -> Vec<Record> {
    vec![
        open().into(),
        upload().into(),
        finish().into(),
        rerun().into(),
        erase().into(),
        split().into(),
        segment().into(),
        callback().into(),
        transcript().into(),
        failure().into(),
        finalize().into(),
        merge().into(),
        summary().into(),
        conversation().into(),
        delivery().into(),
    ]
}

/// A record with the fields that all records have, and its own.
macro_rules! sample {
    ($name:ident { $($field:ident: $value:expr),+ $(,)? }) => {
        $name {
            conversation_id: "c-1".into(),
            event_id: HEX.into(),
            occurred_at: 1_760_000_000_123,
            source: "test/0".into(),
            attributes: map("room", "4".to_owned()),
            $($field: $value,)+
        }
    };
}

fn map<T>(key: &str, value: T) -> BTreeMap<String, T> {
    BTreeMap::from([(key.to_owned(), value)])
}

fn some<T: From<&'static str>>(value: &'static str) -> Option<T> {
    Some(value.into())
}

pub(super) fn options() -> Options {
    Options {
        language: some("nl-BE"),
        provider: some("local"),
        model: some("tiny-en"),
        redact_pii: Some(true),
        diarize: Some(false),
        keyterms: vec!["Hansard".into(), "Łódź".into()],
    }
}

pub(super) fn object() -> Object {
    Object {
        bucket: "audio".into(),
        key: "uploads/c-1/0".into(),
        etag: "abc".into(),
        bytes: 480_000,
        version_id: some("v7"),
        sha256: some(HEX),
    }
}

fn counts() -> Counts {
    Counts { chunks: 3, segments: 5, transcribed: 4, failed: 1, missing: 1 }
}

pub(super) fn open() -> Open {
    sample!(Open {
        title: some("Council"),
        external_ref: some("case 9"),
        labels: map("team", "north".to_owned()),
        options: Some(options()),
        idle_after_ms: Some(300_000),
        missing_after_ms: Some(7_200_000),
        webhook_urls: vec!["https://example.org/hook".into()],
    })
}

pub(super) fn upload() -> Upload {
    sample!(Upload {
        chunk_id: "0".into(),
        object: object(),
        content_type: some("audio/webm"),
        recorded_at: 1_759_999_970_000,
        track: "mic".into(),
        sequence: Some(7),
        continues: true,
        options: Some(options()),
    })
}

pub(super) fn finish() -> Finish {
    sample!(Finish { expected_chunks: Some(3), expected_by_track: map("mic", 3) })
}

pub(super) fn rerun() -> Rerun {
    sample!(Rerun { stage: "transcribe".into(), only: "failed".into(), options: Some(options()) })
}

fn erase() -> Erase {
    sample!(Erase { requested_by: some("ops"), reason: some("request") })
}

pub(super) fn split() -> Split {
    sample!(Split {
        chunk_id: "0".into(),
        upload_digest: HEX.into(),
        plan_version: "1".into(),
        digest: HEX.into(),
        bucket: "audio".into(),
        key_prefix: "segments/c-1/".into(),
        duration_ms: 30_000,
        codec: some("opus"),
        container: some("webm"),
        sample_rate: Some(48_000),
        channels: Some(2),
        truncated: true,
        silent_ms: 1_500,
        segments: vec![
            SplitSegment {
                index: 0,
                start_ms: 0,
                end_ms: 14_000,
                bytes: 200_000,
                sha256: vec![7; 32],
                forced_cut: false,
            },
            SplitSegment {
                index: 1,
                start_ms: 14_500,
                end_ms: 30_000,
                bytes: 210_000,
                sha256: vec![8; 32],
                forced_cut: true,
            },
        ],
    })
}

pub(super) fn segment() -> Segment {
    sample!(Segment {
        chunk_id: "0".into(),
        upload_digest: HEX.into(),
        split_digest: HEX.into(),
        segment: 1,
        of: 2,
        generation: 42,
        object: object(),
        start_ms: 14_500,
        end_ms: 30_000,
        options: options(),
    })
}

fn callback() -> Callback {
    sample!(Callback {
        journal_key: HEX.into(),
        provider: "assemblyai".into(),
        job_id: "j-1".into(),
        body: br#"{"status":"completed"}"#.to_vec(),
        content_type: some("application/json"),
    })
}

pub(super) fn transcript() -> Transcript {
    let word = |text: &str, start_ms| Word {
        text: text.into(),
        start_ms,
        end_ms: start_ms + 400,
        confidence: Some(0.75),
        speaker: some("A"),
    };
    sample!(Transcript {
        chunk_id: "0".into(),
        upload_digest: HEX.into(),
        split_digest: HEX.into(),
        provider: "local".into(),
        model: "tiny-en".into(),
        text: "Order, [name]!".into(),
        text_sha256: HEX.into(),
        segment: 1,
        generation: 42,
        start_ms: 14_500,
        end_ms: 30_000,
        audio_ms: 15_500,
        language: some("en"),
        provider_job_id: some("j-1"),
        currency: some("EUR"),
        language_confidence: Some(0.5),
        words: [word("Order,", 14_500), word("[name]!", 15_000)].into_iter().collect(),
        redactions: vec![Redaction { kind: "name".into(), start: 7, end: 13 }],
        latency_ms: Some(900),
        cost_micros: Some(1_250),
    })
}

pub(super) fn failure() -> Failure {
    sample!(Failure {
        stage: "transcribe".into(),
        class: "transient".into(),
        code: "provider_timeout".into(),
        message: "no answer within 60 s".into(),
        chunk_id: some("0"),
        upload_digest: some(HEX),
        split_digest: some(HEX),
        finalize_digest: Some(format!("1:{HEX}")),
        provider: some("local"),
        segment: Some(1),
        revision: Some(2),
        http_status: Some(504),
        generation: 42,
        attempt: 3,
        terminal: true,
        first_failed_at: 1_760_000_000_000,
        retry_at: Some(1_760_000_060_000),
        origin: Some(Origin { topic: "hansard.segments".into(), partition: 5, offset: 77 }),
    })
}

pub(super) fn finalize() -> Finalize {
    sample!(Finalize {
        revision: 2,
        generations: map("transcribe", 42),
        options: map("transcribe", options()),
        outcome: "incomplete".into(),
        cause: "deadline".into(),
        digest: format!("1:{HEX}"),
        counts: counts(),
        chunks: vec![FinalizeChunk {
            chunk_id: "0".into(),
            track: "mic".into(),
            status: "complete".into(),
            digest: vec![9; 32],
            sequence: Some(7),
            offset_ms: 210_000,
            duration_ms: 30_000,
            segments: 2,
        }],
        gaps: vec![Gap {
            track: "mic".into(),
            status: "missing".into(),
            code: "not_uploaded".into(),
            chunk_id: some("1"),
            segment: Some(0),
            sequence: Some(8),
        }],
        gaps_truncated: true,
    })
}

pub(super) fn merge() -> Merge {
    sample!(Merge {
        revision: 2,
        generation: 43,
        finalize_digest: format!("1:{HEX}"),
        outcome: "done".into(),
        key: some("merged/c-1/2.webm"),
        format: some("webm"),
        sha256: some(HEX),
        peaks_key: some("merged/c-1/2.peaks"),
        code: some("none"),
        bytes: Some(960_000),
        duration_ms: Some(60_000),
        inputs: vec![MergeInput {
            chunk_id: "0".into(),
            status: "skipped".into(),
            code: some("undecodable"),
            offset_ms: 210_000,
            duration_ms: 30_000,
        }],
    })
}

fn summary() -> Summary {
    sample!(Summary {
        revision: 2,
        generation: 44,
        finalize_digest: format!("1:{HEX}"),
        transcript_digest: HEX.into(),
        outcome: "done".into(),
        transcript_key: some("transcripts/c-1/2.json"),
        text: some("They agreed."),
        title: some("Council"),
        language: some("en"),
        provider: some("extractive"),
        model: some("1"),
        prompt_version: some("1"),
        code: some("none"),
        currency: some("EUR"),
        key_points: vec!["Order was called.".into()],
        action_items: vec!["Meet again.".into()],
        tokens_in: Some(1_000),
        tokens_out: Some(100),
        cost_micros: Some(2_000),
    })
}

fn conversation() -> Conversation {
    sample!(Conversation {
        status: "delivered".into(),
        revision: 2,
        outcome: some("incomplete"),
        merge_key: some("merged/c-1/2.webm"),
        transcript_key: some("transcripts/c-1/2.json"),
        summary_status: some("done"),
        merge_status: some("done"),
        counts: Some(counts()),
        opened_at: 1_759_999_000_000,
        updated_at: 1_760_000_000_000,
        delivered_at: Some(1_760_000_000_000),
        labels: map("team", "north".to_owned()),
        erased: true,
        webhooks: true,
    })
}

fn delivery() -> Delivery {
    sample!(Delivery {
        url_hash: HEX.into(),
        delivery_id: "d-1".into(),
        outcome: "delivered".into(),
        attempt: 2,
        http_status: Some(204),
    })
}
