//! The cutting plan: where a recording is cut into segments, decided from one voice flag and one energy per
//! frame. It is pure and streaming, so that the same recording is always cut at the same places.
//!
//! The rules, in frames, for a piece that begins at `start`:
//! 1. Leading frames without voice are dropped as [`Piece::Silence`] where at least `silence` of them remain
//!    after `pad` of them are kept before the first voice. If no voice follows at all, all of them are silence.
//! 2. A segment ends early, `pad` after the last voice but not before `min`, as soon as at least
//!    `silence + pad` frames without voice follow that place (at the end of the recording `silence` suffice).
//! 3. Otherwise, once the segment cannot stay below `max`, it is cut in the longest pause of at least `pause`
//!    frames that allows a cut between `min` and `max` (nearest to the window's middle among equals, then the
//!    earliest), as near to the pause's middle as the window allows.
//! 4. Where there is no such pause, it is cut before the quietest frame of the window, and says so.
//!
//! The pieces follow each other without gap or overlap, and every frame with voice lies in a segment.

use alloc::collections::VecDeque;

/// Lengths of the plan, all in frames.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CutPlan {
    /// No cut comes earlier than this after the start of a segment; only the recording's end does.
    pub min: u64,
    /// No segment is longer.
    pub max: u64,
    /// The shortest stretch without voice that counts as a pause to cut in.
    pub pause: u64,
    /// What is kept of a silent stretch on either side of voice, so that onsets are not clipped.
    pub pad: u64,
    /// The shortest silent stretch that is left out.
    pub silence: u64,
}

impl CutPlan {
    /// Whether the lengths fit together: `0 < min < max`, `pause >= 2` and `pad + silence <= min`.
    pub fn is_sound(&self) -> bool {
        0 < self.min
            && self.min < self.max
            && self.pause >= 2
            && self.silence > 0
            && self.pad.checked_add(self.silence).is_some_and(|least| least <= self.min)
    }

    /// How much of a pause must lie before a cut.
    fn before(&self) -> u64 {
        self.pause / 2
    }

    /// How much of a pause must lie after a cut.
    fn after(&self) -> u64 {
        self.pause - self.before()
    }
}

/// What the plan knows of one frame of audio.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Frame {
    /// Whether somebody speaks in it.
    pub voiced: bool,
    /// Its mean square; only compared with that of other frames.
    pub energy: u32,
}

/// A decided part of the recording, in frames, its end excluded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Piece {
    /// Audio to keep.
    Segment {
        /// First frame.
        start: u64,
        /// One after the last frame.
        end: u64,
        /// Whether its end had to be put where somebody may be speaking.
        forced_cut: bool,
    },
    /// A stretch without voice, left out.
    Silence {
        /// First frame.
        start: u64,
        /// One after the last frame.
        end: u64,
    },
}

/// Cuts a recording, frame by frame. Holds at most `max + pause` frames.
#[derive(Debug)]
pub struct Cutter {
    plan: CutPlan,
    /// Where the undecided piece begins.
    start: u64,
    /// Frames from `first` on; `first` lies after `start` only within a long leading silence.
    frames: VecDeque<Frame>,
    first: u64,
    /// The next frame to look at.
    next: u64,
    /// Where the stretch without voice began that reaches `next`.
    quiet_since: Option<u64>,
    /// No voice was met since `start`.
    leading: bool,
}

impl Cutter {
    /// Begins a recording. Panics if the plan is not sound, which is a defect of the caller.
    pub fn new(plan: CutPlan) -> Self {
        assert!(plan.is_sound(), "unsound cutting plan {plan:?}");
        Self { plan, start: 0, frames: VecDeque::new(), first: 0, next: 0, quiet_since: None, leading: true }
    }

    /// Takes the next frame and hands every piece that is decided by it to `emit`, in order.
    pub fn push(&mut self, frame: Frame, emit: &mut impl FnMut(Piece)) {
        self.frames.push_back(frame);
        while self.next < self.end() {
            self.step(emit);
        }
    }

    /// Ends the recording and hands over what is left.
    pub fn finish(&mut self, emit: &mut impl FnMut(Piece)) {
        while self.start < self.end() {
            while self.next < self.end() {
                self.step(emit);
            }
            self.last(emit);
        }
    }

    /// The first frame that the caller still has to keep.
    pub fn needed_from(&self) -> u64 {
        self.first
    }

