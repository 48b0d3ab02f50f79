//! No finalize before its time: what each of them must have known, worked out from the log's times.

use std::collections::BTreeSet;

use hansard_core::id::{Millis, Timestamp};
use hansard_schemas::{Finalize, FinalizeChunk};

use super::checks::Story;

const IDLE: Millis = Millis(5 * 60_000);
const MISSING: Millis = Millis(2 * 3_600_000);

/// Checks every finalize of a conversation.
pub(super) fn check(story: &Story, wrong: &mut Vec<String>) {
    let mut before: Option<&(Timestamp, Finalize)> = None;
    for (at, finalize) in &story.finalizes {
        let mut say =
            |what: String| wrong.push(format!("revision {} at {}: {what}", finalize.revision, at.0));
        if finalize.outcome != "incomplete" {
            finalize.chunks.iter().filter_map(|chunk| unanswered(story, chunk, *at)).for_each(&mut say);
            let least = story.finishes.iter().filter_map(|(_, finish)| finish.expected_chunks).min();
            // By another cause it may be made before the Finish is read.
            let told = finalize.cause == "finish";
            if told && least.is_some_and(|least| finalize.counts.chunks < least) {
                say(format!("{} chunks are called {}", finalize.counts.chunks, finalize.outcome));
            }
        }
        match finalize.cause.as_str() {
            "finish" if !story.finishes.iter().any(|(when, _)| when <= at) => say("no finish".to_owned()),
            "idle" => idle(story, finalize, *at, None).into_iter().for_each(&mut say),
            "late" => {
                let since = before.map_or(Timestamp::MIN, |(since, _)| *since);
                idle(story, finalize, *at, Some(since)).into_iter().for_each(&mut say);
            }
            "deadline" if finalize.outcome == "incomplete" => {
                let newest = newest(story, finalize);
                if newest.is_some_and(|newest| *at < newest + MISSING) {
                    say("given up too early".to_owned());
                }
            }
            _ => {}
        }
        if let Some((last, earlier)) = before
            && finalize.revision == earlier.revision + 1
            && finalize.generations == earlier.generations
        {
            let doublings = u32::try_from(earlier.revision - 1).unwrap_or(0).min(20);
            let pace = Millis((10_000_i64 << doublings).min(3_600_000));
            if *at < *last + pace {
                say(format!("only {} ms after the one before", (*at - *last).0));
            }
        }
        before =
            Some(&story.finalizes[story.finalizes.iter().position(|held| &held.1 == finalize).unwrap_or(0)]);
    }
}

/// A chunk of a finalize that was not answered when it was made.
fn unanswered(story: &Story, chunk: &FinalizeChunk, at: Timestamp) -> Option<String> {
    let id = &chunk.chunk_id;
    let mut answered = BTreeSet::new();
    let texts = story.transcripts.iter().filter(|(when, text)| *when <= at && text.chunk_id == *id);
    answered.extend(texts.map(|(_, text)| text.segment));
    let known = answered.len();
    let failures = story
        .failures
        .iter()
        .filter(|(when, failure)| *when <= at && failure.terminal && failure.chunk_id.as_ref() == Some(id));
    let mut cut_failed = false;
    for (_, failure) in failures {
        cut_failed |= failure.stage == "split";
        answered.extend(failure.segment);
    }
    let segments = usize::try_from(chunk.segments).unwrap_or(0);
    let cut = story.splits.iter().any(|(when, split)| *when <= at && split.chunk_id == *id);
    let fine = match chunk.status.as_str() {
        "complete" => cut && known >= segments,
        "with_failures" => cut && answered.len() >= segments,
        "failed" => cut_failed,
        _ => false,
    };
    (!fine).then(|| format!("chunk {id} is called {} too early", chunk.status))
}

/// The newest first confirmation of those chunks that a finalize names.
fn newest(story: &Story, finalize: &Finalize) -> Option<Timestamp> {
    let chunks = story.chunks();
    finalize.chunks.iter().filter_map(|chunk| Some(chunks.get(chunk.chunk_id.as_str())?.0)).max()
}

/// Closed by idling: long enough after the newest chunk, and none was overlooked that came before that.
fn idle(story: &Story, finalize: &Finalize, at: Timestamp, since: Option<Timestamp>) -> Option<String> {
    let newest = newest(story, finalize)?;
    if since.is_some_and(|since| newest <= since) {
        return None;
    }
    let finished =
        story.finishes.iter().any(|(when, _)| *when <= at && since.is_none_or(|since| *when > since));
    if since.is_some() && finished {
        return None;
    }
    let own = story.opens.first().and_then(|(_, open)| open.idle_after_ms);
    let until = newest + own.map_or(IDLE, Millis);
    if at < until {
        return Some(format!("idle only for {} ms", (at - newest).0));
    }
    let named: BTreeSet<&str> = finalize.chunks.iter().map(|chunk| chunk.chunk_id.as_str()).collect();
    let chunks = story.chunks();
    let mut overlooked = chunks.iter().filter(|(chunk, (when, _))| *when < until && !named.contains(*chunk));
    overlooked.next().map(|(chunk, _)| format!("chunk {chunk} had come before it was idle"))
}
