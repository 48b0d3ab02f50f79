//! What a window would otherwise have to count anew for every fact: what pends, what is missing, the newest times.
//!
//! All of it is derived from the chunks and the Finish, and kept up to date by taking a chunk's share out before it
//! changes and putting it back after; so it never depends on the order of facts.

use alloc::collections::BTreeMap;
use core::mem::size_of;

use super::chunk::Chunk;
use super::keyed::{Counted, tree_bytes};
use super::segment::Pieces;
use super::steps;
use crate::fact::Finish;
use crate::id::{Timestamp, Track};

#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Tally {
    pub(crate) pieces: Pieces,
    /// Chunks with a standing Upload.
    pub(crate) arrived: u64,
    /// Chunks that a fact names and that have no Upload.
    pub(crate) absent: u64,
    /// Chunks that arrived and are neither cut nor failed.
    pub(crate) unsplit: u64,
    /// Chunks that could not be cut.
    pub(crate) uncuttable: u64,
    /// First confirmations.
    pub(crate) confirmed: Counted<Timestamp>,
    /// Standing Splits.
    pub(crate) cut: Counted<Timestamp>,
    tracks: BTreeMap<Track, TrackTally>,
    /// Sum over the tracks of how many chunks are missing in each.
    short: u64,
}

#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct TrackTally {
    pub(crate) arrived: u64,
    pub(crate) sequences: Counted<u32>,
}

impl TrackTally {
    /// How many numbers below the highest have not arrived.
    pub(crate) fn holes(&self) -> u64 {
        self.sequences.greatest().map_or(0, |highest| u64::from(highest) + 1 - self.sequences.len() as u64)
    }
}

/// Least number of chunks that the Finish declares for the track.
fn expected_in(finish: Option<&Finish>, track: &Track) -> u64 {
    finish.and_then(|finish| finish.expected_by_track.get(track)).map_or(0, |expected| u64::from(*expected))
}

impl Tally {
    /// How many declared chunks have not arrived. A chunk that is only named and a number that is missing count apart,
    /// since nothing tells that they are one.
    pub(crate) fn missing(&self, finish: Option<&Finish>) -> u64 {
        let expected = finish.and_then(|finish| finish.expected_chunks).map_or(0, u64::from);
        expected.saturating_sub(self.arrived).max(self.named_or_short())
    }

    /// How many chunks are missing that a name, a number or a track tells of.
    pub(crate) fn named_or_short(&self) -> u64 {
        self.absent + self.short
    }

    pub(crate) fn track(&self, track: &Track) -> Option<&TrackTally> {
        self.tracks.get(track)
    }

    pub(crate) fn tracks(&self) -> impl Iterator<Item = (&Track, &TrackTally)> {
        self.tracks.iter()
    }

    /// How many declared chunks of one track have not arrived.
    pub(crate) fn short_in(&self, finish: Option<&Finish>, track: &Track) -> u64 {
        let held = self.tracks.get(track);
        let arrived = held.map_or(0, |held| held.arrived);
        expected_in(finish, track).saturating_sub(arrived).max(held.map_or(0, TrackTally::holes))
    }

    pub(crate) fn put(&mut self, chunk: &Chunk, finish: Option<&Finish>) {
        self.pieces += chunk.pieces;
        let Some(upload) = &chunk.upload else {
            self.absent += 1;
            return;
        };
        self.arrived += 1;
        self.unsplit += u64::from(chunk.unsplit());
        self.uncuttable += u64::from(chunk.standing_failure().is_some());
        self.confirmed.add(upload.time);
        if let Some(cut) = chunk.standing_cut() {
            self.cut.add(cut.time);
        }
        self.short -= self.short_in(finish, &upload.track);
        let track = self.tracks.entry(upload.track.clone()).or_default();
        track.arrived += 1;
        if let Some(sequence) = upload.sequence {
            track.sequences.add(sequence);
        }
        self.short += self.short_in(finish, &upload.track);
    }

    pub(crate) fn take(&mut self, chunk: &Chunk, finish: Option<&Finish>) {
        self.pieces -= chunk.pieces;
        let Some(upload) = &chunk.upload else {
            self.absent -= 1;
            return;
        };
        self.arrived -= 1;
        self.unsplit -= u64::from(chunk.unsplit());
        self.uncuttable -= u64::from(chunk.standing_failure().is_some());
        self.confirmed.remove(upload.time);
        if let Some(cut) = chunk.standing_cut() {
            self.cut.remove(cut.time);
        }
        self.short -= self.short_in(finish, &upload.track);
        if let Some(track) = self.tracks.get_mut(&upload.track) {
            track.arrived -= 1;
            if let Some(sequence) = upload.sequence {
                track.sequences.remove(sequence);
            }
            if track.arrived == 0 {
                self.tracks.remove(&upload.track);
            }
        }
        self.short += self.short_in(finish, &upload.track);
    }

    /// About how many bytes the tally keeps.
    pub(crate) fn approximate_bytes(&self) -> usize {
        let times = tree_bytes(self.confirmed.len(), 12) + tree_bytes(self.cut.len(), 12);
        let numbers = tree_bytes(self.confirmed.len(), 8);
        times + numbers + tree_bytes(self.tracks.len(), size_of::<(Track, TrackTally)>())
    }

    /// Another Finish stands: counts the tracks that either of them declares anew.
    pub(crate) fn expect(&mut self, old: Option<&Finish>, new: Option<&Finish>) {
        for (finish, other) in [(old, new), (new, None)] {
            for track in finish.into_iter().flat_map(|finish| finish.expected_by_track.keys()) {
                // A track that both declare is counted once, in the second round.
                if other.is_none_or(|other| !other.expected_by_track.contains_key(track)) {
                    steps(1);
                    self.short -= self.short_in(old, track);
                    self.short += self.short_in(new, track);
                }
            }
        }
    }
}
