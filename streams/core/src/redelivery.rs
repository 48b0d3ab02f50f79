//! What becomes of a record that failed: one pure function, the tiers as data, and the headers that carry the history.

use alloc::string::{String, ToString};
use alloc::vec::Vec;

use crate::id::{Millis, Offset, Partition, Timestamp, words};

words! {
    /// Whose fault a failure is. The connector that knows the cause gives it; nobody reads error texts to find it.
    Class, "failure class", {
        /// This record, this time: timeout, too many requests, a server's error, a reset.
        Transient = "transient",
        /// The dependency, for every record.
        Unavailable = "unavailable",
        /// The record itself, every time.
        Permanent = "permanent",
        /// Ours no more: another instance took over.
        Fenced = "fenced",
        /// Our own: a panic or a broken invariant.
        Defect = "defect",
    }
}

/// How a stage answers failures. Tiers are numbered from 1.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policy {
    /// The fixed delay of each retry tier.
    pub tiers: Vec<Millis>,
    /// So many failures end in the dead letters. Default: one more than there are tiers.
    pub attempts: u32,
    /// So many defects end in the dead letters. Default 2.
    pub defect_attempts: u32,
    /// First length of a pause while a dependency is down; it doubles. Default 1 s.
    pub pause_base: Millis,
    /// Greatest length that it doubles to, and so the longest that a dependency is back before it is asked again.
    /// Default 10 s.
    pub pause_cap: Millis,
    /// A longer Retry-After of a dependency that is down is not believed. Default 5 min.
    pub pause_wish_cap: Millis,
    /// A longer Retry-After is not believed, so that no record goes round for ever. Default 24 h.
    pub retry_after_cap: Millis,
    /// Whether the stage works in order and so waits in place instead of using tiers, as aggregate does.
    pub in_place: bool,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            tiers: Vec::from([Millis::seconds(5), Millis::minutes(1), Millis::minutes(10)]),
            attempts: 4,
            defect_attempts: 2,
            pause_base: Millis::seconds(1),
            pause_cap: Millis::seconds(10),
            pause_wish_cap: Millis::minutes(5),
            retry_after_cap: Millis::hours(24),
            in_place: false,
        }
    }
}

/// A failed attempt as [`Policy::answer`] sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Attempt {
    /// Whose fault it was.
    pub class: Class,
    /// Failures of the record so far, this one included: from 1. See [`failures_so_far`].
    pub attempt: u32,
    /// The dependency's own wish, from now on.
    pub retry_after: Option<Millis>,
    /// Pauses of the partition in a row before this one.
    pub pauses: u32,
}

/// What happens to the record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// Send it to the retry tier, with its failures so far.
    Retry {
        /// Number of the tier, from 1.
        tier: usize,
        /// The tier's delay is shorter than the dependency wishes: give `.not-before` this far from now, and send the
        /// record round the same tier, uncounted, until then.
        not_before: Option<Millis>,
    },
    /// Keep it, stop fetching the partition, and try again in place after so long.
    Pause {
        /// How long.
        delay: Millis,
    },
    /// Send it to the dead letters, with its terminal Failure in the same transaction.
    DeadLetter,
    /// Drop the task and join the group anew; another instance has the record.
    Rejoin,
    /// Leave this window alone out, visibly, and go on with the others.
    Quarantine,
}

impl Policy {
    /// The answer to a failed attempt.
    #[must_use]
    pub fn answer(&self, failed: Attempt) -> Answer {
        let counted_out = |limit: u32| failed.attempt >= limit.max(1);
        match failed.class {
            Class::Fenced => Answer::Rejoin,
            Class::Permanent => Answer::DeadLetter,
            Class::Unavailable => self.pause(failed),
            Class::Transient if self.in_place => self.pause(failed),
            Class::Transient if counted_out(self.attempts) => Answer::DeadLetter,
            Class::Transient => self.retry(failed),
            Class::Defect if self.in_place && counted_out(self.defect_attempts) => Answer::Quarantine,
            Class::Defect if self.in_place => self.pause(failed),
            Class::Defect if counted_out(self.defect_attempts) => Answer::DeadLetter,
            Class::Defect => self.retry(failed),
        }
    }

