//! Where each chunk lies in the conversation.
//!
//! A producer's clocks only order and place; they decide nothing. The rule:
//! 1. Within a track chunks are ordered by `sequence` if all of them have one, else by `recorded_at`, then by chunk id.
//! 2. A track begins at the `recorded_at` of its first chunk in that order. The conversation begins where its first track
//!    does, at offset 0, so no offset is negative.
//! 3. In a track by `sequence` each chunk follows where its predecessor ends, whatever its clock says: a clock that
//!    jumps moves nothing, a missing number leaves no gap, and a chunk that was not cut has no length.
//! 4. In a track by `recorded_at` each chunk lies at its own `recorded_at`. Chunks may overlap, and so may tracks.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use crate::id::{ChunkId, Millis, Timestamp, Track};

/// What places a chunk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recording<'a> {
    /// Which chunk.
    pub chunk: &'a ChunkId,
    /// Its track.
    pub track: &'a Track,
    /// Its number within the track.
    pub sequence: Option<u32>,
    /// Start of the recording by the producer's clock.
    pub recorded_at: Timestamp,
    /// Decoded length; 0 where it is not known.
    pub duration: Millis,
}

/// A chunk in its place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Placed {
    /// Place of the recording in the input.
    pub index: usize,
    /// Start, from the start of the conversation.
    pub offset: Millis,
}

/// Places the recordings of one conversation: by offset, then track, then their order within the track.
#[must_use]
pub fn place(recordings: &[Recording<'_>]) -> Vec<Placed> {
    let mut tracks: BTreeMap<&Track, Vec<usize>> = BTreeMap::new();
    for (index, recording) in recordings.iter().enumerate() {
        tracks.entry(recording.track).or_default().push(index);
    }
    let mut origin = Timestamp::MAX;
    let mut placed: Vec<Placed> = Vec::with_capacity(recordings.len());
    for track in tracks.values_mut() {
        let numbered = track.iter().all(|index| recordings[*index].sequence.is_some());
        track.sort_by_key(|index| {
            let recording = &recordings[*index];
            let sequence = recording.sequence.filter(|_| numbered);
            let recorded_at = if numbered { Timestamp::MIN } else { recording.recorded_at };
            (sequence, recorded_at, recording.chunk)
        });
        let start = track.first().map_or(Timestamp::MAX, |first| recordings[*first].recorded_at);
        origin = origin.min(start);
        let mut end = start;
        for index in track.iter() {
            let recording = &recordings[*index];
            let at = if numbered { end } else { recording.recorded_at };
            end = at + recording.duration.max(Millis::ZERO);
            // Until the origin is known, an offset is counted from the epoch.
            placed.push(Placed { index: *index, offset: Millis(at.0) });
        }
    }
    for place in &mut placed {
        place.offset = (Timestamp(place.offset.0) - origin).max(Millis::ZERO);
    }
    // The sort is stable and the tracks were pushed in order, each in its own order.
    placed.sort_by_key(|place| place.offset);
    placed
}
