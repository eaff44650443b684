//! Opens a connection: finds out its protocol and, on a listener with TLS, does the handshake.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{timeout, timeout_at};
use tokio_rustls::server::TlsStream;

use super::heads;
use super::stream::LINGER;
use crate::domain::ClientCertificate;
use crate::server::tls::{ListenerTls, TlsClient};

/// The first byte of a TLS connection: a record with a handshake message (RFC 8446, section 5.1).
const TLS_HANDSHAKE: u8 = 0x16;

/// Tells an HTTP/2 client without TLS why its connection ends: an empty SETTINGS frame, which must
/// be first, and a GOAWAY frame with `INADEQUATE_SECURITY` (RFC 9113, sections 6.8 and 7). Clients
/// show its text.
const NEEDS_TLS: &[u8] = b"\0\0\0\x04\0\0\0\0\0\
    \0\0\x25\x07\0\0\0\0\0\0\0\0\0\0\0\0\x0cthis port uses TLS: use https";

/// The bytes of a connection.
pub(super) enum Transport {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

/// An opened connection.
pub(super) struct Opened {
    pub(super) transport: Transport,
    pub(super) protocol: Protocol,
    pub(super) certificate: Option<ClientCertificate>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Protocol {
    Http1,
    Http2,
}

/// Opens a connection, unless its client sends nothing or something else in time. A client that
/// closes its connection without a byte, as TCP probes do, is not noted.
pub(super) async fn open(
    stream: TcpStream,
    client: TlsClient,
    tls: Option<&ListenerTls>,
) -> Option<Opened> {
    let Some(tls) = tls else {
        let protocol = timeout_at(client.deadline, protocol(&stream)).await.ok()??;
        return Some(Opened { transport: Transport::Plain(stream), protocol, certificate: None });
    };
    let mut first = [0; 4];
    let Ok(peeked) = timeout_at(client.deadline, stream.peek(&mut first)).await else {
        tls.note_silent(client);
        return None;
    };
    let count = peeked.ok().filter(|count| *count > 0)?;
    if first[0] != TLS_HANDSHAKE {
        tls.note_plaintext(client);
        refuse_plaintext(stream, &first[..count]).await;
        return None;
    }
    // The flights of a handshake are small.
    stream.set_nodelay(true).ok()?;
    let done = match tls.handshake(stream, client).await {
        Ok(done) => done,
        Err(stream) => {
            linger(stream?).await;
            return None;
        }
    };
    Some(Opened {
        transport: Transport::Tls(Box::new(done.stream)),
        protocol: if done.is_http2 { Protocol::Http2 } else { Protocol::Http1 },
        certificate: done.certificate,
    })
}

/// Tells a client without TLS that it needs TLS, in the protocol that it speaks.
async fn refuse_plaintext(mut stream: TcpStream, first: &[u8]) {
    let answer = match first {
        b"PRI " => NEEDS_TLS.to_vec(),
        [letter, ..] if letter.is_ascii_uppercase() => heads::needs_tls(),
        _ => return,
    };
    if timeout(LINGER, stream.write_all(&answer)).await.is_ok_and(|written| written.is_ok()) {
        linger(stream).await;
    }
}

/// Closes a connection whose client has something to read. Closing while the client still sends
/// would reset the connection, and lose that.
async fn linger(mut stream: TcpStream) {
    let closed = async {
        stream.shutdown().await?;
        let mut rest = [0; 1024];
        while stream.read(&mut rest).await? > 0 {}
        io::Result::Ok(())
    };
    timeout(LINGER, closed).await.ok();
}

/// Detects the protocol from the first bytes, without consuming them. An HTTP/2 client starts with
/// a fixed preface (RFC 9113, section 3.4).
async fn protocol(stream: &TcpStream) -> Option<Protocol> {
    const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
    const MAX_PAUSE: Duration = Duration::from_millis(640);
    let mut first = [0; PREFACE.len()];
    let mut pause = Duration::from_millis(20);
    loop {
        match stream.peek(&mut first).await {
            Ok(0) | Err(_) => return None,
            Ok(n) if first[..n] != PREFACE[..n] => return Some(Protocol::Http1),
            Ok(n) if n == PREFACE.len() => return Some(Protocol::Http2),
            // Only a part of the preface. Peeking again returns immediately with the same bytes, so
            // this sleeps.
            Ok(_) => {
                tokio::time::sleep(pause).await;
                pause = MAX_PAUSE.min(2 * pause);
            }
        }
    }
}

impl Transport {
    pub(super) fn set_nodelay(&self) -> io::Result<()> {
        match self {
            Self::Plain(stream) => stream.set_nodelay(true),
            // The handshake has set it.
            Self::Tls(_) => Ok(()),
        }
    }

    pub(super) fn is_tls(&self) -> bool {
        matches!(self, Self::Tls(_))
    }
}

impl AsyncRead for Transport {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_read(context, buffer),
            Self::Tls(stream) => Pin::new(stream).poll_read(context, buffer),
        }
    }
}

impl AsyncWrite for Transport {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_write(context, bytes),
            Self::Tls(stream) => Pin::new(stream).poll_write(context, bytes),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_write_vectored(context, parts),
            Self::Tls(stream) => Pin::new(stream).poll_write_vectored(context, parts),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Self::Plain(stream) => stream.is_write_vectored(),
            Self::Tls(stream) => stream.is_write_vectored(),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_flush(context),
            Self::Tls(stream) => Pin::new(stream).poll_flush(context),
        }
    }

    /// With TLS, this sends `close_notify` first, so that the client knows that nothing is missing.
    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_shutdown(context),
            Self::Tls(stream) => Pin::new(stream).poll_shutdown(context),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::NEEDS_TLS;

    #[test]
    fn goaway_frame_has_the_length_that_it_says() {
        let (settings, goaway) = NEEDS_TLS.split_at(9);
        assert_eq!(settings, [0, 0, 0, 4, 0, 0, 0, 0, 0]);
        assert_eq!(usize::from(goaway[2]), goaway.len() - 9);
        assert_eq!(goaway[9..17], [0, 0, 0, 0, 0, 0, 0, 0xc]);
    }
}
