//! Look before you pay: every call that costs goes through the journal.

use std::convert::Infallible;

use bytes::Bytes;
use hansard_core::id::{Millis, Timestamp};
use hansard_core::redelivery::{Class, Headers, failures_so_far};

use crate::metrics::Metrics;
use crate::ports::journal::{JournalKey, Step, Submission, SubmissionId};
use crate::ports::{PortError, Ports};
use crate::stage::Failed;

/// How long a submission counts as under way after its taker's last word. While the call runs the taker renews it at
/// each third, so a crash costs the next taker at most this long however long a call may take, and the clocks of two
/// takers may differ by almost two thirds of it.
pub const LEASE: Millis = Millis::minutes(1);

/// What looking, and perhaps paying, gave.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Paid {
    /// The result, of this call or of an earlier one.
    Result(Bytes),
    /// Someone else's call may still be under way, or a provider works on it: come back later, and count no attempt.
    UnderWay,
}

/// What a call led to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Called {
    /// A result.
    Result(Bytes),
    /// A job that the provider works on.
    Job(Job),
}

/// A provider's job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Job {
    /// The provider's id.
    pub id: String,
    /// Until when it may take.
    pub deadline: Timestamp,
    /// What was asked; empty where that is not known.
    pub asked: Bytes,
}

/// What the journal shows of an effect, at a time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Look {
    /// It is paid for, and this is the result.
    Result(Bytes),
    /// Someone's call may be under way.
    UnderWay,
    /// A provider works on it.
    Job {
        /// The submission that led to it.
        submission: SubmissionId,
        /// When that began, where it is known.
        since: Option<Timestamp>,
        /// The job.
        job: Job,
    },
    /// Nothing is under way.
    Free(Before),
}

/// What went before a call that may now be made.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Before {
    /// Submissions that count as attempts.
    pub counted: u32,
    /// Whether one ended for good: the same provider need not be asked again.
    pub refused: bool,
    /// The codes of those that ended, sorted.
    pub codes: Vec<String>,
    /// One that began and never told its end, and when: a provider that can be asked may know of it.
    pub lost: Option<(SubmissionId, Timestamp)>,
}

/// The bounds of a stage's calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CallBounds {
    /// A call that takes longer is cut off and counts as a transient failure (`timeout`).
    pub time_max: Millis,
    /// Attempts before the dead letter.
    pub attempts_max: u32,
}

impl Look {
    /// Looks at what was read of an effect.
    #[must_use]
    pub fn at(submissions: &[Submission], now: Timestamp) -> Self {
        if let Some(result) = result_of(submissions) {
            return Self::Result(result);
        }
        // Of several jobs the oldest submission's, so that everyone looks at the same.
        let job = submissions.iter().filter(|s| !has_ended(s)).filter_map(job_of).min_by_key(|(id, ..)| *id);
        if let Some((submission, since, job)) = job {
            return Self::Job { submission, since, job };
        }
        if submissions.iter().any(|s| !has_ended(s) && began(s).is_some_and(|(_, until)| now < until)) {
            return Self::UnderWay;
        }
        let lost = submissions.iter().filter(|s| !has_ended(s));
        let mut codes: Vec<String> =
            submissions.iter().filter_map(ended_in).map(|(_, code)| code.clone()).collect();
        codes.sort_unstable();
        codes.dedup();
        let (mut counted, mut refused) = (0, false);
        for submission in submissions {
            let class = ended_in(submission).map(|(class, _)| class);
            counted += u32::from(class != Some(Class::Unavailable));
            refused |= class == Some(Class::Permanent);
        }
        let lost = lost.filter_map(|s| Some((s.id, began(s)?.0))).min_by_key(|(_, at)| *at);
        Self::Free(Before { counted, refused, codes, lost })
    }
}

