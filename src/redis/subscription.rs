//! Hearing what others publish. Over a connection of its own, which subscribes again by
//! itself; what is published meanwhile, or faster than it is taken, is lost. So a message
//! is a hint, and who must know has to look.

use std::time::Duration;

use redis::RedisError;
use redis::aio::PubSub;
use tokio::sync::mpsc;
use tokio::time::{sleep, timeout};
use tokio_stream::StreamExt;

use super::keeper::Backoff;
use super::{Redis, Trouble};

/// Messages that wait to be taken; more are lost.
const WAITING: usize = 1024;
/// How often a silent connection is asked whether it is still there.
const WATCH: Duration = Duration::from_secs(1);

/// What comes over a channel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Heard {
    /// From now on messages come; some may have been missed before.
    Subscribed,
    /// Something that was published.
    Message(Vec<u8>),
}

/// A subscription, until it is dropped.
#[derive(Debug)]
pub struct Subscription(mpsc::Receiver<Heard>);

impl Subscription {
    /// Waits for the next thing there is to hear. Can be cancelled without losing any.
    pub async fn hear(&mut self) -> Heard {
        match self.0.recv().await {
            Some(heard) => heard,
            // Its task ends with the runtime alone, and then there is nothing to hear.
            None => std::future::pending().await,
        }
    }
}

impl Redis {
    /// Subscribes to a channel, now and after every reconnect.
    pub fn subscribe(&self, channel: impl Into<String>) -> Subscription {
        let (sender, receiver) = mpsc::channel(WAITING);
        let (redis, channel) = (self.clone(), channel.into());
        tokio::spawn(async move {
            tokio::select! {
                () = sender.closed() => {}
                () = redis.keep_listening(&channel, &sender) => {}
            }
        });
        Subscription(receiver)
    }

    /// Makes sure that a channel can be heard.
    pub async fn try_to_hear(&self, channel: &str) -> Result<(), Trouble> {
        self.0.dialler.listen(channel).await.map(drop)
    }

    async fn keep_listening(&self, channel: &str, sender: &mpsc::Sender<Heard>) {
        let mut backoff = Backoff::new();
        let mut refused = false;
        loop {
            match self.0.dialler.listen(channel).await {
                Ok(listener) => {
                    if std::mem::take(&mut refused) {
                        tracing::info!(channel, "Redis can be listened to again");
                    }
                    backoff = Backoff::new();
                    let trouble = self.listen(listener, sender).await;
                    tracing::debug!(channel, %trouble, "subscription lost");
                }
                Err(Trouble::Unfit(why)) if !refused => {
                    refused = true;
                    tracing::warn!(channel, why, "Redis cannot be listened to");
                }
                // That it is away the link tells: this one has the same trouble.
                Err(_) => {}
            }
            backoff.pause().await;
        }
    }

    /// Passes messages on until the connection is lost.
    async fn listen(&self, listener: PubSub, sender: &mpsc::Sender<Heard>) -> Trouble {
        let (mut sink, mut messages) = listener.split();
        // Nothing here waits for room: who has as much to take as this will look anyway.
        sender.try_send(Heard::Subscribed).ok();
        loop {
            tokio::select! {
                message = messages.next() => {
                    let Some(message) = message else {
                        return Trouble::Away("the connection was closed".into());
                    };
                    sender.try_send(Heard::Message(message.get_payload_bytes().to_vec())).ok();
                }
                () = sleep(WATCH) => {
                    let ping = timeout(self.0.dialler.timeouts.response, sink.ping());
                    match ping.await {
                        Ok(Ok(())) => {}
                        Ok(Err(error)) => return RedisError::into(error),
                        Err(elapsed) => return elapsed.into(),
                    }
                }
            }
        }
    }
}
