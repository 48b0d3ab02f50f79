//! Known bugs put back in, for tests that show that they would be found. Never part of the program: cargo feature
//! `mutants`. The choice belongs to the thread, since a simulated world runs in one.

use std::cell::Cell;

/// A classic bug of a runtime like this one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mutant {
    /// An input's offset is committed when its effect begins.
    CommitBeforeEffect,
    /// Decisions begin before the own emissions are read.
    DecideBeforeOwn,
    /// The clock's rules apply although facts wait unread.
    IdleUnread,
    /// The committed offset passes over records under way.
    OffsetPastHole,
    /// One transaction holds both outputs and a retry.
    OutputsWithRetry,
    /// A call is made without a look at the journal.
    PayWithoutLook,
    /// A long call's lease is not renewed.
    LeaseUnrenewed,
    /// A submission that never told its end is made again without asking the provider what came of it.
    LostUnsought,
    /// A job that cannot be asked for counts as ended.
    GivenUpUnasked,
    /// Attempts that crashed are not counted.
    CrashesUncounted,
    /// What an aborted transaction would have emitted is remembered as emitted.
    AbortForgotten,
    /// A transaction carries the group's generation at its end, not the one that its work was done under.
    GenerationAskedLate,
    /// A segment's rows are keyed without what orders competing facts: whoever writes last wins, also a zombie.
    ZombieWriteWins,
    /// Sweep calls objects unreferenced although aggregate has not read the log.
    SweepUnread,
    /// Sweep deletes what is unreferenced at first sight.
    SweepWithoutMark,
    /// Sweep deletes by a mark of any age, so also by one that another run has just made.
    SweepByYoungMark,
}

thread_local! {
    static PUT_IN: Cell<Option<Mutant>> = const { Cell::new(None) };
}

/// Puts a bug in, or takes it out.
pub fn put_in(mutant: Option<Mutant>) {
    PUT_IN.set(mutant);
}

/// Whether the bug is in.
#[must_use]
pub fn is_in(mutant: Mutant) -> bool {
    PUT_IN.get() == Some(mutant)
}
