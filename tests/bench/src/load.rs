//! The benchmark's facts: conversations of some chunks with two segments each, 500 of them interleaved; 1 % of the
//! segments fail instead, 2 % of all facts come twice.

use std::path::Path;

use anyhow::Result;
use bytes::Bytes;
use hansard_core::id::Partition;
use hansard_runtime::ports::log::{Outgoing, TopicPartition};
use hansard_schemas::{
    Failure, Finish, Object, Record, Split, SplitSegment, Transcript, Upload, Word, encode, partition_for,
    split_digest, text_sha256, topic_of, upload_digest,
};

use crate::world::{self, PARTITIONS};

/// Conversations whose facts come mixed.
const INTERLEAVED: usize = 500;
/// Records of one append.
const APPEND: usize = 5_000;

/// Facts of a conversation of `chunks` chunks: as many Uploads and Splits, twice as many transcripts, and a Finish.
pub(crate) fn facts_of(chunks: usize) -> usize {
    4 * chunks + 1
}

/// Writes about `facts` facts into a fresh engine.
pub(crate) async fn load(directory: &Path, facts: usize, chunks: usize) -> Result<()> {
    let (_engine, ports) = world::open(directory)?;
    let conversations = facts / facts_of(chunks);
    let mut serial = 0_usize;
    let mut batch = Vec::with_capacity(APPEND);
    for first in (0..conversations).step_by(INTERLEAVED) {
        let names: Vec<String> =
            (first..conversations.min(first + INTERLEAVED)).map(|n| format!("c-{n:06}")).collect();
        for step in 0..=chunks {
            for name in &names {
                let records = if step < chunks { chunk(name, step) } else { vec![finish(name, chunks)] };
                for record in records {
                    serial += 1;
                    let twice = serial.is_multiple_of(50);
                    batch.extend(std::iter::repeat_n(outgoing(&record), 1 + usize::from(twice)));
                }
                if batch.len() >= APPEND {
                    ports.log.append(std::mem::take(&mut batch)).await?;
                }
            }
        }
    }
    ports.log.append(batch).await?;
    Ok(())
}

fn outgoing(record: &Record) -> Outgoing {
    let key = record.conversation_id().as_bytes();
    let partition = Partition(partition_for(key, PARTITIONS));
    Outgoing {
        to: TopicPartition { topic: topic_of(record.name()), partition },
        key: Some(Bytes::copy_from_slice(key)),
        value: Some(encode(record)),
        headers: Vec::new(),
    }
}

fn finish(conversation: &str, chunks: usize) -> Record {
    Record::Finish(Finish {
        conversation_id: conversation.to_owned(),
        event_id: format!("finish-{conversation}"),
        expected_chunks: i32::try_from(chunks).ok(),
        ..Default::default()
    })
}

/// The four facts of one chunk.
fn chunk(conversation: &str, number: usize) -> Vec<Record> {
    let upload = Upload {
        conversation_id: conversation.to_owned(),
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
        conversation_id: conversation.to_owned(),
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
    let answers = [answer(&split, 0, number), answer(&split, 1, number)];
    [Record::Upload(upload), Record::Split(split)].into_iter().chain(answers).collect()
}

/// A transcript of 400 bytes and 20 words; every hundredth segment fails instead.
fn answer(split: &Split, segment: i32, number: usize) -> Record {
    if (2 * number + usize::try_from(segment).unwrap_or(0)) % 100 == 99 {
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
