//! Traces: where in one a record stands, and what a job tells of its work as a span.
//!
//! The place travels in the header `traceparent`, as the W3C has it (<https://www.w3.org/TR/trace-context/>). Where nobody
//! gave one, the trace is the conversation's own: its ids follow from the conversation's, so that every process knows them
//! and none has to remember anything.

use std::sync::Arc;

use bytes::Bytes;
use hansard_core::id::Timestamp;
use sha2::{Digest as _, Sha256};

use crate::ports::Ports;
use crate::ports::log::Headers;
use crate::ports::traces::{Description, Span, Traces};

/// The name of the header, in records and in HTTP.
pub const HEADER: &str = "traceparent";

/// A place in a trace: what follows from it is its child.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TraceParent {
    /// The trace's id, not all zeros.
    pub trace: [u8; 16],
    /// The span's id, not all zeros.
    pub span: [u8; 8],
    /// Whether the trace is recorded.
    pub sampled: bool,
}

impl TraceParent {
    /// The root of a conversation's own trace, not recorded.
    #[must_use]
    pub fn of_conversation(conversation: &str) -> Self {
        let digest = Sha256::new().chain_update("hansard trace of ").chain_update(conversation).finalize();
        let mut root = Self { trace: [0; 16], span: [0; 8], sampled: false };
        root.trace.copy_from_slice(&digest[..16]);
        root.span.copy_from_slice(&digest[16..24]);
        root
    }

    /// Reads a `traceparent`; nothing where it is none.
    #[must_use]
    pub fn parse(text: &[u8]) -> Option<Self> {
        let (text, rest) = text.split_at_checked(55)?;
        let [version] = bytes(&text[..2])?;
        let [flags] = bytes(&text[53..])?;
        let known = match version {
            0 => rest.is_empty(),
            255 => false,
            // Of a later version these four parts are known, whatever comes after them.
            _ => rest.first().is_none_or(|next| *next == b'-'),
        };
        let place =
            Self { trace: bytes(&text[3..35])?, span: bytes(&text[36..52])?, sampled: flags & 1 == 1 };
        let dashes = [2, 35, 52].iter().all(|at| text[*at] == b'-');
        (known && dashes && place.trace != [0; 16] && place.span != [0; 8]).then_some(place)
    }

    /// Where a record stands, if its headers say so.
    #[must_use]
    pub fn read(headers: &Headers) -> Option<Self> {
        headers.iter().find(|(name, _)| name == HEADER).and_then(|(_, value)| Self::parse(value))
    }

    /// The header that says so.
    #[must_use]
    pub fn header(&self) -> (String, Bytes) {
        (HEADER.to_owned(), Bytes::from(self.to_string()))
    }

    /// A new place below this one, of fresh random bytes.
    fn child(self, fresh: [u8; 16]) -> Self {
        let mut span = [0; 8];
        span.copy_from_slice(&fresh[..8]);
        Self { span, ..self }
    }
}

impl std::fmt::Display for TraceParent {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (trace, span) = (u128::from_be_bytes(self.trace), u64::from_be_bytes(self.span));
        write!(f, "00-{trace:032x}-{span:016x}-{:02x}", u8::from(self.sampled))
    }
}

/// Lower-case hex, two digits a byte.
fn bytes<const N: usize>(hex: &[u8]) -> Option<[u8; N]> {
    let digit = |byte: u8| match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        _ => None,
    };
    let mut bytes = [0; N];
    for (byte, pair) in bytes.iter_mut().zip(hex.chunks_exact(2)) {
        *byte = (digit(pair[0])? << 4) | digit(pair[1])?;
    }
    Some(bytes)
}

impl Ports {
    /// Where a record of a conversation stands: as was given, else at the root of the conversation's own trace.
    #[must_use]
    pub fn place(&self, given: Option<TraceParent>, conversation: &str) -> TraceParent {
        given.unwrap_or_else(|| {
            let root = TraceParent::of_conversation(conversation);
            let sampled = self.traces.as_ref().is_some_and(|traces| traces.samples(root.trace));
            TraceParent { sampled, ..root }
        })
    }

    /// Tells of a whole conversation, as the root of its own trace; nothing where its records stand in another's.
    pub fn tell_conversation(
        &self,
        given: Option<TraceParent>,
        conversation: &str,
        (begun, ended): (Timestamp, Timestamp),
        what: impl FnOnce() -> Description,
    ) {
        let Some(traces) = &self.traces else { return };
        let (root, place) = (TraceParent::of_conversation(conversation), self.place(given, conversation));
        if place.sampled && place.trace == root.trace {
            let place = TraceParent { sampled: true, ..root };
            traces.ended(Span { place, parent: None, begun, ended, what: what() });
        }
    }
}

/// Work under way. It is told as a span once it has ended, where its trace is recorded; else it costs nothing, and only
/// passes the place on. Work that is dropped is not told.
pub struct Work {
    parent: TraceParent,
    place: TraceParent,
    begun: Timestamp,
    traces: Option<Arc<dyn Traces>>,
}

impl Work {
    /// Work that follows from what stands at `parent`.
    #[must_use]
    pub fn begin(ports: &Ports, parent: TraceParent, begun: Timestamp) -> Self {
        let traces = ports.traces.clone().filter(|_| parent.sampled);
        let place = if traces.is_some() { parent.child(ports.entropy.id()) } else { parent };
        Self { parent, place, begun, traces }
    }

    /// Where what follows from it stands.
    #[must_use]
    pub fn place(&self) -> TraceParent {
        self.place
    }

    /// Tells of it.
    pub fn end(self, ended: Timestamp, what: impl FnOnce() -> Description) {
        if let Some(traces) = self.traces {
            let (place, parent) = (self.place, Some(self.parent.span));
            traces.ended(Span { place, parent, begun: self.begun, ended, what: what() });
        }
    }
}

#[cfg(test)]
#[path = "tests/trace.rs"]
mod tests;
