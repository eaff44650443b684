//! A connection's bytes on their way to hyper, with the bounds that hyper does not know: how
//! long the header of a request takes, and how many control frames there are.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Sleep, sleep};

use super::frames::FrameMeter;
use crate::admission::{Admission, What};
use crate::domain::Source;

/// A connection that is watched over.
pub(super) struct Watched {
    stream: TcpStream,
    bounds: Bounds,
}

pub(super) enum Bounds {
    Http1(Heads),
    Http2(Box<Http2>),
}

/// What is watched of an HTTP/2 connection.
pub(super) struct Http2 {
    pub(super) meter: FrameMeter,
    pub(super) admission: Admission,
    pub(super) source: Source,
}

/// Bounds how long the header of each request takes, from its first byte to its last.
pub(super) struct Heads {
    phase: Arc<Phase>,
    timeout: Duration,
    /// Runs where a header has begun and its rest is waited for.
    timer: Option<Pin<Box<Sleep>>>,
}

impl Heads {
    pub(super) fn new(phase: &Arc<Phase>, timeout: Duration) -> Self {
        Self { phase: Arc::clone(phase), timeout, timer: None }
    }

    /// More of a header is waited for, or of a request, or nothing.
    fn poll_patience(&mut self, context: &mut Context<'_>) -> Poll<()> {
        if !self.phase.is(Phase::HEAD) {
            self.timer = None;
            return Poll::Pending;
        }
        let timer = self.timer.get_or_insert_with(|| Box::pin(sleep(self.timeout)));
        timer.as_mut().poll(context)
    }
}

/// Where an HTTP/1.1 connection stands.
#[derive(Debug)]
pub(super) struct Phase(AtomicU8);

impl Phase {
    /// Nothing came since the last answer.
    const IDLE: u8 = 0;
    /// A header has begun.
    const HEAD: u8 = 1;
    /// A request is being answered.
    const REQUEST: u8 = 2;
    /// Its answer is on its way.
    const ANSWERED: u8 = 3;

    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self(AtomicU8::new(Self::IDLE)))
    }

    pub(super) fn request(&self) {
        self.0.store(Self::REQUEST, Ordering::Relaxed);
    }

    pub(super) fn answered(&self) {
        self.0.store(Self::ANSWERED, Ordering::Relaxed);
    }

    fn is(&self, phase: u8) -> bool {
        self.0.load(Ordering::Relaxed) == phase
    }

    fn step(&self, from: u8, to: u8) {
        if self.is(from) {
            self.0.store(to, Ordering::Relaxed);
        }
    }
}

impl Watched {
    pub(super) fn new(stream: TcpStream, bounds: Bounds) -> Self {
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
            Bounds::Http1(heads) => {
                if !bytes.is_empty() {
                    heads.phase.step(Phase::IDLE, Phase::HEAD);
                }
                Ok(())
            }
            Bounds::Http2(http2) => {
                if http2.meter.received(bytes) {
                    return Ok(());
                }
                if let Some(goodbye) = http2.meter.goodbye() {
                    // Where there is no room for it, it is left out.
                    let _ = Pin::new(&mut self.stream).poll_write(context, &goodbye);
                }
                http2.admission.refuse(What::ControlFrames, http2.source);
                Err(io::Error::other("too many HTTP/2 control frames"))
            }
        }
    }

    fn sent(&mut self, written: &[u8]) {
        match &mut self.bounds {
            Bounds::Http1(heads) => heads.phase.step(Phase::ANSWERED, Phase::IDLE),
            Bounds::Http2(http2) => http2.meter.sent(written),
        }
    }
}

impl AsyncRead for Watched {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let from = buffer.filled().len();
        match Pin::new(&mut self.stream).poll_read(context, buffer) {
            Poll::Ready(Ok(())) => Poll::Ready(self.received(from, buffer, context)),
            Poll::Pending => match &mut self.bounds {
                Bounds::Http1(heads) => {
                    heads.poll_patience(context).map(|()| Err(io::ErrorKind::TimedOut.into()))
                }
                Bounds::Http2(_) => Poll::Pending,
            },
            failed @ Poll::Ready(Err(_)) => failed,
        }
    }
}

impl AsyncWrite for Watched {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let count = ready!(Pin::new(&mut self.stream).poll_write(context, bytes))?;
        self.sent(&bytes[..count]);
        Poll::Ready(Ok(count))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let count = ready!(Pin::new(&mut self.stream).poll_write_vectored(context, parts))?;
        let mut left = count;
        for part in parts {
            let written = &part[..part.len().min(left)];
            self.sent(written);
            left -= written.len();
        }
        Poll::Ready(Ok(count))
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
