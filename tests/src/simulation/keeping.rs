//! What must lie in the object store, and what must not, when a world has come to rest: worked out from the log and the
//! journal alone.

use std::collections::BTreeSet;

use hansard_runtime::driver::World;
use hansard_runtime::ports::journal::Step;
use hansard_schemas::{Record, Split, Stage, decode};

use super::checks::Story;

/// The keys of a split's segments, and of its waveform.
fn segments(split: &Split) -> impl Iterator<Item = String> + '_ {
    let hex = |sha256: &[u8]| sha256.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    let segments = split.segments.iter();
    let segments = segments.map(move |segment| format!("{}{}", split.key_prefix, hex(&segment.sha256)));
    segments.chain([format!("{}peaks.json", split.key_prefix)])
}

/// Everything that a conversation's records refer to.
fn referred(story: &Story) -> BTreeSet<String> {
    // Without an ETag nothing was ever uploaded.
    let uploads = story.uploads.iter().filter(|(_, upload)| upload.object.etag != "0");
    let mut keys: BTreeSet<String> = uploads.map(|(_, upload)| upload.object.key.clone()).collect();
    keys.extend(story.splits.iter().flat_map(|(_, split)| segments(split)));
    keys.extend(story.merges.iter().flat_map(|merge| [merge.key.clone(), merge.peaks_key.clone()]).flatten());
    keys.extend(story.summaries.iter().filter_map(|summary| summary.transcript_key.clone()));
    keys
}

/// Checks one conversation: what is referred to is there; of an erased one nothing is, nor what was never confirmed.
pub(super) fn check(world: &World, conversation: &str, story: &Story, wrong: &mut Vec<String>) {
    let there: BTreeSet<String> = world.object_keys("").into_iter().collect();
    let own = |key: &&String| key.split('/').nth(1) == Some(conversation);
    if world.is_erased(conversation) {
        wrong.extend(there.iter().filter(own).map(|key| format!("{key} outlived the erasure")));
        return;
    }
    let mut needed = referred(story);
    let journal = world.submissions().into_iter().filter(|(key, _)| key.conversation == conversation);
    for (_, submissions) in journal.filter(|(key, _)| matches!(key.stage, Stage::Split | Stage::Merge)) {
        for step in submissions.into_iter().flat_map(|submission| submission.steps) {
            let Step::Result(bytes) = step else { continue };
            match decode(&bytes) {
                Ok(Record::Split(split)) => needed.extend(segments(&split)),
                Ok(Record::Merge(merge)) => needed.extend([merge.key, merge.peaks_key].into_iter().flatten()),
                other => wrong.push(format!("the journal holds {other:?}")),
            }
        }
    }
    wrong.extend(needed.difference(&there).map(|key| format!("{key} is referred to and gone")));
    let stray = there.iter().filter(own).filter(|key| key.starts_with("uploads/") && !needed.contains(*key));
    wrong.extend(stray.map(|key| format!("{key} was never confirmed and is still there")));
}
