//! The lengths of time that close a conversation, with their defaults.

use crate::fact::Finalize;
use crate::id::Millis;
use crate::window::Window;

/// When a window is closed, given up, and revised. A conversation's Open overrides the first two.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rules {
    /// A window with uploads is closing once none was confirmed for so long. Default 5 min.
    pub idle_after: Millis,
    /// A closing window that waits only for its producer is finalized as incomplete after so long. Default 2 h.
    pub missing_after: Millis,
    /// A closing window that waits for a stage is finalized as incomplete after so long. Default 24 h.
    pub stalled_after: Millis,
    /// A window without upload and without finish is finalized after so long. Default 24 h.
    pub abandon_after: Millis,
    /// Least time between revisions 1 and 2; it doubles with each revision. Default 10 s.
    pub pace_base: Millis,
    /// Greatest least time between two revisions. Default 1 h.
    pub pace_cap: Millis,
    /// A known bug put back in, to show that the tests find it.
    #[cfg(feature = "mutants")]
    pub mutant: Option<Mutant>,
}

/// A classic bug of pipelines like this one.
#[cfg(feature = "mutants")]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mutant {
    /// A later failure replaces a text.
    FailureOverwritesSuccess,
    /// A Finish counts as complete although facts pend.
    EarlyFinish,
    /// What arrives after a finalize is ignored.
    LostLateUpload,
}

impl Default for Rules {
    fn default() -> Self {
        Self {
            idle_after: Millis::minutes(5),
            missing_after: Millis::hours(2),
            stalled_after: Millis::hours(24),
            abandon_after: Millis::hours(24),
            pace_base: Millis::seconds(10),
            pace_cap: Millis::hours(1),
            #[cfg(feature = "mutants")]
            mutant: None,
        }
    }
}

impl Rules {
    /// The rules as the conversation's Open overrides them. Negative lengths count as none.
    #[must_use]
    pub fn of(self, window: &Window) -> Self {
        let own = |of: fn(&crate::fact::Open) -> Option<Millis>| window.open_fact().and_then(of);
        Self {
            idle_after: own(|open| open.idle_after).unwrap_or(self.idle_after).max(Millis::ZERO),
            missing_after: own(|open| open.missing_after).unwrap_or(self.missing_after).max(Millis::ZERO),
            ..self
        }
    }

    /// Least time between this finalize and the next: base · 2^(revision − 1), at most the cap.
    #[must_use]
    pub fn pace(&self, last: &Finalize) -> Millis {
        let doublings = u32::try_from(last.revision.0.saturating_sub(1)).unwrap_or(0);
        let factor = 1_i64.checked_shl(doublings).filter(|factor| *factor > 0).unwrap_or(i64::MAX);
        Millis(self.pace_base.0.saturating_mul(factor)).min(self.pace_cap)
    }
}
