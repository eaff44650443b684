//! Trace ids in the log. Each line of a request whose trace is sampled, or that has a trace of the
//! caller, has the ids of the trace and of a span: the request's own span if it is sampled,
//! otherwise the caller's.

use std::fmt;

use opentelemetry::Context;
use opentelemetry::trace::{SpanId, TraceContextExt, TraceId};
use tracing::{Event, Span};
use tracing_opentelemetry::OpenTelemetrySpanExt;
use tracing_subscriber::Registry;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;

/// The target of the spans of requests that can have a trace. The log has it at each level, for the
/// ids.
pub(super) const REQUESTS: &str = "keyward::request";

/// The ids of a trace and of one of its spans.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct TraceIds {
    pub(super) trace: TraceId,
    pub(super) span: SpanId,
}

impl TraceIds {
    /// The ids of the span of a context, if it has a valid one.
    pub(super) fn of(context: &Context) -> Option<Self> {
        let span = context.span();
        let context = span.span_context();
        let ids = Self { trace: context.trace_id(), span: context.span_id() };
        context.is_valid().then_some(ids)
    }

    /// Keeps the ids with a span, for the lines that are logged in it.
    pub(super) fn keep(self, span: &Span) {
        span.with_subscriber(|(id, subscriber)| {
            let registry = subscriber.downcast_ref::<Registry>();
            if let Some(span) = registry.and_then(|registry| registry.span(id)) {
                span.extensions_mut().replace(self);
            }
        });
    }
}

/// The ids of a span that is exported.
pub(super) fn sampled(span: &Span) -> Option<TraceIds> {
    let context = span.context();
    let is_sampled = context.span().span_context().is_sampled();
    if is_sampled { TraceIds::of(&context) } else { None }
}

/// A format of lines.
#[derive(Clone, Copy, Debug)]
pub(super) enum LineEnd {
    /// `… trace_id=… span_id=…`
    Text,
    /// `{…, "trace_id": "…", "span_id": "…"}`
    Json,
}

/// Writes lines in a format of the library, with the ids at their end.
pub(super) struct WithTraceIds<F> {
    format: F,
    end: LineEnd,
}

impl<F> WithTraceIds<F> {
    /// `format` must not take its use of colours from the writer.
    pub(super) fn new(format: F, end: LineEnd) -> Self {
        Self { format, end }
    }
}

impl<S, N, F> FormatEvent<S, N> for WithTraceIds<F>
where
    S: tracing::Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
    F: FormatEvent<S, N>,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let ids = context.event_scope().and_then(|mut spans| {
            spans.find_map(|span| span.extensions().get::<TraceIds>().copied())
        });
        let Some(TraceIds { trace, span }) = ids else {
            return self.format.format_event(context, writer, event);
        };
        let mut line = String::new();
        self.format.format_event(context, Writer::new(&mut line), event)?;
        let line = line.trim_end_matches('\n');
        // The ids are hexadecimal digits, so nothing has to be escaped.
        match (self.end, line.strip_suffix('}')) {
            (LineEnd::Json, Some(members)) => {
                writeln!(writer, r#"{members},"trace_id":"{trace}","span_id":"{span}"}}"#)
            }
            _ => writeln!(writer, "{line} trace_id={trace} span_id={span}"),
        }
    }
}
