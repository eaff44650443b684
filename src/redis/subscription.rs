//! Subscriptions to channels. A subscription has its own connection and resubscribes after a
//! disconnect. Messages that are published meanwhile, or that arrive faster than they are read, are
//! lost. Therefore a message is only a hint to look for changes.

use std::time::Duration;

use redis::RedisError;
use redis::aio::PubSub;
use tokio::sync::mpsc;
use tokio::time::{sleep, timeout};
use tokio_stream::StreamExt;

use super::keeper::MAX_PAUSE;
use super::{LinkError, Redis};
use crate::backoff::Backoff;

/// The maximum number of unread messages; further ones are dropped.
const MAX_UNREAD: usize = 1024;
/// How often a silent connection is checked.
const WATCH: Duration = Duration::from_secs(1);

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SubscriptionEvent {
    /// The subscription is active. Earlier messages may have been missed.
    Subscribed,
    /// A published message.
    Message(Vec<u8>),
}

/// A subscription, until it is dropped.
#[derive(Debug)]
pub struct Subscription(mpsc::Receiver<SubscriptionEvent>);

impl Subscription {
    /// Waits for the next event. Cancel safe.
    pub async fn next(&mut self) -> SubscriptionEvent {
        match self.0.recv().await {
            Some(event) => event,
            // The sending task ends only with the runtime. Then there are no further events.
            None => std::future::pending().await,
        }
    }
}

impl Redis {
    /// Subscribes to a channel, now and after every reconnect.
    pub fn subscribe(&self, channel: impl Into<String>) -> Subscription {
        let (sender, receiver) = mpsc::channel(MAX_UNREAD);
        let (redis, channel) = (self.clone(), channel.into());
        tokio::spawn(async move {
            tokio::select! {
                () = sender.closed() => {}
                () = redis.keep_listening(&channel, &sender) => {}
            }
        });
        Subscription(receiver)
    }

    /// Checks that the channel can be subscribed to.
    pub async fn check_subscription(&self, channel: &str) -> Result<(), LinkError> {
        self.0.connector.listen(channel).await.map(drop)
    }

    async fn keep_listening(&self, channel: &str, sender: &mpsc::Sender<SubscriptionEvent>) {
        let mut backoff = Backoff::default();
        let mut refused = false;
        loop {
            match self.0.connector.listen(channel).await {
                Ok(listener) => {
                    if std::mem::take(&mut refused) {
                        tracing::info!(channel, "subscribed to Redis again");
                    }
                    backoff = Backoff::default();
                    let trouble = self.listen(listener, sender).await;
                    tracing::debug!(channel, %trouble, "subscription lost");
                }
                Err(LinkError::Unfit(why)) if !refused => {
                    refused = true;
                    tracing::warn!(channel, why, "cannot subscribe to Redis");
                }
                // If Redis is down, the link reports it.
                Err(_) => {}
            }
            backoff.pause(MAX_PAUSE).await;
        }
    }

    /// Forwards messages until the connection is lost.
    async fn listen(
        &self,
        listener: PubSub,
        sender: &mpsc::Sender<SubscriptionEvent>,
    ) -> LinkError {
        let (mut sink, mut messages) = listener.split();
        // Never waits for room: a receiver with a full queue will look for changes anyway.
        sender.try_send(SubscriptionEvent::Subscribed).ok();
        loop {
            tokio::select! {
                message = messages.next() => {
                    let Some(message) = message else {
                        return LinkError::Away("the connection was closed".into());
                    };
                    sender.try_send(SubscriptionEvent::Message(message.get_payload_bytes().to_vec())).ok();
                }
                () = sleep(WATCH) => {
                    let ping = timeout(self.0.connector.timeouts.response, sink.ping());
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