impl Before {
    /// Attempts that are used up: the larger of the header's and of the number of submissions that did not end
    /// `unavailable`, less the limit once per redrive. So neither a crash loop nor a redrive pays for ever, and an outage uses
    /// up nothing.
    ///
    /// # Errors
    /// `attempts_exhausted`, permanent, where none is left.
    pub fn attempts(&self, history: Option<&Headers>, limit: u32) -> Result<u32, Failed> {
        let counted = self.counted;
        #[cfg(feature = "mutants")]
        let counted =
            if crate::mutants::is_in(crate::mutants::Mutant::CrashesUncounted) { 0 } else { counted };
        let (attempt, redrives) = history.map_or((0, 0), |history| (history.attempt, history.redrives));
        let made = failures_so_far(attempt, counted, redrives, limit);
        if made < limit {
            return Ok(made);
        }
        let ends = match self.codes.is_empty() {
            true => "none of them ended".to_owned(),
            false => format!("they ended in {}", self.codes.join(", ")),
        };
        let cause = format!("{made} attempts are used up; {ends}");
        Err(Failed::new(Class::Permanent, "attempts_exhausted", cause))
    }
}

/// Reads what the journal shows of an effect.
///
/// # Errors
/// As the journal's.
pub async fn look(ports: &Ports, key: &JournalKey) -> Result<Look, PortError> {
    let submissions = ports.journal.read(key).await?;
    #[cfg(feature = "mutants")]
    let submissions = match () {
        () if crate::mutants::is_in(crate::mutants::Mutant::PayWithoutLook) => Vec::new(),
        () => submissions,
    };
    Ok(Look::at(&submissions, ports.clock.now()))
}

/// Gives the result under `key`, and pays for it only where the journal has none and no call may be under way.
///
/// # Errors
/// What `call` failed with, `timeout`, or as [`Before::attempts`]'s.
pub async fn pay<Call, Fut>(
    ports: &Ports,
    metrics: &Metrics,
    key: &JournalKey,
    history: Option<&Headers>,
    bounds: CallBounds,
    call: Call,
) -> Result<Paid, Failed>
where
    Call: FnOnce(SubmissionId) -> Fut + Send,
    Fut: Future<Output = Result<Bytes, Failed>> + Send,
{
    let before = match look(ports, key).await? {
        Look::Result(bytes) => return Ok(Paid::Result(bytes)),
        Look::UnderWay | Look::Job { .. } => return Ok(Paid::UnderWay),
        Look::Free(before) => before,
    };
    let made = before.attempts(history, bounds.attempts_max)?;
    let call = async |id| call(id).await.map(Called::Result);
    match submit(ports, metrics, key, &before, (made, bounds.time_max), call).await? {
        Called::Result(bytes) => Ok(Paid::Result(bytes)),
        Called::Job(_) => Ok(Paid::UnderWay),
    }
}

/// Makes a call, and keeps in the journal that it began and what it led to. `made` attempts were made before.
///
/// # Errors
/// What `call` failed with, or `timeout`.
pub async fn submit<Call, Fut>(
    ports: &Ports,
    metrics: &Metrics,
    key: &JournalKey,
    before: &Before,
    (made, time_max): (u32, Millis),
    call: Call,
) -> Result<Called, Failed>
where
    Call: FnOnce(SubmissionId) -> Fut + Send,
    Fut: Future<Output = Result<Called, Failed>> + Send,
{
    metrics.call_begun(before.lost.is_some());
    let (id, now) = (SubmissionId(ports.entropy.id()), ports.clock.now());
    let lease = Lease { ports, key, id, at: now, over: now + time_max };
    let held = lease.take(now).await?;
    let answer = tokio::select! {
        biased;
        answer = call(id) => answer,
        () = ports.clock.sleep_until(lease.over) => Err(timeout(time_max)),
        never = lease.renew(held) => match never {},
    };
    metrics.call_ended(answer.as_ref().err());
    match answer {
        Ok(Called::Result(result)) => {
            ports.journal.write(key, id, Step::Result(result.clone())).await?;
            Ok(Called::Result(result))
        }
        Ok(Called::Job(job)) => {
            note_job(ports, key, id, job.clone()).await?;
            Ok(Called::Job(job))
        }
        Err(mut failed) => {
            end(ports, key, id, &failed).await?;
            failed.attempts_before = made;
            Err(failed)
        }
    }
}

