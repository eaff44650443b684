//! Limits request bodies before they are decoded. A body takes memory from the budgets for each
//! part that arrives. It passes on a message only when the message is complete, within the method's
//! size limit, and within the limit for its decoded size.

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
use super::methods::RpcMethod;
use super::shapes::Shapes;
use crate::admission::RequestPermit;
use crate::error::Error;

/// Messages up to this size are not measured: their decoded size is always small.
const SMALL: usize = 256;
/// A message is in memory twice: as it was received, and for the decoder.
const COPIES: usize = 2;

const UNKNOWN_FIELD: &str = "is a field that this version of Keyward does not know";

/// The maximum of bytes that are read and dropped after a refusal. A client that is interrupted
/// while it sends often reports a broken connection, and never reads the error.
const MAX_DISCARDED: usize = 2 * 1024 * 1024;
/// The time limit for reading and dropping the rest.
const DISCARD_TIMEOUT: Duration = Duration::from_secs(2);

/// A body that enforces the limits of its method.
pub(super) struct BoundedBody<B> {
    body: B,
    method: &'static RpcMethod,
    shapes: &'static Shapes,
    permit: Option<Arc<RequestPermit>>,
    /// The received part of an incomplete message.
    part: Vec<u8>,
    is_complete: bool,
    /// Whether messages may be compressed.
    is_gzip: bool,
    /// The memory that this body has taken from the budgets.
    taken: usize,
    /// The reason for a refusal, and the number of bytes that are still read and dropped.
    refused: Option<(Status, usize)>,
}

/// Reads and drops a body before its request is refused.
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

impl<B> BoundedBody<B> {
    pub(super) fn new(
        body: B,
        method: &'static RpcMethod,
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

    /// Sets whether messages may be compressed.
    pub(super) fn gzip(mut self, is_gzip: bool) -> Self {
        self.is_gzip = is_gzip;
        self
    }

    /// Takes received bytes. Returns a message once it is complete.
    fn push(&mut self, data: Bytes) -> Result<Option<Bytes>, Status> {
        self.take(COPIES * data.len())?;
        // Most messages arrive in one part, which needs no copy.
        if self.part.is_empty() && self.length(&data)? == Some(data.len()) {
            return self.check(data).map(Some);
        }
        self.part.extend_from_slice(&data);
        self.next_message()
    }

    /// The next received message, if it is complete.
    fn next_message(&mut self) -> Result<Option<Bytes>, Status> {
        match self.length(&self.part)? {
            Some(length) if length <= self.part.len() => {
                let rest = self.part.split_off(length);
                let message = std::mem::replace(&mut self.part, rest);
                self.check(message.into()).map(Some)
            }
            _ => Ok(None),
        }
    }

    /// Checks a complete message, and decompresses it if necessary.
    fn check(&mut self, mut message: Bytes) -> Result<Bytes, Status> {
        if self.is_complete && !self.method.is_streaming {
            return Err(Status::unimplemented("the method takes one message"));
        }
        self.is_complete = true;
        if self.is_gzip && gzip::is_compressed(&message) {
            let max_bytes = self.method.max_bytes;
            message = gzip::inflate(&message, max_bytes, |count| self.take(COPIES * count))?;
        }
        self.check_decoded_size(&message)?;
        if self.method.is_streaming {
            // The messages of these methods are small, and each is dropped before the next is read.
            self.give_back();
        }
        Ok(message)
    }

    /// The length of a message with its prefix, once the prefix is complete.
    fn length(&self, bytes: &[u8]) -> Result<Option<usize>, Status> {
        let Some(&[_, a, b, c, d]) = bytes.first_chunk::<PREFIX>() else { return Ok(None) };
        let length = u32::from_be_bytes([a, b, c, d]) as usize;
        let max_bytes = self.method.max_bytes;
        if length > max_bytes {
            return Err(Error::RequestTooLarge { max_bytes, form: "" }.into());
        }
        Ok(Some(PREFIX + length))
    }

    /// Checks the fields and the decoded size of a message, and takes memory for it.
    fn check_decoded_size(&mut self, message: &[u8]) -> Result<(), Status> {
        let (Some(shape), Some(message)) = (self.method.shape, message.get(PREFIX..)) else {
            return Ok(());
        };
        // The decoder refuses a malformed message, and allocates nothing after the error.
        let Some(measured) = self.shapes.measure(shape, message) else {
            return Ok(());
        };
        if self.method.is_own
            && let Some(field) = measured.unknown_field()
        {
            // A newer client may send a condition or a restriction in it. Ignoring it could allow
            // too much.
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

    /// The last frame: the reason for a refusal, or an incomplete message, which the decoder
    /// reports as an error.
    fn end(&mut self) -> Option<Result<Frame<Bytes>, Status>> {
        if let Some((status, _)) = self.refused.take() {
            return Some(Err(status));
        }
        let part = std::mem::take(&mut self.part);
        (!part.is_empty()).then(|| Ok(Frame::data(part.into())))
    }

    /// Refuses the request, and gives its memory back immediately. Otherwise concurrent requests
    /// could all be refused because each holds some memory.
    fn refuse(&mut self, status: Status) {
        self.part = Vec::new();
        self.give_back();
        self.refused = Some((status, MAX_DISCARDED));
    }
}

impl<B> HttpBody for BoundedBody<B>
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
            // One frame can contain several messages.
            let mut next = if self.is_complete { self.next_message() } else { Ok(None) };
            if let Ok(None) = next {
                match ready!(Pin::new(&mut self.body).poll_frame(context)) {
                    // Drops trailers: tonic would merge them into the metadata, which is checked
                    // already.
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

    /// The frames that a method's decoder gets from a body that arrives in parts of this size.
    async fn received(path: &str, bytes: &[u8], size: usize) -> Vec<Result<Bytes, tonic::Code>> {
        let methods = Methods::get().unwrap();
        let parts: Vec<_> = bytes
            .chunks(size)
            .map(|part| Ok::<_, Status>(Frame::data(Bytes::copy_from_slice(part))))
            .collect();
        let body = StreamBody::new(tokio_stream::iter(parts));
        let mut body = BoundedBody::new(body, methods.of(path).0, &methods.shapes, None);
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
    async fn messages_are_found_at_any_split_of_the_body() {
        let (one, two, three) = (message(b"one"), message(b""), message(&[7; 300]));
        let all = [&one[..], &two, &three].concat();
        for size in 1..=all.len() {
            let found = received(REFLECTION, &all, size).await;
            let expected = [&one, &two, &three].map(|part| Ok(Bytes::copy_from_slice(part)));
            assert_eq!(found, expected, "{size}");
        }
    }

    #[tokio::test]
    async fn second_or_oversized_message_of_unary_method_is_refused() {
        let one = message(&[0; 5000]);
        assert_eq!(received(ISSUE, &one, 16_384).await, [Ok(Bytes::copy_from_slice(&one))]);
        let two = [&one[..], &one].concat();
        let found = received(ISSUE, &two, 7).await;
        assert_eq!(found.last(), Some(&Err(tonic::Code::Unimplemented)));
        for size in [1000, 100_000] {
            let found = received(ISSUE, &message(&vec![0; 65_537]), size).await;
            assert_eq!(found, [Err(tonic::Code::ResourceExhausted)]);
        }
    }
}
