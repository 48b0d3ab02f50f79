//! The digests by which records refer to each other's content: SHA-256 over fields in Avro, in the order of the
//! schema. What each covers was frozen by the first release: fields that come later stay outside, so that the
//! digest of a record in the log never changes.

use sha2::{Digest, Sha256};

use crate::codec::{Datum, write_len, write_long};
use crate::records::{
    Object, Options, RecordName, Redaction, Segment, Split, SplitSegment, Transcript, Upload, Word,
};

/// The identity of an event: lower-case hex SHA-256 of the record's name and of the parts that name the event (a
/// journal key and finalize digest, or a row's key), each behind its length in 8 big-endian bytes, so that parts
/// cannot run into each other.
pub fn event_id(record: RecordName, parts: &[&[u8]]) -> String {
    let mut sha256 = Sha256::new();
    for part in [record.as_str().as_bytes()].iter().chain(parts) {
        sha256.update((part.len() as u64).to_be_bytes());
        sha256.update(part);
    }
    hex::encode(sha256.finalize())
}

/// Lower-case hex SHA-256 of the Upload's own fields, without those that all records have.
pub fn upload_digest(upload: &Upload) -> String {
    digest(|avro| {
        upload.chunk_id.write(avro);
        put_object(&upload.object, avro);
        upload.content_type.write(avro);
        upload.recorded_at.write(avro);
        upload.track.write(avro);
        upload.sequence.write(avro);
        upload.continues.write(avro);
        write_long(i64::from(upload.options.is_some()), avro);
        upload.options.iter().for_each(|options| put_options(options, avro));
    })
}

/// `Split.digest`: lower-case hex SHA-256 of the Split's own fields other than the digest itself.
pub fn split_digest(split: &Split) -> String {
    digest(|avro| {
        split.chunk_id.write(avro);
        split.upload_digest.write(avro);
        split.plan_version.write(avro);
        split.bucket.write(avro);
        split.key_prefix.write(avro);
        split.duration_ms.write(avro);
        split.codec.write(avro);
        split.container.write(avro);
        split.sample_rate.write(avro);
        split.channels.write(avro);
        split.truncated.write(avro);
        split.silent_ms.write(avro);
        put_array(split.segments.iter(), avro, |segment: &SplitSegment, avro| {
            segment.index.write(avro);
            segment.start_ms.write(avro);
            segment.end_ms.write(avro);
            segment.bytes.write(avro);
            segment.sha256.write(avro);
            segment.forced_cut.write(avro);
        });
    })
}

/// Lower-case hex SHA-256 of the Segment's own fields except its generation: what transcribe's journal knows the
/// work by, so that a rerun of the same work differs by its generation alone.
pub fn segment_digest(segment: &Segment) -> String {
    digest(|avro| {
        segment.chunk_id.write(avro);
        segment.upload_digest.write(avro);
        segment.split_digest.write(avro);
        segment.segment.write(avro);
        segment.of.write(avro);
        put_object(&segment.object, avro);
        segment.start_ms.write(avro);
        segment.end_ms.write(avro);
        put_options(&segment.options, avro);
    })
}

/// `Transcript.text_sha256`: lower-case hex SHA-256 of text, words and redactions.
pub fn text_sha256(transcript: &Transcript) -> String {
    digest(|avro| {
        transcript.text.write(avro);
        put_array(transcript.words.iter(), avro, |word: Word, avro| {
            word.text.write(avro);
            word.start_ms.write(avro);
            word.end_ms.write(avro);
            word.confidence.write(avro);
            word.speaker.write(avro);
        });
        put_array(transcript.redactions.iter(), avro, |redaction: &Redaction, avro| {
            redaction.kind.write(avro);
            redaction.start.write(avro);
            redaction.end.write(avro);
        });
    })
}

fn digest(put: impl FnOnce(&mut Vec<u8>)) -> String {
    let mut avro = Vec::with_capacity(512);
    put(&mut avro);
    hex::encode(Sha256::digest(&avro))
}

fn put_object(object: &Object, avro: &mut Vec<u8>) {
    object.bucket.write(avro);
    object.key.write(avro);
    object.etag.write(avro);
    object.bytes.write(avro);
    object.version_id.write(avro);
    object.sha256.write(avro);
}

fn put_options(options: &Options, avro: &mut Vec<u8>) {
    options.language.write(avro);
    options.provider.write(avro);
    options.model.write(avro);
    options.redact_pii.write(avro);
    options.diarize.write(avro);
    options.keyterms.write(avro);
}

fn put_array<T>(items: impl ExactSizeIterator<Item = T>, avro: &mut Vec<u8>, put: impl Fn(T, &mut Vec<u8>)) {
    if items.len() > 0 {
        write_len(items.len(), avro);
        items.for_each(|item| put(item, avro));
    }
    write_len(0, avro);
}
