//! The benchmark's facts: conversations of some chunks with two segments each, 500 of them interleaved; 1 % of the
//! segments fail instead, 2 % of all facts come twice.

use std::path::Path;

use anyhow::Result;
use bytes::Bytes;
use hansard_core::id::Partition;
use hansard_runtime::ports::log::{Log, Outgoing, TopicPartition};
use hansard_schemas::{
    Failure, Finish, Object, Record, Split, SplitSegment, Transcript, Upload, Word, encode, partition_for,
    split_digest, text_sha256, topic_of, upload_digest,
};

use crate::world::{self, PARTITIONS};

/// Conversations whose facts come mixed.
pub(crate) const INTERLEAVED: usize = 500;
/// Records of one append.
const APPEND: usize = 5_000;

/// What is loaded.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Shape {
    /// How many conversations.
    pub(crate) conversations: usize,
    /// Chunks of each.
    pub(crate) chunks: usize,
    /// Conversations whose facts come mixed.
    pub(crate) interleaved: usize,
}

/// Facts of a conversation of `chunks` chunks: as many Uploads and Splits, twice as many transcripts, and a Finish.
pub(crate) fn facts_of(chunks: usize) -> usize {
    4 * chunks + 1
}

/// Writes about `facts` facts into a fresh engine.
pub(crate) async fn load(directory: &Path, facts: usize, chunks: usize) -> Result<()> {
    let (_engine, ports) = world::open(directory)?;
    let shape = Shape { conversations: facts / facts_of(chunks), chunks, interleaved: INTERLEAVED };
    append(ports.log.as_ref(), outgoing(shape)).await
}

/// Appends records to a log.
pub(crate) async fn append(log: &dyn Log, mut records: impl Iterator<Item = Outgoing>) -> Result<()> {
    loop {
        let batch: Vec<Outgoing> = records.by_ref().take(APPEND).collect();
        if batch.is_empty() {
            return Ok(());
        }
        log.append(batch).await?;
    }
}

/// The id of a conversation.
pub(crate) fn name(conversation: usize) -> String {
    format!("c-{conversation:06}")
}

/// Segments of a conversation that fail.
pub(crate) fn failed_of(conversation: usize, chunks: usize) -> usize {
    (0..2 * chunks).filter(|segment| fails(conversation, chunks, *segment)).count()
}

/// Every hundredth segment of all.
fn fails(conversation: usize, chunks: usize, segment: usize) -> bool {
    (2 * chunks * conversation + segment) % 100 == 99
}

/// All facts, in the order in which they are written.
pub(crate) fn outgoing(shape: Shape) -> impl Iterator<Item = Outgoing> + Send {
    let Shape { conversations, chunks, interleaved } = shape;
    let rounds = (0..conversations).step_by(interleaved).flat_map(move |first| {
        (0..=chunks).flat_map(move |step| {
            (first..conversations.min(first + interleaved)).flat_map(move |conversation| {
                if step < chunks {
                    chunk(conversation, chunks, step)
                } else {
                    vec![finish(conversation, chunks)]
                }
            })
        })
    });
    (1_usize..).zip(rounds).flat_map(|(serial, record)| {
        std::iter::repeat_n(outgoing_of(&record), 1 + usize::from(serial.is_multiple_of(50)))
    })
}

fn outgoing_of(record: &Record) -> Outgoing {
    let key = record.conversation_id().as_bytes();
    let partition = Partition(partition_for(key, PARTITIONS));
    Outgoing {
        to: TopicPartition { topic: topic_of(record.name()), partition },
        key: Some(Bytes::copy_from_slice(key)),
        value: Some(encode(record)),
        headers: Vec::new(),
    }
}

fn finish(conversation: usize, chunks: usize) -> Record {
    let conversation = name(conversation);
    Record::Finish(Finish {
        conversation_id: conversation.clone(),
        event_id: format!("finish-{conversation}"),
        expected_chunks: i32::try_from(chunks).ok(),
        ..Default::default()
    })
}