    fn retry(&self, failed: Attempt) -> Answer {
        let wish = failed.retry_after.unwrap_or(Millis::ZERO).min(self.retry_after_cap);
        let last = self.tiers.len();
        if last == 0 {
            return Answer::DeadLetter;
        }
        let next = (failed.attempt.max(1) as usize).min(last);
        match (next..=last).find(|tier| self.tiers[*tier - 1] >= wish) {
            Some(tier) => Answer::Retry { tier, not_before: None },
            None => Answer::Retry { tier: last, not_before: Some(wish) },
        }
    }

    fn pause(&self, failed: Attempt) -> Answer {
        let factor = 1_i64.checked_shl(failed.pauses).filter(|factor| *factor > 0).unwrap_or(i64::MAX);
        let own = Millis(self.pause_base.0.saturating_mul(factor)).min(self.pause_cap);
        let wish = failed.retry_after.unwrap_or(Millis::ZERO).min(self.pause_wish_cap);
        Answer::Pause { delay: own.max(wish) }
    }

    /// When a record of the tier is due: its append time and the tier's delay. A tier that was configured away is due at
    /// once, so that changing the tiers strands nothing.
    #[must_use]
    pub fn due(&self, tier: usize, appended: Timestamp) -> Timestamp {
        let delay = tier.checked_sub(1).and_then(|place| self.tiers.get(place));
        appended + delay.copied().unwrap_or(Millis::ZERO)
    }

    /// The tier of a record that is under way elsewhere and wishes to be looked at after about so long: the last that takes
    /// no longer, else the first.
    #[must_use]
    pub fn parked(&self, wish: Millis) -> usize {
        self.tiers.iter().rposition(|delay| *delay <= wish).map_or(1, |place| place + 1)
    }

    /// For a record that is due by its tier: the tier that it goes round once more, uncounted, since its `.not-before` has
    /// not come; nothing where it may be tried.
    #[must_use]
    pub fn round_again(&self, not_before: Option<Timestamp>, now: Timestamp) -> Option<usize> {
        let early = not_before.is_some_and(|moment| now < moment);
        Some(self.tiers.len()).filter(|last| early && *last > 0)
    }
}

/// Failures of a record so far, before the one that is to be answered: the larger of what its header says and of the
/// submissions in the journal that did not end `unavailable`, less the limit once for each redrive.
///
/// So neither a crash loop, which writes no header, nor a redrive, which resets it, pays for ever.
#[must_use]
pub fn failures_so_far(header_attempt: u32, submissions: u32, redrives: u32, limit: u32) -> u32 {
    header_attempt.max(submissions.saturating_sub(limit.saturating_mul(redrives)))
}

/// The history that a redelivered record carries in its headers. Its bytes are the original's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Headers {
    /// The stage that redelivers.
    pub stage: String,
    /// Failures so far; a redrive sets 0.
    pub attempt: u32,
    /// Not to be tried before.
    pub not_before: Option<Timestamp>,
    /// Time of the first failure.
    pub first_failed_at: Timestamp,
    /// How often a person sent it through again.
    pub redrives: u32,
    /// Where the record first lay.
    pub origin: Origin,
    /// The last failure.
    pub failure: Cause,
}

/// Where a record first lay.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origin {
    /// Topic.
    pub topic: String,
    /// Partition.
    pub partition: Partition,
    /// Offset.
    pub offset: Offset,
    /// Log time.
    pub timestamp: Timestamp,
}

/// What a failure was.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cause {
    /// Whose fault.
    pub class: Class,
    /// Stable code.
    pub code: String,
    /// Words for people; nobody decides by them.
    pub message: String,
}

/// Why headers are not a history.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HeaderError {
    /// A header is missing that every redelivered record has.
    #[error("header {name} is missing, the record was not redelivered by hansard")]
    Missing {
        /// Its name.
        name: &'static str,
    },
    /// A header's text does not say what it should.
    #[error("header {name} says {text:?}, expected {expected}")]
    Invalid {
        /// Its name.
        name: &'static str,
        /// Its text.
        text: String,
        /// What was expected.
        expected: &'static str,
    },
}

