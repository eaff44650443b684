//! The body of a request on its way to be decoded. It takes memory from the budgets for each part,
//! ends when it exceeds what the method takes, and passes a message on only when that is complete
//! and its decoded size is bounded.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::BoxError;
use axum::body::{Bytes, HttpBody};
use http_body_util::BodyExt;
use hyper::body::{Frame, SizeHint};
use tokio::time::timeout;
use tonic::Status;

use super::gzip::{self, PREFIX};
use super::methods::Method;
use super::shapes::Shapes;
use crate::admission::RequestPermit;
use crate::error::Error;

/// A smaller message is small when decoded, whatever it is.
const SMALL: usize = 256;
/// A message is held as it was received, and once more for the decoder.
const COPIES: usize = 2;

const UNKNOWN_FIELD: &str = "is a field that this version of Keyward does not know";

/// How much of a refused request is read and dropped. A client that is cut off while it sends often
/// takes that for a broken connection, and never reads the error.
const MAX_DISCARDED: usize = 2 * 1024 * 1024;
/// How long a client has to send that.
const DISCARD_TIMEOUT: Duration = Duration::from_secs(2);

/// A body that is bounded.
pub(super) struct Screened<B> {
    body: B,
    method: &'static Method,
    shapes: &'static Shapes,
    permit: Option<Arc<RequestPermit>>,
    /// The part of a message that was received so far.
    part: Vec<u8>,
    is_complete: bool,
    /// Messages may be compressed.
    is_gzip: bool,
    /// The memory that it holds.
    taken: usize,
    /// The message is refused, and this much of the rest is still read and dropped.
    refused: Option<(Status, usize)>,
}

/// Reads a body and drops it, before its request is refused.
pub(super) async fn discard<B>(mut body: B)
where
    B: HttpBody<Data = Bytes> + Unpin,
{
    let reads = async {
        let mut left = MAX_DISCARDED;
        while let Some(Ok(frame)) = body.frame().await {
            let length = frame.data_ref().map_or(0, Bytes::len);
            let Some(less) = left.checked_sub(length) else { return };
            left = less;
        }
    };
    timeout(DISCARD_TIMEOUT, reads).await.ok();
}

impl<B> Screened<B> {
    pub(super) fn new(
        body: B,
        method: &'static Method,
        shapes: &'static Shapes,
        permit: Option<Arc<RequestPermit>>,
    ) -> Self {
        Self {
            body,
            method,
            shapes,
            permit,
            part: Vec::new(),
            is_complete: false,
            is_gzip: false,
            taken: 0,
            refused: None,
        }
    }

    /// The same, of messages that may be compressed.
    pub(super) fn gzip(mut self, is_gzip: bool) -> Self {
        self.is_gzip = is_gzip;
        self
    }

    /// Takes what was received. Returns a message once it is complete.
    fn push(&mut self, data: Bytes) -> Result<Option<Bytes>, Status> {
        self.take(COPIES * data.len())?;
        // Most messages are received whole.
        if self.part.is_empty() && self.length(&data)? == Some(data.len()) {
            return self.pass(data).map(Some);
        }
        self.part.extend_from_slice(&data);
        self.next_message()
    }

    /// The next of the messages that were received, if it is complete.
    fn next_message(&mut self) -> Result<Option<Bytes>, Status> {
        match self.length(&self.part)? {
            Some(length) if length <= self.part.len() => {
                let rest = self.part.split_off(length);
                let message = std::mem::replace(&mut self.part, rest);
                self.pass(message.into()).map(Some)
            }
            _ => Ok(None),
        }
    }

    /// Passes a message on if its decoded size is bounded.
    fn pass(&mut self, mut message: Bytes) -> Result<Bytes, Status> {
        if self.is_complete && !self.method.is_streaming {
            return Err(Status::unimplemented("the method takes one message"));
        }
        self.is_complete = true;
        if self.is_gzip && gzip::is_compressed(&message) {
            let max_bytes = self.method.max_bytes;
            message = gzip::inflate(&message, max_bytes, |count| self.take(COPIES * count))?;
        }
        self.screen(&message)?;
        if self.method.is_streaming {
            // Its messages are small, and each is gone before the next is read.
            self.give_back();
        }
        Ok(message)
    }

    /// The length of a message with its prefix, as soon as that is known.
    fn length(&self, bytes: &[u8]) -> Result<Option<usize>, Status> {
        let Some(&[_, a, b, c, d]) = bytes.first_chunk::<PREFIX>() else { return Ok(None) };
        let length = u32::from_be_bytes([a, b, c, d]) as usize;
        let max_bytes = self.method.max_bytes;
        if length > max_bytes {
            return Err(Error::RequestTooLarge { max_bytes, form: "" }.into());
        }
        Ok(Some(PREFIX + length))
    }

    /// Holds what the message becomes, if that is not too much.
    fn screen(&mut self, message: &[u8]) -> Result<(), Status> {
        let (Some(shape), Some(message)) = (self.method.shape, message.get(PREFIX..)) else {
            return Ok(());
        };
        // One that is malformed is for the decoder to refuse, which stops where it is.
        let Some(measured) = self.shapes.measure(shape, message) else {
            return Ok(());
        };
        if self.method.is_own
            && let Some(field) = measured.unknown_field()
        {
            // A newer client may mean a condition or a rule by it: without it, more is allowed.
            return Err(Error::invalid(field, UNKNOWN_FIELD).into());
        }
        if message.len() <= SMALL {
            return Ok(());
        }
        let max_bytes = self.method.max_decoded;
        if measured.cost > max_bytes {
            let form = " once it is decoded: it has too many elements";
            return Err(Error::RequestTooLarge { max_bytes, form }.into());
        }
        self.take(measured.cost)
    }

