//! Where spans go: to a collector of traces, if the deployment has one.

use hansard_core::id::Timestamp;

use crate::trace::TraceParent;

/// What is said of work. Ids and counts, never what somebody said, and no secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Description {
    /// Whose work it is: a job's name.
    pub job: &'static str,
    /// What is done to what, of few different values: `split Upload`.
    pub name: String,
    /// More about it, by name.
    pub attributes: Vec<(&'static str, String)>,
    /// The stable code of its failure, where it failed.
    pub failed: Option<&'static str>,
}

/// Work that has ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Span {
    /// Its own place.
    pub place: TraceParent,
    /// The span that it follows from; nothing for the root of a trace.
    pub parent: Option<[u8; 8]>,
    /// When it began.
    pub begun: Timestamp,
    /// When it ended.
    pub ended: Timestamp,
    /// What it was.
    pub what: Description,
}

/// The collector of traces.
///
/// An implementation must give: calls that return at once, whatever the collector does; about one trace the same answer
/// in every process of equal settings. It need not keep any span: what cannot be sent in time is lost.
pub trait Traces: Send + Sync {
    /// Whether a trace that nobody outside has begun is recorded.
    fn samples(&self, trace: [u8; 16]) -> bool;
    /// Takes a span.
    fn ended(&self, span: Span);
}
