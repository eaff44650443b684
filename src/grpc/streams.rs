//! Server streams. The source produces a message only after the previous one is sent, so that
//! nothing is buffered for a slow client. A stream whose client is too slow ends with an error.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;
use tokio_stream::Stream;
use tokio_util::sync::CancellationToken;
use tonic::Status;

use crate::error::{Error, Result};

/// The settings of streams.
#[derive(Clone, Debug)]
pub struct Streaming {
    /// How long a message may wait for the client to read it.
    pub patience: Duration,
    /// Cancelled when the server stops.
    pub stop: CancellationToken,
}

pub(super) trait MessageSource: Send + 'static {
    type Message: Send + 'static;

    /// Waits for the next message.
    fn next(&mut self) -> impl Future<Output = Result<Self::Message>> + Send;
}

/// The messages of a source. The stream ends when the source fails, the client is too slow, or the
/// server stops.
#[derive(Debug)]
pub(super) struct Messages<M> {
    messages: mpsc::Receiver<M>,
    end: Option<oneshot::Receiver<Error>>,
}

impl Streaming {
    /// Starts a stream of the messages of a source.
    pub(super) fn messages<S: MessageSource>(&self, source: S) -> Messages<S::Message> {
        let (sender, messages) = mpsc::channel(1);
        let (ended, end) = oneshot::channel();
        let this = self.clone();
        tokio::spawn(async move {
            let why = this.pass_on(source, sender).await;
            // This fails if the client is gone.
            ended.send(why).ok();
        });
        Messages { messages, end: Some(end) }
    }

    /// Passes messages on until the stream ends, and returns why.
    async fn pass_on<S: MessageSource>(
        &self,
        mut source: S,
        reader: mpsc::Sender<S::Message>,
    ) -> Error {
        loop {
            let message = tokio::select! {
                message = source.next() => message,
                () = self.stop.cancelled() => return Error::Stopping,
                () = reader.closed() => return Error::TooSlow,
            };
            match message {
                Ok(message) => match timeout(self.patience, reader.send(message)).await {
                    Ok(Ok(())) => {}
                    Ok(Err(_)) | Err(_) => return Error::TooSlow,
                },
                Err(error) => return error,
            }
        }
    }
}

impl<M> Stream for Messages<M> {
    type Item = Result<M, Status>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if let Some(message) = std::task::ready!(self.messages.poll_recv(context)) {
            return Poll::Ready(Some(Ok(message)));
        }
        let Some(end) = self.end.as_mut() else {
            return Poll::Ready(None);
        };
        let why = std::task::ready!(Pin::new(end).poll(context));
        self.end = None;
        let why = why.unwrap_or_else(|_| Error::internal("a stream ended without a reason"));
        Poll::Ready(Some(Err(Status::from(why))))
    }
}
