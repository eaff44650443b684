//! The byte stream between a connection and hyper, with limits that hyper lacks: the time for the
//! header of a request, and the number of HTTP/2 control frames.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Sleep, sleep};

use super::frames::FrameMeter;
use super::heads::{self, HeadScanner};
use super::opening::Transport;
use crate::admission::{Admission, RefusalKind};
use crate::domain::Source;

/// How long an HTTP/1.1 client has to send a request or to close, once the server stops.
pub(super) const LINGER: Duration = Duration::from_millis(500);

/// A connection's stream with limits.
pub(super) struct BoundedIo {
    stream: Transport,
    bounds: ProtocolBounds,
}

pub(super) enum ProtocolBounds {
    Http1(Http1),
    Http2(Box<Http2>),
}

/// The limits of an HTTP/2 connection.
pub(super) struct Http2 {
    pub(super) meter: FrameMeter,
    pub(super) admission: Admission,
    pub(super) source: Source,
}

/// The limits of an HTTP/1.1 connection. It scans the headers of requests, and limits the time from
/// the first to the last byte of each header.
pub(super) struct Http1 {
    phase: Arc<Http1Phase>,
    timeout: Duration,
    /// Runs while a header is incomplete, and during the shutdown.
    timer: Option<Pin<Box<Sleep>>>,
    head: HeadScanner,
    /// The unsent rest of an answer that replaces hyper's own.
    answer: Vec<u8>,
    /// The sending side is closed. Received bytes are dropped.
    is_shut: bool,
}

impl Http1 {
    pub(super) fn new(phase: &Arc<Http1Phase>, timeout: Duration) -> Self {
        Self {
            phase: Arc::clone(phase),
            timeout,
            timer: None,
            head: HeadScanner::default(),
            answer: Vec::new(),
            is_shut: false,
        }
    }

    /// Takes received bytes. Returns false if they are an ambiguous header; see
    /// `HeadScanner::follow`.
    fn received(&mut self, bytes: &[u8]) -> bool {
        if bytes.is_empty() {
            return true;
        }
        if self.phase.step(Http1Phase::IDLE, Http1Phase::HEAD) {
            self.head = HeadScanner::default();
        }
        !self.phase.is(Http1Phase::HEAD) || self.head.follow(bytes)
    }

    /// Replaces an answer that hyper gives itself, because it could not parse a request.
    fn replace(&mut self, bytes: &[u8]) -> bool {
        if self.phase.is(Http1Phase::REQUEST) || self.phase.is(Http1Phase::ANSWERED) {
            return false;
        }
        let Some(answer) = heads::replacement(bytes) else { return false };
        self.answer = answer;
        true
    }

    fn poll_answer(
        &mut self,
        mut stream: Pin<&mut Transport>,
        context: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        while !self.answer.is_empty() {
            let count = ready!(stream.as_mut().poll_write(context, &self.answer))?;
            self.answer.drain(..count);
        }
        Poll::Ready(Ok(()))
    }

    /// Closes the sending side, and reads for a moment longer. Closing a connection while the
    /// client still sends resets it, and the client may lose the last answer (RFC 9112, section
    /// 9.6).
    fn poll_shutdown(
        &mut self,
        mut stream: Pin<&mut Transport>,
        context: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        const PART: usize = 4096;
        if !self.is_shut {
            ready!(stream.as_mut().poll_shutdown(context))?;
            self.is_shut = true;
            self.timer = Some(Box::pin(sleep(LINGER)));
        }
        let mut part = [0; PART];
        loop {
            let is_over =
                self.timer.as_mut().is_none_or(|timer| timer.as_mut().poll(context).is_ready());
            let mut part = ReadBuf::new(&mut part);
            if is_over
                || ready!(stream.as_mut().poll_read(context, &mut part)).is_err()
                || part.filled().is_empty()
            {
                return Poll::Ready(Ok(()));
            }
        }
    }

    /// Called when no bytes are available. Ready if an incomplete header has timed out.
    fn poll_header_timeout(&mut self, context: &mut Context<'_>) -> Poll<()> {
        if !self.phase.is(Http1Phase::HEAD) {
            self.timer = None;
            return Poll::Pending;
        }
        let timer = self.timer.get_or_insert_with(|| Box::pin(sleep(self.timeout)));
        timer.as_mut().poll(context)
    }
}

/// The state of an HTTP/1.1 connection.
#[derive(Debug)]
pub(super) struct Http1Phase {
    now: AtomicU8,
    /// Whether the next answer is the last one.
    is_last: AtomicBool,
}

