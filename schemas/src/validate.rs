//! The check of records against the limits. Whoever takes a record from outside checks it first, and what it
//! refuses fails for good with the code; whoever writes one can rely on the same rules.

use std::collections::BTreeMap;

use crate::limits::{
    CHUNK_MS_MAX, CHUNK_SEGMENTS_MAX, CHUNKS_MAX, CODE_BYTES_MAX, Checked, EVENT_ID_BYTES_MAX,
    FREE_BYTES_MAX, GAPS_MAX, Invalid, NAME_BYTES_MAX, OPTION_BYTES_MAX, PATIENCE_MS_MAX, STATUS_BYTES_MAX,
    TIME_MS_MAX, WEBHOOKS_MAX, below, check_chunk_id, check_conversation_id, check_track, demand, filled,
    finalize_digest, free, length, name, names, natural, range, sha256, span,
};
use crate::records::{
    Callback, Failure, Finalize, Finish, Merge, Object, Open, Options, Record, Rerun, Segment, Split,
    Summary, Transcript, Upload,
};

/// Checks a record against the limits.
///
/// # Errors
/// [`Invalid`] names the first field that breaks one.
pub fn validate(record: &Record) -> Result<(), Invalid> {
    check_conversation_id(record.conversation_id())?;
    filled("event_id", record.event_id(), EVENT_ID_BYTES_MAX)?;
    length("source", record.source().len(), NAME_BYTES_MAX)?;
    free_map("attributes", record.attributes())?;
    match record {
        Record::Open(record) => open(record),
        Record::Upload(record) => upload(record),
        Record::Finish(record) => finish(record),
        Record::Rerun(record) => rerun(record),
        Record::Erase(record) => names(&[("requested_by", &record.requested_by), ("reason", &record.reason)]),
        Record::Split(record) => split(record),
        Record::Segment(record) => segment(record),
        Record::Callback(record) => callback(record),
        Record::Transcript(record) => transcript(record),
        Record::Failure(record) => failure(record),
        Record::Finalize(record) => finalize(record),
        Record::Merge(record) => merge(record),
        Record::Summary(record) => summary(record),
        Record::Conversation(record) => {
            natural("revision", record.revision)?;
            free_map("labels", &record.labels)
        }
        Record::Delivery(record) => natural("attempt", record.attempt),
    }
}

fn open(open: &Open) -> Checked {
    names(&[("title", &open.title), ("external_ref", &open.external_ref)])?;
    free_map("labels", &open.labels)?;
    open.options.as_ref().map_or(Ok(()), options)?;
    for (field, patience) in
        [("idle_after_ms", open.idle_after_ms), ("missing_after_ms", open.missing_after_ms)]
    {
        patience.map_or(Ok(()), |patience| range(field, patience, 1, PATIENCE_MS_MAX))?;
    }
    length("webhook_urls", open.webhook_urls.len(), WEBHOOKS_MAX)?;
    free("webhook_urls", open.webhook_urls.len(), open.webhook_urls.iter())
}

fn upload(upload: &Upload) -> Checked {
    check_chunk_id(&upload.chunk_id)?;
    object(&upload.object)?;
    names(&[("content_type", &upload.content_type)])?;
    range("recorded_at", upload.recorded_at, 0, TIME_MS_MAX)?;
    check_track(&upload.track)?;
    upload.sequence.map_or(Ok(()), |sequence| below("sequence", sequence, CHUNKS_MAX))?;
    upload.options.as_ref().map_or(Ok(()), options)
}

fn finish(finish: &Finish) -> Checked {
    finish.expected_chunks.map_or(Ok(()), |count| below("expected_chunks", count, CHUNKS_MAX))?;
    let mut all = 0;
    for (track, count) in &finish.expected_by_track {
        check_track(track)?;
        below("expected_by_track", *count, CHUNKS_MAX)?;
        all += i64::from(*count);
    }
    length("expected_by_track", finish.expected_by_track.len(), CHUNKS_MAX)?;
    // A window keeps a place for each chunk that is expected, so their sum is bounded too.
    below("expected_by_track", all, CHUNKS_MAX)
}