/// Keeps a job's id.
///
/// # Errors
/// As the journal's.
pub async fn note_job(ports: &Ports, key: &JournalKey, id: SubmissionId, job: Job) -> Result<(), PortError> {
    let Job { id: job, deadline, asked } = job;
    ports.journal.write(key, id, Step::Job { id: job, deadline, asked }).await
}

/// Keeps that a submission has ended without a result.
///
/// # Errors
/// As the journal's.
pub async fn end(
    ports: &Ports,
    key: &JournalKey,
    id: SubmissionId,
    failed: &Failed,
) -> Result<(), PortError> {
    let end = Step::Ended { class: failed.class, code: failed.code.to_owned() };
    ports.journal.write(key, id, end).await
}

/// A taker's word that its call is under way.
struct Lease<'a> {
    ports: &'a Ports,
    key: &'a JournalKey,
    id: SubmissionId,
    /// When the call began.
    at: Timestamp,
    /// When it is cut off.
    over: Timestamp,
}

impl Lease<'_> {
    /// Gives the word for a lease from now, but not beyond the call's limit.
    async fn take(&self, now: Timestamp) -> Result<Timestamp, PortError> {
        let until = (now + LEASE).min(self.over);
        self.ports.journal.write(self.key, self.id, Step::Started { at: self.at, until }).await?;
        Ok(until)
    }

    /// Renews it for as long as it is polled. This is a best effort: where the journal is down the call goes on, since its
    /// result decides, and at worst someone else makes it too.
    async fn renew(&self, mut held: Timestamp) -> Infallible {
        let third = Millis(LEASE.0 / 3);
        let mut now = self.at;
        while held < self.over {
            self.ports.clock.sleep_until(now + third).await;
            now = self.ports.clock.now();
            #[cfg(feature = "mutants")]
            if crate::mutants::is_in(crate::mutants::Mutant::LeaseUnrenewed) {
                continue;
            }
            let renewed = tokio::select! {
                biased;
                renewed = self.take(now) => renewed.ok(),
                // One that hangs must not keep the next from being tried.
                () = self.ports.clock.sleep_until(now + third) => None,
            };
            if renewed.is_none() {
                let (conversation, stage) = (&self.key.conversation, self.key.stage.as_str());
                tracing::warn!(conversation, stage, "a lease was not renewed; the call goes on");
            }
            held = renewed.unwrap_or(held);
        }
        std::future::pending().await
    }
}

fn timeout(limit: Millis) -> Failed {
    Failed::new(Class::Transient, "timeout", format!("no answer within {} ms", limit.0))
}

/// The result; of several (two takers, one slow) the one of the lowest id, so that everyone emits the same.
fn result_of(submissions: &[Submission]) -> Option<Bytes> {
    let results = submissions.iter().filter_map(|s| {
        s.steps.iter().find_map(|step| match step {
            Step::Result(bytes) => Some((s.id, bytes.clone())),
            _ => None,
        })
    });
    results.min_by_key(|(id, _)| *id).map(|(_, bytes)| bytes)
}

fn has_ended(submission: &Submission) -> bool {
    submission.steps.iter().any(|step| matches!(step, Step::Ended { .. } | Step::Result(_)))
}

/// When a submission began, and until when it counts as under way.
fn began(submission: &Submission) -> Option<(Timestamp, Timestamp)> {
    submission.steps.iter().find_map(|step| match step {
        Step::Started { at, until } => Some((*at, *until)),
        _ => None,
    })
}

fn job_of(submission: &Submission) -> Option<(SubmissionId, Option<Timestamp>, Job)> {
    submission.steps.iter().find_map(|step| match step {
        Step::Job { id, deadline, asked } => {
            let job = Job { id: id.clone(), deadline: *deadline, asked: asked.clone() };
            Some((submission.id, began(submission).map(|(at, _)| at), job))
        }
        _ => None,
    })
}

fn ended_in(submission: &Submission) -> Option<(Class, &String)> {
    submission.steps.iter().find_map(|step| match step {
        Step::Ended { class, code } => Some((*class, code)),
        _ => None,
    })
}