impl Http1Phase {
    /// Nothing was received since the last answer.
    const IDLE: u8 = 0;
    /// A part of a header was received.
    const HEAD: u8 = 1;
    /// A request is being answered.
    const REQUEST: u8 = 2;
    /// The answer is being sent.
    const ANSWERED: u8 = 3;

    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self { now: AtomicU8::new(Self::IDLE), is_last: AtomicBool::new(false) })
    }

    pub(super) fn request(&self) {
        self.now.store(Self::REQUEST, Ordering::Relaxed);
    }

    pub(super) fn answered(&self) {
        self.now.store(Self::ANSWERED, Ordering::Relaxed);
    }

    /// Makes the next answer the last one.
    pub(super) fn close_after_next(&self) {
        self.is_last.store(true, Ordering::Relaxed);
    }

    pub(super) fn is_last(&self) -> bool {
        self.is_last.load(Ordering::Relaxed)
    }

    fn is(&self, phase: u8) -> bool {
        self.now.load(Ordering::Relaxed) == phase
    }

    fn step(&self, from: u8, to: u8) -> bool {
        let is_from = self.is(from);
        if is_from {
            self.now.store(to, Ordering::Relaxed);
        }
        is_from
    }
}

impl BoundedIo {
    pub(super) fn new(stream: Transport, bounds: ProtocolBounds) -> Self {
        Self { stream, bounds }
    }

    fn received(
        &mut self,
        from: usize,
        buffer: &ReadBuf<'_>,
        context: &mut Context<'_>,
    ) -> io::Result<()> {
        let bytes = &buffer.filled()[from..];
        match &mut self.bounds {
            ProtocolBounds::Http1(http1) => {
                if http1.received(bytes) {
                    return Ok(());
                }
                // Best effort: if the socket's buffer is full, the answer is dropped.
                let _ = Pin::new(&mut self.stream).poll_write(context, &heads::ambiguous());
                Err(io::Error::other("both Content-Length and Transfer-Encoding"))
            }
            ProtocolBounds::Http2(http2) => {
                if http2.meter.received(bytes) {
                    return Ok(());
                }
                if let Some(goaway) = http2.meter.goaway() {
                    // Best effort: if the socket's buffer is full, the frame is dropped.
                    let _ = Pin::new(&mut self.stream).poll_write(context, &goaway);
                }
                http2.admission.refuse(RefusalKind::ControlFrames, http2.source);
                Err(io::Error::other("too many HTTP/2 control frames"))
            }
        }
    }

    fn sent(&mut self, written: &[u8]) {
        match &mut self.bounds {
            ProtocolBounds::Http1(http1) => {
                http1.phase.step(Http1Phase::ANSWERED, Http1Phase::IDLE);
            }
            ProtocolBounds::Http2(http2) => http2.meter.sent(written),
        }
    }
}

impl AsyncRead for BoundedIo {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let from = buffer.filled().len();
        match Pin::new(&mut self.stream).poll_read(context, buffer) {
            Poll::Ready(Ok(())) => Poll::Ready(self.received(from, buffer, context)),
            Poll::Pending => match &mut self.bounds {
                ProtocolBounds::Http1(http1) => {
                    http1.poll_header_timeout(context).map(|()| Err(io::ErrorKind::TimedOut.into()))
                }
                ProtocolBounds::Http2(_) => Poll::Pending,
            },
            failed @ Poll::Ready(Err(_)) => failed,
        }
    }
}

impl AsyncWrite for BoundedIo {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        if let ProtocolBounds::Http1(http1) = &mut self.bounds
            && http1.replace(bytes)
        {
            return Poll::Ready(Ok(bytes.len()));
        }
        let count = ready!(Pin::new(&mut self.stream).poll_write(context, bytes))?;
        self.sent(&bytes[..count]);
        Poll::Ready(Ok(count))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if let (ProtocolBounds::Http1(http1), Some(first)) = (&mut self.bounds, parts.first())
            && http1.replace(first)
        {
            return Poll::Ready(Ok(parts.iter().map(|part| part.len()).sum()));
        }
        let count = ready!(Pin::new(&mut self.stream).poll_write_vectored(context, parts))?;
        let mut left = count;
        for part in parts {
            let written = &part[..part.len().min(left)];
            self.sent(written);
            left -= written.len();
        }
        Poll::Ready(Ok(count))
    }

    /// False for HTTP/2. Without vectored writes, h2 sends the headers, a body of up to 1 KiB and
    /// the trailers in one write. With them, it ends a write after a body of 256 bytes, and the
    /// answer with a token needs two writes.
    fn is_write_vectored(&self) -> bool {
        matches!(self.bounds, ProtocolBounds::Http1(_)) && self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Self { stream, bounds } = &mut *self;
        if let ProtocolBounds::Http1(http1) = bounds {
            ready!(http1.poll_answer(Pin::new(stream), context))?;
        }
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Self { stream, bounds } = &mut *self;
        match bounds {
            ProtocolBounds::Http1(http1) => {
                ready!(http1.poll_answer(Pin::new(stream), context))?;
                http1.poll_shutdown(Pin::new(stream), context)
            }
            ProtocolBounds::Http2(_) => Pin::new(stream).poll_shutdown(context),
        }
    }
}