fn rerun(rerun: &Rerun) -> Checked {
    let stages = ["transcribe", "merge", "summarize"];
    demand("stage", stages.contains(&rerun.stage.as_str()), "transcribe, merge or summarize")?;
    demand("only", ["failed", "all"].contains(&rerun.only.as_str()), "failed or all")?;
    rerun.options.as_ref().map_or(Ok(()), options)
}

fn split(split: &Split) -> Checked {
    check_chunk_id(&split.chunk_id)?;
    sha256("upload_digest", &split.upload_digest)?;
    sha256("digest", &split.digest)?;
    name("plan_version", &split.plan_version)?;
    name("bucket", &split.bucket)?;
    length("key_prefix", split.key_prefix.len(), NAME_BYTES_MAX)?;
    names(&[("codec", &split.codec), ("container", &split.container)])?;
    range("duration_ms", split.duration_ms, 0, CHUNK_MS_MAX)?;
    range("silent_ms", split.silent_ms, 0, CHUNK_MS_MAX)?;
    length("segments", split.segments.len(), CHUNK_SEGMENTS_MAX)?;
    for (index, segment) in split.segments.iter().enumerate() {
        demand("segments.index", usize::try_from(segment.index) == Ok(index), "the position in the array")?;
        span(segment.start_ms, segment.end_ms)?;
        natural("segments.bytes", segment.bytes)?;
        demand("segments.sha256", segment.sha256.len() == 32, "32 bytes long")?;
    }
    Ok(())
}

fn segment(segment: &Segment) -> Checked {
    check_chunk_id(&segment.chunk_id)?;
    sha256("upload_digest", &segment.upload_digest)?;
    sha256("split_digest", &segment.split_digest)?;
    range("of", segment.of, 1, CHUNK_SEGMENTS_MAX as i64)?;
    range("segment", segment.segment, 0, i64::from(segment.of) - 1)?;
    natural("generation", segment.generation)?;
    object(&segment.object)?;
    span(segment.start_ms, segment.end_ms)?;
    options(&segment.options)
}

fn callback(callback: &Callback) -> Checked {
    name("journal_key", &callback.journal_key)?;
    name("provider", &callback.provider)?;
    name("job_id", &callback.job_id)?;
    names(&[("content_type", &callback.content_type)])
}

fn transcript(transcript: &Transcript) -> Checked {
    check_chunk_id(&transcript.chunk_id)?;
    sha256("upload_digest", &transcript.upload_digest)?;
    sha256("split_digest", &transcript.split_digest)?;
    sha256("text_sha256", &transcript.text_sha256)?;
    below("segment", transcript.segment, CHUNK_SEGMENTS_MAX)?;
    natural("generation", transcript.generation)?;
    span(transcript.start_ms, transcript.end_ms)?;
    natural("audio_ms", transcript.audio_ms)?;
    for redaction in &transcript.redactions {
        natural("redactions.start", redaction.start)?;
        let end = i64::try_from(transcript.text.len()).unwrap_or(i64::MAX);
        range("redactions.end", redaction.end, redaction.start.into(), end)?;
    }
    Ok(())
}

fn failure(failure: &Failure) -> Checked {
    name("stage", &failure.stage)?;
    let classes = ["transient", "unavailable", "permanent", "fenced", "defect"];
    let expected = "transient, unavailable, permanent, fenced or defect";
    demand("class", classes.contains(&failure.class.as_str()), expected)?;
    filled("code", &failure.code, CODE_BYTES_MAX)?;
    length("message", failure.message.len(), FREE_BYTES_MAX)?;
    failure.chunk_id.as_deref().map_or(Ok(()), check_chunk_id)?;
    failure.upload_digest.as_ref().map_or(Ok(()), |digest| sha256("upload_digest", digest))?;
    failure.split_digest.as_ref().map_or(Ok(()), |digest| sha256("split_digest", digest))?;
    failure.finalize_digest.as_ref().map_or(Ok(()), |digest| finalize_digest("finalize_digest", digest))?;
    failure.segment.map_or(Ok(()), |segment| below("segment", segment, CHUNK_SEGMENTS_MAX))?;
    failure.revision.map_or(Ok(()), |revision| range("revision", revision, 1, i32::MAX.into()))?;
    natural("generation", failure.generation)?;
    natural("attempt", failure.attempt)
}