    fn end(&self) -> u64 {
        self.first + self.frames.len() as u64
    }

    fn frame(&self, index: u64) -> Frame {
        self.frames[usize::try_from(index - self.first).expect("the buffer is bounded")]
    }

    fn step(&mut self, emit: &mut impl FnMut(Piece)) {
        let frame = self.frame(self.next);
        self.next += 1;
        if self.leading {
            self.lead(frame, emit);
            return;
        }
        if frame.voiced {
            self.quiet_since = None;
        } else {
            let since = *self.quiet_since.get_or_insert(self.next - 1);
            let cut = self.early_cut(since);
            if cut <= self.start + self.plan.max && self.next >= cut + self.plan.silence + self.plan.pad {
                self.cut(cut, false, emit);
                return;
            }
        }
        if self.next == self.start + self.plan.max + self.plan.after() {
            self.cut_in_window(emit);
        }
    }

    /// Where a segment ends whose voice ended at `since`, if the silence proves long enough.
    fn early_cut(&self, since: u64) -> u64 {
        (since + self.plan.pad).max(self.start + self.plan.min)
    }

    fn lead(&mut self, frame: Frame, emit: &mut impl FnMut(Piece)) {
        let least = self.plan.pad + self.plan.silence;
        if !frame.voiced {
            if self.next - self.first > least {
                self.drop_before(self.first + 1);
            }
            return;
        }
        let voice = self.next - 1;
        if voice - self.start >= least {
            let end = voice - self.plan.pad;
            emit(Piece::Silence { start: self.start, end });
            self.start = end;
            self.drop_before(end);
        }
        self.leading = false;
    }

    /// Decides about what is left when no further frame comes.
    fn last(&mut self, emit: &mut impl FnMut(Piece)) {
        let end = self.end();
        if self.leading {
            emit(Piece::Silence { start: self.start, end });
            self.restart(end);
            return;
        }
        if let Some(since) = self.quiet_since {
            let cut = self.early_cut(since);
            if cut <= self.start + self.plan.max && end >= cut + self.plan.silence {
                self.cut(cut, false, emit);
                return;
            }
        }
        if end - self.start > self.plan.max {
            self.cut_in_window(emit);
        } else {
            self.cut(end, false, emit);
        }
    }

    fn cut_in_window(&mut self, emit: &mut impl FnMut(Piece)) {
        match self.best_pause() {
            Some(cut) => self.cut(cut, false, emit),
            None => self.cut(self.quietest(), true, emit),
        }
    }

    /// The best place within a pause, as rule 3 says.
    fn best_pause(&self) -> Option<u64> {
        let (earliest, latest) = (self.start + self.plan.min, self.start + self.plan.max);
        let mut best: Option<(u64, u64, u64)> = None;
        let mut index = self.start;
        while index < self.next {
            if self.frame(index).voiced {
                index += 1;
                continue;
            }
            let begin = index;
            while index < self.next && !self.frame(index).voiced {
                index += 1;
            }
            let low = (begin + self.plan.before()).max(earliest);
            let high = index.saturating_sub(self.plan.after()).min(latest);
            if index - begin < self.plan.pause || low > high {
                continue;
            }
            let cut = ((begin + index) / 2).clamp(low, high);
            let length = index - begin;
            let off_middle = (2 * cut).abs_diff(earliest + latest);
            if best.is_none_or(|(l, o, _)| length > l || (length == l && off_middle < o)) {
                best = Some((length, off_middle, cut));
            }
        }
        best.map(|(_, _, cut)| cut)
    }

    fn quietest(&self) -> u64 {
        let (earliest, latest) = (self.start + self.plan.min, self.start + self.plan.max);
        (earliest..latest).min_by_key(|index| self.frame(*index).energy).expect("min is below max")
    }

    fn cut(&mut self, end: u64, forced_cut: bool, emit: &mut impl FnMut(Piece)) {
        emit(Piece::Segment { start: self.start, end, forced_cut });
        self.restart(end);
    }

    fn restart(&mut self, start: u64) {
        self.start = start;
        self.drop_before(start);
        self.next = start;
        self.quiet_since = None;
        self.leading = true;
    }

    fn drop_before(&mut self, index: u64) {
        let gone = usize::try_from(index - self.first).expect("the buffer is bounded");
        self.frames.drain(..gone);
        self.first = index;
    }
}
