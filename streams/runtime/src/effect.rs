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
    /// Someone else's call may still be under way: come back later, and count no attempt.
    UnderWay,
}

/// The bounds of a stage's calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CallBounds {
    /// A call that takes longer is cut off and counts as a transient failure (`timeout`).
    pub time_max: Millis,
    /// Attempts before the dead letter.
    pub attempts_max: u32,
}

/// Gives the result under `key`, and pays for it only where the journal has none and no call may be under way.
///
/// The attempt is the larger of the header's and of the number of submissions that did not end `unavailable`, less the
/// limit once per redrive: so neither a crash loop nor a redrive pays for ever, and an outage uses up nothing.
///
/// # Errors
/// What `call` failed with, `timeout`, or `attempts_exhausted` (permanent) when the journal shows that the attempts are
/// used up.
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
    let submissions = ports.journal.read(key).await?;
    #[cfg(feature = "mutants")]
    let submissions = match () {
        () if crate::mutants::is_in(crate::mutants::Mutant::PayWithoutLook) => Vec::new(),
        () => submissions,
    };
    if let Some(result) = result_of(&submissions) {
        return Ok(Paid::Result(result));
    }
    let now = ports.clock.now();
    if submissions.iter().any(|s| may_be_under_way(s, now)) {
        return Ok(Paid::UnderWay);
    }
    let counted = u32::try_from(submissions.iter().filter(|s| counts(s)).count()).unwrap_or(u32::MAX);
    #[cfg(feature = "mutants")]
    let counted = if crate::mutants::is_in(crate::mutants::Mutant::CrashesUncounted) { 0 } else { counted };
    let (attempt, redrives) = history.map_or((0, 0), |history| (history.attempt, history.redrives));
    let made = failures_so_far(attempt, counted, redrives, bounds.attempts_max);
    if made >= bounds.attempts_max {
        let cause = format!("{made} attempts are used up; {}", last_end(&submissions));
        return Err(Failed::new(Class::Permanent, "attempts_exhausted", cause));
    }
    metrics.call_begun(submissions.iter().any(|submission| !has_ended(submission)));
    let id = SubmissionId(ports.entropy.id());
    let lease = Lease { ports, key, id, at: now, over: now + bounds.time_max };
    let held = lease.take(now).await?;
    let answer = tokio::select! {
        biased;
        answer = call(id) => answer,
        () = ports.clock.sleep_until(lease.over) => Err(timeout(bounds.time_max)),
        never = lease.renew(held) => match never {},
    };
    metrics.call_ended(answer.as_ref().err());
    match answer {
        Ok(result) => {
            ports.journal.write(key, id, Step::Result(result.clone())).await?;
            Ok(Paid::Result(result))
        }
        Err(mut failed) => {
            let end = Step::Ended { class: failed.class, code: failed.code.to_owned() };
            ports.journal.write(key, id, end).await?;
            failed.attempts_before = made;
            Err(failed)
        }
    }
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

fn may_be_under_way(submission: &Submission, now: Timestamp) -> bool {
    let until = submission.steps.iter().filter_map(|step| match step {
        Step::Started { until, .. } => Some(*until),
        Step::Job { deadline, .. } => Some(*deadline),
        _ => None,
    });
    !has_ended(submission) && until.max().is_some_and(|until| now < until)
}

fn counts(submission: &Submission) -> bool {
    !submission.steps.iter().any(|step| matches!(step, Step::Ended { class: Class::Unavailable, .. }))
}

fn last_end(submissions: &[Submission]) -> String {
    let codes = submissions.iter().filter_map(|s| {
        s.steps.iter().find_map(|step| match step {
            Step::Ended { code, .. } => Some(code.as_str()),
            _ => None,
        })
    });
    let mut codes: Vec<&str> = codes.collect();
    codes.sort_unstable();
    codes.dedup();
    if codes.is_empty() {
        "none of them ended".to_owned()
    } else {
        format!("they ended in {}", codes.join(", "))
    }
}
