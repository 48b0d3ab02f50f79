//! The journal of effects: what was paid for, looked at before paying again.

use async_trait::async_trait;
use bytes::Bytes;
use hansard_core::id::{Digest, Generation, Timestamp};
use hansard_core::redelivery::Class;
use hansard_schemas::Stage;

use super::PortError;

/// Names one effect.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct JournalKey {
    /// The conversation's id.
    pub conversation: String,
    /// The stage whose effect it is.
    pub stage: Stage,
    /// What goes into the effect.
    pub input: Digest,
    /// The stage's generation: a rerun pays anew.
    pub generation: Generation,
}

/// Names one submission under a key: random, so that two takers never share one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SubmissionId(pub [u8; 16]);

/// What became known of a submission. Each step is written once, but for `Started`, whose `until` rises.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Written before the call, and again with a later `until` while it goes on: the greatest stands.
    Started {
        /// When, by the taker's clock.
        at: Timestamp,
        /// Until when the call counts as under way, unless more is known.
        until: Timestamp,
    },
    /// The provider's id of the job, as soon as it is known.
    Job {
        /// The id.
        id: String,
        /// Until when the provider may take.
        deadline: Timestamp,
        /// What was asked, as the stage encoded it, so that whoever hears of the job can finish it; empty where the id came
        /// from elsewhere than the call.
        asked: Bytes,
    },
    /// It ended without a result.
    Ended {
        /// How: a submission that ended `Unavailable` counts no attempt.
        class: Class,
        /// The stable code.
        code: String,
    },
    /// It ended with this result: the output records' bytes, as the stage encoded them.
    Result(Bytes),
}

/// A submission as read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Submission {
    /// Its id.
    pub id: SubmissionId,
    /// What is known of it, in the order `Started`, `Job`, `Ended`, `Result`; a late write may leave gaps.
    pub steps: Vec<Step>,
}

/// The journal.
///
/// An implementation must give: a write that returned survives the crash of this process and of the store's minority,
/// and is seen by every later `read`; writing a step again changes nothing; of several `Started` of one submission
/// the one with the greatest `until` is read, in whatever order they come; steps written after their conversation's
/// erasure stay dead, except `Job` ids, which [`Journal::jobs`] still shows.
#[async_trait]
pub trait Journal: Send + Sync {
    /// Writes one step of a submission.
    async fn write(&self, key: &JournalKey, id: SubmissionId, step: Step) -> Result<(), PortError>;
    /// All submissions under a key, in no order.
    async fn read(&self, key: &JournalKey) -> Result<Vec<Submission>, PortError>;
    /// The provider's job ids of a conversation: what an erasure has to undo.
    async fn jobs(&self, conversation: &str) -> Result<Vec<(JournalKey, String)>, PortError>;
    /// The results of a conversation's effects of one stage, in no order: what is kept although no record may tell of it.
    async fn results(&self, conversation: &str, stage: Stage) -> Result<Vec<(JournalKey, Bytes)>, PortError>;
    /// Drops a job id, once its provider has confirmed that it keeps nothing of it.
    async fn forget(&self, key: &JournalKey, job: &str) -> Result<(), PortError>;
    /// Deletes everything of a conversation but its job ids.
    async fn erase(&self, conversation: &str) -> Result<(), PortError>;
}