/// Names of the headers.
pub mod header {
    /// The stage that redelivers.
    pub const STAGE: &str = "redelivery.stage";
    /// Failures so far.
    pub const ATTEMPT: &str = "redelivery.attempt";
    /// Not to be tried before, in ms since the epoch.
    pub const NOT_BEFORE: &str = "redelivery.not-before";
    /// Time of the first failure, in ms since the epoch.
    pub const FIRST_FAILED_AT: &str = "redelivery.first-failed-at";
    /// How often redriven.
    pub const REDRIVES: &str = "redelivery.redrives";
    /// Where the record first lay: topic.
    pub const ORIGIN_TOPIC: &str = "redelivery.origin.topic";
    /// Where the record first lay: partition.
    pub const ORIGIN_PARTITION: &str = "redelivery.origin.partition";
    /// Where the record first lay: offset.
    pub const ORIGIN_OFFSET: &str = "redelivery.origin.offset";
    /// Where the record first lay: log time in ms since the epoch.
    pub const ORIGIN_TIMESTAMP: &str = "redelivery.origin.timestamp";
    /// The last failure: class.
    pub const FAILURE_CLASS: &str = "redelivery.failure.class";
    /// The last failure: code.
    pub const FAILURE_CODE: &str = "redelivery.failure.code";
    /// The last failure: words.
    pub const FAILURE_MESSAGE: &str = "redelivery.failure.message";
}

impl Headers {
    /// The headers as names and texts.
    #[must_use]
    pub fn to_pairs(&self) -> Vec<(&'static str, String)> {
        let mut pairs = Vec::from([
            (header::STAGE, self.stage.clone()),
            (header::ATTEMPT, self.attempt.to_string()),
            (header::FIRST_FAILED_AT, self.first_failed_at.0.to_string()),
            (header::REDRIVES, self.redrives.to_string()),
            (header::ORIGIN_TOPIC, self.origin.topic.clone()),
            (header::ORIGIN_PARTITION, self.origin.partition.0.to_string()),
            (header::ORIGIN_OFFSET, self.origin.offset.0.to_string()),
            (header::ORIGIN_TIMESTAMP, self.origin.timestamp.0.to_string()),
            (header::FAILURE_CLASS, self.failure.class.to_string()),
            (header::FAILURE_CODE, self.failure.code.clone()),
            (header::FAILURE_MESSAGE, self.failure.message.clone()),
        ]);
        pairs.extend(self.not_before.map(|moment| (header::NOT_BEFORE, moment.0.to_string())));
        pairs
    }

    /// Reads the history from a record's headers; `of` gives the text under a name. Nothing where the record has never
    /// been redelivered, that is, has no `redelivery.stage`.
    ///
    /// # Errors
    /// Where a header of the history is missing or says something else.
    pub fn read<'h>(of: impl Fn(&str) -> Option<&'h str>) -> Result<Option<Self>, HeaderError> {
        let Some(stage) = of(header::STAGE) else { return Ok(None) };
        let text = |name| of(name).ok_or(HeaderError::Missing { name });
        let not_before = match of(header::NOT_BEFORE) {
            Some(text) => Some(Timestamp(number(header::NOT_BEFORE, text)?)),
            None => None,
        };
        let class = text(header::FAILURE_CLASS)?;
        let wrong_class = |_| invalid(header::FAILURE_CLASS, class, "a failure class");
        Ok(Some(Self {
            stage: stage.into(),
            attempt: number(header::ATTEMPT, text(header::ATTEMPT)?)?,
            not_before,
            first_failed_at: Timestamp(number(header::FIRST_FAILED_AT, text(header::FIRST_FAILED_AT)?)?),
            redrives: number(header::REDRIVES, text(header::REDRIVES)?)?,
            origin: Origin {
                topic: text(header::ORIGIN_TOPIC)?.into(),
                partition: Partition(number(header::ORIGIN_PARTITION, text(header::ORIGIN_PARTITION)?)?),
                offset: Offset(number(header::ORIGIN_OFFSET, text(header::ORIGIN_OFFSET)?)?),
                timestamp: Timestamp(number(header::ORIGIN_TIMESTAMP, text(header::ORIGIN_TIMESTAMP)?)?),
            },
            failure: Cause {
                class: class.parse().map_err(wrong_class)?,
                code: text(header::FAILURE_CODE)?.into(),
                message: text(header::FAILURE_MESSAGE)?.into(),
            },
        }))
    }
}

fn number<N: core::str::FromStr>(name: &'static str, text: &str) -> Result<N, HeaderError> {
    text.parse().map_err(|_| invalid(name, text, "a whole number"))
}

fn invalid(name: &'static str, text: &str, expected: &'static str) -> HeaderError {
    HeaderError::Invalid { name, text: text.into(), expected }
}