fn finalize(finalize: &Finalize) -> Checked {
    range("revision", finalize.revision, 1, i32::MAX.into())?;
    finalize_digest("digest", &finalize.digest)?;
    finalize.generations.values().try_for_each(|generation| natural("generations", *generation))?;
    finalize.options.values().try_for_each(options)?;
    length("chunks", finalize.chunks.len(), CHUNKS_MAX)?;
    for chunk in &finalize.chunks {
        check_chunk_id(&chunk.chunk_id)?;
        check_track(&chunk.track)?;
        filled("chunks.status", &chunk.status, STATUS_BYTES_MAX)?;
        demand("chunks.digest", [0, 32].contains(&chunk.digest.len()), "32 bytes long, or empty")?;
        range("chunks.offset_ms", chunk.offset_ms, 0, 2 * TIME_MS_MAX)?;
        range("chunks.duration_ms", chunk.duration_ms, 0, CHUNK_MS_MAX)?;
    }
    length("gaps", finalize.gaps.len(), GAPS_MAX)?;
    for gap in &finalize.gaps {
        gap.chunk_id.as_deref().map_or(Ok(()), check_chunk_id)?;
        check_track(&gap.track)?;
        filled("gaps.status", &gap.status, STATUS_BYTES_MAX)?;
        filled("gaps.code", &gap.code, CODE_BYTES_MAX)?;
    }
    Ok(())
}

fn merge(merge: &Merge) -> Checked {
    result(merge.revision, merge.generation, &merge.finalize_digest, &merge.outcome, merge.code.as_deref())?;
    length("inputs", merge.inputs.len(), CHUNKS_MAX)?;
    for input in &merge.inputs {
        check_chunk_id(&input.chunk_id)?;
        filled("inputs.status", &input.status, STATUS_BYTES_MAX)?;
        input.code.as_deref().map_or(Ok(()), |code| filled("inputs.code", code, CODE_BYTES_MAX))?;
    }
    Ok(())
}

fn summary(summary: &Summary) -> Checked {
    result(
        summary.revision,
        summary.generation,
        &summary.finalize_digest,
        &summary.outcome,
        summary.code.as_deref(),
    )
}

/// What the answers to a finalize have in common.
fn result(revision: i32, generation: i64, digest: &str, outcome: &str, code: Option<&str>) -> Checked {
    range("revision", revision, 1, i32::MAX.into())?;
    natural("generation", generation)?;
    finalize_digest("finalize_digest", digest)?;
    filled("outcome", outcome, STATUS_BYTES_MAX)?;
    code.map_or(Ok(()), |code| filled("code", code, CODE_BYTES_MAX))
}

fn object(object: &Object) -> Checked {
    name("object.bucket", &object.bucket)?;
    name("object.key", &object.key)?;
    length("object.etag", object.etag.len(), NAME_BYTES_MAX)?;
    natural("object.bytes", object.bytes)?;
    names(&[("object.version_id", &object.version_id)])?;
    object.sha256.as_ref().map_or(Ok(()), |digest| sha256("object.sha256", digest))
}

fn options(options: &Options) -> Checked {
    let named = [
        ("options.language", &options.language),
        ("options.provider", &options.provider),
        ("options.model", &options.model),
    ];
    for (field, value) in named {
        value.as_ref().map_or(Ok(()), |value| filled(field, value, OPTION_BYTES_MAX))?;
    }
    free("options.keyterms", options.keyterms.len(), options.keyterms.iter())
}

fn free_map(field: &'static str, map: &BTreeMap<String, String>) -> Checked {
    free(field, map.len(), map.keys().chain(map.values()))
}