/// The four facts of one chunk.
fn chunk(which: usize, chunks: usize, number: usize) -> Vec<Record> {
    let conversation = name(which);
    let upload = Upload {
        conversation_id: conversation.clone(),
        event_id: format!("upload-{conversation}-{number}"),
        chunk_id: format!("chunk-{number:05}"),
        object: Object {
            bucket: "bench".to_owned(),
            key: format!("uploads/{conversation}/{number}"),
            etag: "0123456789abcdef0123456789abcdef".to_owned(),
            bytes: 480_000,
            ..Default::default()
        },
        content_type: Some("audio/webm".to_owned()),
        recorded_at: 1_790_000_000_000 + 30_000 * i64::try_from(number).unwrap_or(0),
        sequence: i64::try_from(number).ok(),
        ..Default::default()
    };
    let digest = upload_digest(&upload);
    let mut split = Split {
        conversation_id: conversation.clone(),
        event_id: format!("split-{conversation}-{number}"),
        chunk_id: upload.chunk_id.clone(),
        upload_digest: digest.clone(),
        plan_version: "1".to_owned(),
        bucket: "bench".to_owned(),
        key_prefix: format!("segments/{conversation}/{digest}/"),
        duration_ms: 30_000,
        segments: (0..2)
            .map(|index| SplitSegment {
                index,
                start_ms: i64::from(index) * 15_000,
                end_ms: i64::from(index + 1) * 15_000,
                bytes: 240_000,
                sha256: vec![7; 32],
                forced_cut: false,
            })
            .collect(),
        ..Default::default()
    };
    split.digest = split_digest(&split);
    let answers = [0, 1].map(|segment| {
        let place = 2 * number + usize::from(segment == 1);
        answer(&split, segment, number, fails(which, chunks, place))
    });
    [Record::Upload(upload), Record::Split(split)].into_iter().chain(answers).collect()
}

/// A transcript of 400 bytes and 20 words, or a failure instead.
fn answer(split: &Split, segment: i32, number: usize, fails: bool) -> Record {
    if fails {
        return Record::Failure(Failure {
            conversation_id: split.conversation_id.clone(),
            event_id: format!("failure-{}-{number}-{segment}", split.conversation_id),
            stage: "transcribe".to_owned(),
            class: "permanent".to_owned(),
            code: "unsupported".to_owned(),
            message: "the provider refuses the segment".to_owned(),
            chunk_id: Some(split.chunk_id.clone()),
            upload_digest: Some(split.upload_digest.clone()),
            split_digest: Some(split.digest.clone()),
            segment: Some(segment),
            attempt: 1,
            terminal: true,
            ..Default::default()
        });
    }
    let words: Vec<Word> = (0..20)
        .map(|word| Word {
            text: format!("word-{number:05}-{segment}-{word:06}"),
            start_ms: i64::from(segment) * 15_000 + i64::from(word) * 700,
            end_ms: i64::from(segment) * 15_000 + i64::from(word) * 700 + 600,
            ..Default::default()
        })
        .collect();
    let text: Vec<&str> = words.iter().map(|word| word.text.as_str()).collect();
    let mut transcript = Transcript {
        conversation_id: split.conversation_id.clone(),
        event_id: format!("transcript-{}-{number}-{segment}", split.conversation_id),
        chunk_id: split.chunk_id.clone(),
        upload_digest: split.upload_digest.clone(),
        split_digest: split.digest.clone(),
        provider: "bench".to_owned(),
        model: "bench".to_owned(),
        text: text.join(" "),
        segment,
        start_ms: i64::from(segment) * 15_000,
        end_ms: i64::from(segment + 1) * 15_000,
        audio_ms: 15_000,
        words: words.into_iter().collect(),
        ..Default::default()
    };
    transcript.text_sha256 = text_sha256(&transcript);
    Record::Transcript(transcript)
}
