//! What is known of one chunk: its standing Upload, and for every Upload ever seen its Split, failure and segments.
//!
//! Facts of an Upload that does not stand are kept, since an Upload with a lower offset may yet make it stand.

use alloc::vec::Vec;
use core::mem::size_of;

use super::keyed::Keyed;
use super::segment::{Coverage, Failed, Pieces, Segment};
use super::steps;
use crate::fact::{Rerun, Split, Upload};
use crate::id::{Digest, Generation, Millis, Offset, Only, Stage, Timestamp, Track};

/// Segments with this number or a higher one are not kept: no Split may have so many.
pub const SEGMENTS_PER_CHUNK: u32 = 5_000;

/// The standing Upload of a chunk.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Confirmed {
    /// Offset in `uploads`.
    pub offset: Offset,
    /// `upload_digest`.
    pub digest: Digest,
    /// Log time of this first confirmation.
    pub time: Timestamp,
    /// The producer's line of chunks.
    pub track: Track,
    /// Number within the track.
    pub sequence: Option<u32>,
    /// Start of the recording by the producer's clock.
    pub recorded_at: Timestamp,
}

/// The standing Split of an Upload.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Cut {
    /// Offset in `splits`.
    pub offset: Offset,
    /// The Split's digest.
    pub digest: Digest,
    /// Log time.
    pub time: Timestamp,
    /// Number of segments.
    pub segments: u32,
    /// Length of the decoded chunk.
    pub duration: Millis,
}

#[derive(Debug, Clone, PartialEq, Eq, Default)]
struct Branch {
    cut: Option<Cut>,
    failure: Option<Failed>,
}

#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Chunk {
    pub(crate) upload: Option<Confirmed>,
    branches: Keyed<Digest, Branch>,
    segments: Keyed<(Digest, Digest), Vec<Segment>>,
    /// Derived: what reruns ask of the standing Split's segments.
    coverage: Coverage,
    /// Derived: how the standing Split's segments stand.
    pub(crate) pieces: Pieces,
}

impl Chunk {
    pub(crate) fn confirm(&mut self, upload: &Upload) -> bool {
        let confirmed = Confirmed {
            offset: upload.offset,
            digest: upload.digest,
            time: upload.time,
            track: upload.track.clone(),
            sequence: upload.sequence,
            recorded_at: upload.recorded_at,
        };
        keep_lowest(&mut self.upload, confirmed)
    }

    pub(crate) fn cut(&mut self, split: &Split) -> bool {
        let cut = Cut {
            offset: split.offset,
            digest: split.digest,
            time: split.time,
            segments: split.segments,
            duration: split.duration,
        };
        keep_lowest(&mut self.branches.at(split.upload_digest).cut, cut)
    }

    pub(crate) fn cut_failed(
        &mut self,
        upload: Digest,
        generation: Generation,
        code: &alloc::sync::Arc<str>,
    ) -> bool {
        Failed::join(&mut self.branches.at(upload).failure, generation, code)
    }

    /// Changes one segment; says whether it changed, and how the standing pieces stood before and stand after.
    pub(crate) fn answer(
        &mut self,
        (upload, split, segment): (Digest, Digest, u32),
        change: impl FnOnce(&mut Segment) -> bool,
    ) -> (bool, Pieces, Pieces) {
        let unchanged = (false, self.pieces, self.pieces);
        if segment >= SEGMENTS_PER_CHUNK {
            return unchanged;
        }
        let counts = self.standing_cut().is_some_and(|cut| cut.digest == split && segment < cut.segments)
            && self.upload.as_ref().is_some_and(|standing| standing.digest == upload);
        let place = segment as usize;
        let line = self.segments.at((upload, split));
        if line.len() <= place {
            line.resize(place + 1, Segment::default());
        }
        let before = line[place].pieces(&self.coverage);
        if !change(&mut line[place]) {
            return unchanged;
        }
        let was = self.pieces;
        if counts {
            self.pieces -= before;
            self.pieces += line[place].pieces(&self.coverage);
        }
        (true, was, self.pieces)
    }