    fn take(&mut self, bytes: usize) -> Result<(), Status> {
        if let Some(permit) = &self.permit {
            self.taken += permit.take(bytes)?;
        }
        Ok(())
    }

    fn give_back(&mut self) {
        if let Some(permit) = &self.permit {
            permit.give_back(std::mem::take(&mut self.taken));
        }
    }

    /// What is left at the end: why the request is refused, or half a message, of which the
    /// decoder knows what to say.
    fn end(&mut self) -> Option<Result<Frame<Bytes>, Status>> {
        if let Some((status, _)) = self.refused.take() {
            return Some(Err(status));
        }
        let part = std::mem::take(&mut self.part);
        (!part.is_empty()).then(|| Ok(Frame::data(part.into())))
    }

    /// Gives everything back at once, so that requests which come at the same time are not all
    /// refused, each because of the parts of the others.
    fn refuse(&mut self, status: Status) {
        self.part = Vec::new();
        self.give_back();
        self.refused = Some((status, MAX_DISCARDED));
    }
}

impl<B> HttpBody for Screened<B>
where
    B: HttpBody<Data = Bytes, Error: Into<BoxError>> + Unpin,
{
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        loop {
            if let Some((status, _)) = self.refused.take_if(|(_, left)| *left == 0) {
                return Poll::Ready(Some(Err(status)));
            }
            // One frame may bring several messages.
            let mut next = if self.is_complete { self.next_message() } else { Ok(None) };
            if let Ok(None) = next {
                match ready!(Pin::new(&mut self.body).poll_frame(context)) {
                    // Trailers of a request would be taken for metadata: nothing has looked at
                    // those.
                    Some(Ok(frame)) => match (frame.into_data(), &mut self.refused) {
                        (Ok(data), Some((_, left))) => *left = left.saturating_sub(data.len()),
                        (Ok(data), None) => next = self.push(data),
                        (Err(_), _) => {}
                    },
                    Some(Err(error)) => {
                        return Poll::Ready(Some(Err(Status::from_error(error.into()))));
                    }
                    None => return Poll::Ready(self.end()),
                }
            }
            match next {
                Ok(Some(message)) => return Poll::Ready(Some(Ok(Frame::data(message)))),
                Ok(None) => {}
                Err(status) => self.refuse(status),
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.part.is_empty() && self.refused.is_none() && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        if self.part.is_empty() { self.body.size_hint() } else { SizeHint::default() }
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::StreamBody;

    use super::super::methods::Methods;
    use super::*;

    const REFLECTION: &str = "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo";
    const ISSUE: &str = "/keyward.token.v1.TokenService/IssueToken";

    fn message(bytes: &[u8]) -> Vec<u8> {
        let length = u32::try_from(bytes.len()).unwrap().to_be_bytes();
        [&[0][..], &length, bytes].concat()
    }

    /// What a method's decoder is handed, of a body that comes in parts of this size.
    async fn screened(path: &str, bytes: &[u8], size: usize) -> Vec<Result<Bytes, tonic::Code>> {
        let methods = Methods::get().unwrap();
        let parts: Vec<_> = bytes
            .chunks(size)
            .map(|part| Ok::<_, Status>(Frame::data(Bytes::copy_from_slice(part))))
            .collect();
        let body = StreamBody::new(tokio_stream::iter(parts));
        let mut body = Screened::new(body, methods.of(path).0, &methods.shapes, None);
        let mut found = Vec::new();
        while let Some(frame) = body.frame().await {
            let is_last = frame.is_err();
            found.push(frame.map(|frame| frame.into_data().unwrap()).map_err(|s| s.code()));
            if is_last {
                break;
            }
        }
        found
    }

    #[tokio::test]
    async fn messages_are_found_however_they_are_cut() {
        let (one, two, three) = (message(b"one"), message(b""), message(&[7; 300]));
        let all = [&one[..], &two, &three].concat();
        for size in 1..=all.len() {
            let found = screened(REFLECTION, &all, size).await;
            let expected = [&one, &two, &three].map(|part| Ok(Bytes::copy_from_slice(part)));
            assert_eq!(found, expected, "{size}");
        }
    }

    #[tokio::test]
    async fn unary_method_takes_one_message_that_is_not_too_long() {
        let one = message(&[0; 5000]);
        assert_eq!(screened(ISSUE, &one, 16_384).await, [Ok(Bytes::copy_from_slice(&one))]);
        let two = [&one[..], &one].concat();
        let found = screened(ISSUE, &two, 7).await;
        assert_eq!(found.last(), Some(&Err(tonic::Code::Unimplemented)));
        for size in [1000, 100_000] {
            let found = screened(ISSUE, &message(&vec![0; 65_537]), size).await;
            assert_eq!(found, [Err(tonic::Code::ResourceExhausted)]);
        }
    }
}
