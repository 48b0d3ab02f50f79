//! A span as the SDK has it.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use hansard_core::id::Timestamp;
use hansard_runtime::ports::traces::Span;
use opentelemetry::trace::{SpanContext, SpanId, SpanKind, Status, TraceFlags, TraceId, TraceState};
use opentelemetry::{InstrumentationScope, KeyValue};
use opentelemetry_sdk::trace::{SpanData, SpanEvents, SpanLinks};

/// One for the other. A failure's code is the status, and `error.type` by the conventions of OpenTelemetry.
pub(crate) fn data(span: Span) -> SpanData {
    let Span { place, parent, begun, ended, what } = span;
    let kind = match (what.job, parent) {
        (_, None) => SpanKind::Internal,
        ("gateway", _) => SpanKind::Server,
        _ => SpanKind::Consumer,
    };
    let failed = what.failed.map(|code| ("error.type", code.to_owned()));
    let attributes = what.attributes.into_iter().chain(failed);
    let (trace, own) = (TraceId::from_bytes(place.trace), SpanId::from_bytes(place.span));
    SpanData {
        span_context: SpanContext::new(trace, own, TraceFlags::SAMPLED, false, TraceState::NONE),
        parent_span_id: parent.map_or(SpanId::INVALID, SpanId::from_bytes),
        parent_span_is_remote: parent.is_some(),
        span_kind: kind,
        name: what.name.into(),
        start_time: time(begun),
        end_time: time(ended.max(begun)),
        attributes: attributes.map(|(name, value)| KeyValue::new(name, value)).collect(),
        dropped_attributes_count: 0,
        events: SpanEvents::default(),
        links: SpanLinks::default(),
        status: what.failed.map_or(Status::Unset, Status::error),
        instrumentation_scope: InstrumentationScope::builder(what.job).build(),
    }
}

fn time(at: Timestamp) -> SystemTime {
    UNIX_EPOCH + Duration::from_millis(u64::try_from(at.0).unwrap_or(0))
}