    /// Derives what depends on the standing Upload and Split and on the reruns anew.
    pub(crate) fn derive<'a>(&mut self, reruns: impl Iterator<Item = &'a Rerun>) {
        (self.coverage, self.pieces) = (Coverage::default(), Pieces::default());
        let Some(cut) = self.standing_cut() else { return };
        let (time, segments) = (cut.time, cut.segments);
        let mut coverage = Coverage::default();
        for rerun in reruns.filter(|rerun| rerun.stage == Stage::Transcribe && rerun.time >= time) {
            steps(1);
            let generation = rerun.offset.generation();
            coverage.any = coverage.any.max(generation);
            if rerun.only == Only::All {
                coverage.all = coverage.all.max(generation);
            }
        }
        let mut pieces = Pieces::default();
        let mut known = 0;
        for segment in self.standing_segments().iter().take(segments as usize) {
            steps(1);
            pieces += segment.pieces(&coverage);
            known += 1;
        }
        let unknown = u64::from(segments) - known;
        pieces += Pieces { segments: unknown, waiting: unknown, ..Pieces::default() };
        (self.coverage, self.pieces) = (coverage, pieces);
    }

    fn standing_branch(&self) -> Option<&Branch> {
        self.upload.as_ref().and_then(|upload| self.branches.get(&upload.digest))
    }

    /// The standing Split of the standing Upload.
    pub(crate) fn standing_cut(&self) -> Option<&Cut> {
        self.standing_branch().and_then(|branch| branch.cut.as_ref())
    }

    /// Why the standing Upload could not be cut; a Split beats it.
    pub(crate) fn standing_failure(&self) -> Option<&Failed> {
        self.standing_branch()
            .filter(|branch| branch.cut.is_none())
            .and_then(|branch| branch.failure.as_ref())
    }

    /// The known segments of the standing Split; it may have more, and never counts those beyond its number.
    fn standing_segments(&self) -> &[Segment] {
        let standing = self.upload.as_ref().zip(self.standing_cut());
        standing
            .and_then(|(upload, cut)| self.segments.get(&(upload.digest, cut.digest)))
            .map_or(&[], Vec::as_slice)
    }

    /// Every segment of the standing Split with its number, also those without any answer.
    pub(crate) fn segments(&self) -> impl Iterator<Item = (u32, &Segment)> {
        static UNKNOWN: Segment = Segment { text: None, failed: None };
        let known = self.standing_segments();
        let number = self.standing_cut().map_or(0, |cut| cut.segments).min(SEGMENTS_PER_CHUNK);
        (0..number).map(|segment| (segment, known.get(segment as usize).unwrap_or(&UNKNOWN)))
    }

    /// The segments that wait, each with the generation that it has to answer.
    pub(crate) fn waiting(&self) -> impl Iterator<Item = (u32, Generation, &Segment)> {
        let none = self.pieces.waiting == 0;
        self.segments()
            .filter(move |(_, segment)| !none && segment.waits(&self.coverage))
            .map(|(number, segment)| (number, segment.requested(&self.coverage), segment))
    }

    /// The segments that failed for good and wait for nothing.
    pub(crate) fn lost(&self) -> impl Iterator<Item = (u32, &Failed)> {
        let none = self.pieces.failed == 0;
        let lost = self
            .segments()
            .filter(move |(_, segment)| !none && segment.text.is_none() && !segment.waits(&self.coverage));
        lost.filter_map(|(number, segment)| segment.failed.as_ref().map(|failed| (number, failed)))
    }

    /// Arrived, and neither cut nor failed.
    pub(crate) fn unsplit(&self) -> bool {
        self.upload.is_some() && self.standing_cut().is_none() && self.standing_failure().is_none()
    }

    /// About how many bytes this chunk keeps, beside its own place in the window.
    pub(crate) fn approximate_bytes(&self) -> usize {
        let segments: usize = self.segments.values().map(|line| line.len() * size_of::<Segment>()).sum();
        segments
            + self.branches.len() * size_of::<(Digest, Branch)>()
            + self.segments.len() * size_of::<((Digest, Digest), Vec<Segment>)>()
    }
}

fn keep_lowest<T: Ord>(place: &mut Option<T>, offered: T) -> bool {
    let lower = place.as_ref().is_none_or(|held| offered < *held);
    if lower {
        *place = Some(offered);
    }
    lower
}
