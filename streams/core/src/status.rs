//! What people ask about a conversation: how it stands, and what it is waiting for.

use alloc::vec::Vec;

use crate::decide::{Decision, Plan, decide, decision};
use crate::draft::{is_settled, missing_chunks};
use crate::id::{ChunkId, Generation, Revision, Stage, Timestamp, Track, words};
use crate::rules::Rules;
use crate::window::Window;

words! {
    /// How a conversation stands.
    Status, "status", {
        /// It may still grow.
        Open = "open",
        /// It is being completed, for the first or for a later revision.
        Closing = "closing",
        /// Its latest revision is made.
        Finalized = "finalized",
        /// Merge and summary of its latest revision both ended.
        Delivered = "delivered",
        /// It is forgotten.
        Erased = "erased",
    }
}

words! {
    /// Who owes what is awaited.
    Owner, "owner", {
        /// Whoever uploads.
        Producer = "producer",
        /// The stage split.
        Split = "split",
        /// The stage transcribe.
        Transcribe = "transcribe",
        /// The stage aggregate: everything is there, and the next revision comes in its time.
        Aggregate = "aggregate",
        /// The stage merge.
        Merge = "merge",
        /// The stage summarize.
        Summarize = "summarize",
    }
}

/// At most so many pieces are listed as awaited.
pub const AWAITED_LISTED: usize = 500;

/// What a conversation is waiting for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Explanation {
    /// How it stands.
    pub status: Status,
    /// Its latest revision.
    pub revision: Revision,
    /// What is awaited; at most [`AWAITED_LISTED`].
    pub awaited: Vec<Awaited>,
    /// How much is awaited altogether.
    pub awaited_total: u64,
    /// When it is closing by the clock; nothing where it is already, or never will be.
    pub closing_at: Option<Timestamp>,
    /// When it is looked at next; nothing where only a fact can change anything.
    pub look_at: Option<Timestamp>,
}

/// One piece that is awaited.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Awaited {
    /// Who owes it.
    pub owner: Owner,
    /// Since when, by the log's time; nothing where no fact tells.
    pub since: Option<Timestamp>,
    /// Of which track, where that is known.
    pub track: Option<Track>,
    /// Which chunk, where that is known.
    pub chunk: Option<ChunkId>,
    /// Which number within the track, where that is known.
    pub sequence: Option<u32>,
    /// Which segment, where it is one.
    pub segment: Option<u32>,
    /// The generation that a segment, merge or summary has to answer.
    pub generation: Generation,
}

/// How the conversation stands at a moment that the log is read to (see [`crate::decide`]).
#[must_use]
pub fn status(window: &Window, rules: &Rules, judged: Timestamp) -> Status {
    standing(window, rules, judged, is_settled(window, rules))
}

/// The decision about a window together with its status: what both rest on is looked at once.
#[must_use]
pub fn judge(window: &Window, rules: &Rules, judged: Timestamp) -> (Decision, Status) {
    let settled = is_settled(window, rules);
    (decision(window, rules, judged, settled), standing(window, rules, judged, settled))
}

fn standing(window: &Window, rules: &Rules, judged: Timestamp, settled: bool) -> Status {
    if window.is_erased() {
        return Status::Erased;
    }
    if window.last_finalize().is_none() {
        let closing = Plan::of(window, rules).is_some_and(|plan| plan.closing <= judged);
        return if closing { Status::Closing } else { Status::Open };
    }
    match (settled, window.merge(), window.summary()) {
        (false, ..) => Status::Closing,
        (true, Some(_), Some(_)) => Status::Delivered,
        (true, ..) => Status::Finalized,
    }
}

/// What the conversation is waiting for, at a moment that the log is read to (see [`crate::decide`]).
#[must_use]
pub fn explain(window: &Window, rules: &Rules, judged: Timestamp) -> Explanation {
    let plan = Plan::of(window, rules);
    let status = status(window, rules, judged);
    let counts = window.counts();
    let mut total = counts.missing;
    let mut awaited: Vec<Awaited> =
        missing(window, plan).chain(stages(window)).take(AWAITED_LISTED).collect();
    let ended = endings(window, status, plan, judged);
    total += ended.len() as u64;
    awaited.extend(ended.into_iter().take(AWAITED_LISTED - awaited.len()));
    Explanation {
        status,
        revision: window.revision(),
        awaited,
        awaited_total: total,
        closing_at: plan.map(|plan| plan.closing).filter(|closing| *closing > judged),
        look_at: look_at(window, rules, judged),
    }
}

fn look_at(window: &Window, rules: &Rules, judged: Timestamp) -> Option<Timestamp> {
    match decide(window, rules, judged) {
        Decision::Wait { look_at } => look_at,
        Decision::Finalize(_) => Some(judged),
    }
}

/// Something awaited of which nothing but the owner is known.
fn owed(owner: Owner, since: Option<Timestamp>) -> Awaited {
    Awaited {
        owner,
        since,
        track: None,
        chunk: None,
        sequence: None,
        segment: None,
        generation: Generation(0),
    }
}

/// What the producer owes: it is awaited since the window is closing.
fn missing(window: &Window, plan: Option<Plan>) -> impl Iterator<Item = Awaited> {
    let since = plan.map(|plan| plan.began);
    missing_chunks(window).map(move |gap| Awaited {
        track: Some(gap.track).filter(|_| gap.chunk.is_none()),
        chunk: gap.chunk,
        sequence: gap.sequence,
        ..owed(Owner::Producer, since)
    })
}

/// What split and transcribe owe.
fn stages(window: &Window) -> impl Iterator<Item = Awaited> {
    window.chunks().flat_map(move |(id, chunk)| {
        let upload = chunk.upload.as_ref();
        let about = move |owner, since| Awaited {
            track: upload.map(|upload| upload.track.clone()),
            chunk: Some(id.clone()),
            sequence: upload.and_then(|upload| upload.sequence),
            ..owed(owner, since)
        };
        let uncut = chunk.unsplit().then(|| about(Owner::Split, upload.map(|upload| upload.time)));
        let since = chunk.standing_cut().map(|cut| cut.time);
        let waiting = chunk.waiting().map(move |(segment, generation, _)| Awaited {
            segment: Some(segment),
            generation,
            ..about(Owner::Transcribe, window.asked_at(Stage::Transcribe, generation).or(since))
        });
        uncut.into_iter().chain(waiting)
    })
}

/// What is owed once nothing else is: more from the producer until the window is closing, then the next revision, and
/// then merge and summary of the last.
fn endings(window: &Window, status: Status, plan: Option<Plan>, judged: Timestamp) -> Vec<Awaited> {
    let mut owing = Vec::new();
    if status == Status::Open || status == Status::Closing {
        let next = plan.filter(|_| !window.is_pending()).map(|plan| {
            let heard = window.tally().confirmed.greatest().or(window.began());
            let open = plan.closing > judged;
            if open { owed(Owner::Producer, heard) } else { owed(Owner::Aggregate, Some(plan.began)) }
        });
        owing.extend(next);
    } else if let Some(last) = window.last_finalize() {
        let endings = [(window.merge(), Owner::Merge), (window.summary(), Owner::Summarize)];
        for (_, owner) in endings.into_iter().filter(|(ended, _)| ended.is_none()) {
            let stage = if owner == Owner::Merge { Stage::Merge } else { Stage::Summarize };
            owing.push(Awaited { generation: last.generations.of(stage), ..owed(owner, Some(last.time)) });
        }
    }
    owing
}
