//! What is known of one segment, and whether it waits.

use alloc::sync::Arc;
use core::ops::{AddAssign, SubAssign};

use crate::id::{Digest, Generation};
use crate::manifest::SegmentStatus;

/// The answers that a segment has had. Both halves only grow, each in its own total order.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Segment {
    pub(crate) text: Option<Transcribed>,
    pub(crate) failed: Option<Failed>,
}

/// The best text, and between which generations the texts lie.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Transcribed {
    lowest: Generation,
    pub(crate) highest: Generation,
    pub(crate) sha256: Digest,
}

/// The failure of the highest generation; of that the smallest code.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Failed {
    pub(crate) generation: Generation,
    pub(crate) code: Arc<str>,
}

impl Failed {
    /// Joins a failure into the place; says whether that changed it.
    pub(crate) fn join(place: &mut Option<Self>, generation: Generation, code: &Arc<str>) -> bool {
        let stands = place.as_ref().is_some_and(|held| {
            held.generation > generation || (held.generation == generation && held.code <= *code)
        });
        if !stands {
            *place = Some(Self { generation, code: Arc::clone(code) });
        }
        !stands
    }
}

/// The highest generations that reruns ask of the segments of one Split.
///
/// A rerun of failed segments does not cover one with a text of a lower generation, and one with a text of its own or a
/// higher generation has answered it. So it makes only segments without any text wait, and two numbers are enough.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Coverage {
    /// Of reruns of all segments.
    pub(crate) all: Generation,
    /// Of any rerun: what a segment without a text has to answer.
    pub(crate) any: Generation,
}

impl Segment {
    pub(crate) fn transcribed(&mut self, generation: Generation, sha256: Digest) -> bool {
        let Some(text) = &mut self.text else {
            self.text = Some(Transcribed { lowest: generation, highest: generation, sha256 });
            return true;
        };
        let better = (generation, sha256) > (text.highest, text.sha256);
        let lower = generation < text.lowest;
        if better {
            (text.highest, text.sha256) = (generation, sha256);
        }
        text.lowest = text.lowest.min(generation);
        better || lower
    }

    /// The generation that the segment has to answer; 0 asks for any answer.
    pub(crate) fn requested(&self, coverage: &Coverage) -> Generation {
        if self.text.is_some() { coverage.all } else { coverage.any }
    }

    pub(crate) fn waits(&self, coverage: &Coverage) -> bool {
        let texts = self.text.as_ref().map(|text| text.highest);
        let failures = self.failed.as_ref().map(|failed| failed.generation);
        texts.max(failures).is_none_or(|answered| answered < self.requested(coverage))
    }

    pub(crate) fn status(&self) -> SegmentStatus {
        match self {
            Self { text: Some(text), .. } => SegmentStatus::Transcribed(text.sha256),
            Self { failed: Some(_), .. } => SegmentStatus::Failed,
            Self { .. } => SegmentStatus::Pending,
        }
    }

    pub(crate) fn pieces(&self, coverage: &Coverage) -> Pieces {
        let waits = self.waits(coverage);
        Pieces {
            segments: 1,
            transcribed: u64::from(self.text.is_some()),
            failed: u64::from(self.text.is_none() && !waits),
            waiting: u64::from(waits),
        }
    }
}

/// How many segments there are, and how they stand. A segment that waits for a rerun keeps its text meanwhile.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Pieces {
    pub(crate) segments: u64,
    pub(crate) transcribed: u64,
    pub(crate) failed: u64,
    pub(crate) waiting: u64,
}

impl AddAssign for Pieces {
    fn add_assign(&mut self, more: Self) {
        self.segments += more.segments;
        self.transcribed += more.transcribed;
        self.failed += more.failed;
        self.waiting += more.waiting;
    }
}

impl SubAssign for Pieces {
    fn sub_assign(&mut self, less: Self) {
        self.segments -= less.segments;
        self.transcribed -= less.transcribed;
        self.failed -= less.failed;
        self.waiting -= less.waiting;
    }
}
