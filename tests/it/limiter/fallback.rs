//! Redis outages: replicas count by themselves, and requests do not wait.

use std::io;
use std::sync::{Arc, Mutex};

use keyward::internals::limiter::Limiter;
use tokio::net::TcpListener;
use tracing_subscriber::fmt::MakeWriter;

use super::{MINUTE, demand, noon, one};
use crate::harness::redis::{keep, link_to, unreachable_url};
use crate::harness::{RedisServer, in_time, until};

async fn count_admitted(limiter: &Limiter, max: u64, attempts: usize) -> usize {
    let mut admitted = 0;
    for _ in 0..attempts {
        let decision = limiter.take("acme", &[one("app", max, MINUTE)]).await;
        admitted += usize::from(decision.admitted);
    }
    admitted
}

#[tokio::test(flavor = "multi_thread")]
async fn without_redis_each_replica_counts_its_share() {
    let limiter = Limiter::over(link_to(&unreachable_url()), noon());
    limiter.set_replicas(3);
    assert_eq!(count_admitted(&limiter, 40, 50).await, 13);
    assert_eq!(limiter.fallbacks().get(), 50);
    let peeked = limiter.peek("acme", &[one("app", 40, MINUTE)]).await;
    assert_eq!((peeked.outcomes[0].limit, peeked.outcomes[0].remaining), (40, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn share_admits_one_request_of_any_admissible_cost() {
    let limiter = Limiter::over(link_to(&unreachable_url()), noon());
    limiter.set_replicas(5);
    assert_eq!(count_admitted(&limiter, 2, 5).await, 1);
    let batch = [demand("items", 1000, MINUTE, 900)];
    assert!(limiter.take("acme", &batch).await.admitted);
    assert!(!limiter.take("acme", &batch).await.admitted);
    assert!(!limiter.take("acme", &[demand("more", 1000, MINUTE, 1001)]).await.admitted);
}

#[tokio::test(flavor = "multi_thread")]
async fn counting_in_redis_resumes_automatically() {
    let mut server = RedisServer::start();
    let redis = server.link().await;
    let _kept = keep(&redis);
    let limiter = Limiter::over(redis.clone(), noon());
    assert_eq!(count_admitted(&limiter, 5, 9).await, 5);
    for _ in 0..2 {
        server.stop();
        count_admitted(&limiter, 5, 9).await;
        assert!(!redis.is_up() && limiter.fallbacks().get() >= 9);
        limiter.fallbacks().inner().store(0, std::sync::atomic::Ordering::Relaxed);
        server.start_again();
        until("the link is up", async || redis.is_up()).await;
        // It is empty after the restart, which costs one window, and has no cached scripts.
        assert_eq!(count_admitted(&limiter, 5, 9).await, 5);
        assert_eq!(limiter.fallbacks().get(), 0);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn hanging_redis_costs_one_timeout() {
    let server = RedisServer::start();
    let redis = server.link().await;
    let _kept = keep(&redis);
    let limiter = Limiter::over(redis.clone(), noon());
    assert_eq!(count_admitted(&limiter, 1000, 1).await, 1);
    server.pause();
    // Concurrent calls share one timeout, and later ones have none: they do not ask Redis.
    let before = redis.commands().get();
    let waiting: Vec<_> = (0..20)
        .map(|_| {
            let limiter = limiter.clone();
            tokio::spawn(async move { count_admitted(&limiter, 1000, 20).await })
        })
        .collect();
    for task in waiting {
        assert_eq!(task.await.unwrap(), 20);
    }
    assert!(!redis.is_up());
    let asked = redis.commands().get() - before;
    assert!((1..=20).contains(&asked), "of 400 decisions, {asked} asked Redis");
    server.resume();
    until("the link is up", async || redis.is_up()).await;
    let before = limiter.fallbacks().get();
    assert_eq!(count_admitted(&limiter, 1000, 1).await, 1);
    assert_eq!(limiter.fallbacks().get(), before);
}

#[tokio::test(flavor = "multi_thread")]
async fn full_redis_is_not_needed() {
    let server = RedisServer::start();
    let redis = server.link().await;
    let limiter = Limiter::over(redis.clone(), noon());
    server.cli(&["config", "set", "maxmemory", "1"]);
    assert_eq!(count_admitted(&limiter, 5, 9).await, 5);
    assert_eq!(limiter.fallbacks().get(), 9);
    // It answers, so the link stays up.
    assert!(redis.is_up());
    server.cli(&["config", "set", "maxmemory", "0"]);
    assert_eq!(count_admitted(&limiter, 5, 9).await, 5);
    assert_eq!(limiter.fallbacks().get(), 9);
}

#[tokio::test(flavor = "multi_thread")]
async fn decision_is_one_command_or_two_without_cached_script() {
    let server = RedisServer::start();
    let redis = server.link().await;
    let limiter = Limiter::over(redis.clone(), noon());
    let demands = [one("app", 9, MINUTE), one("key", 9, MINUTE), one("tenant", 9, MINUTE)];
    let commands = async |what: &str| {
        let before = redis.commands().get();
        match what {
            "take" => drop(limiter.take("acme", &demands).await),
            _ => drop(limiter.peek("acme", &demands).await),
        }
        redis.commands().get() - before
    };
    assert_eq!(commands("take").await, 2);
    assert_eq!(commands("take").await, 1);
    assert_eq!(commands("peek").await, 1);
    server.cli(&["script", "flush"]);
    assert_eq!(commands("take").await, 2);
    assert_eq!(commands("take").await, 1);
    assert_eq!(limiter.fallbacks().get(), 0);
}

/// The log lines of this thread.
#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<u8>>>);

impl io::Write for Lines {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(line);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl MakeWriter<'_> for Lines {
    type Writer = Self;

    fn make_writer(&self) -> Self {
        self.clone()
    }
}

impl Lines {
    fn with(&self, words: &str) -> usize {
        let text = String::from_utf8(self.0.lock().unwrap().clone()).unwrap();
        text.lines().filter(|line| line.contains(words)).count()
    }
}

/// Takes the place of a stopped Redis until a link has tried to connect three times.
async fn several_failed_attempts(port: u16) {
    let listener = TcpListener::bind(("127.0.0.1", port)).await.unwrap();
    for _ in 0..3 {
        drop(in_time("the link tries again", listener.accept()).await.unwrap());
    }
}

/// On one thread, because the log is thread-local.
#[tokio::test]
async fn fallback_is_logged_once() {
    let lines = Lines::default();
    // With only one subscriber, callsites first used on other threads would be cached as disabled.
    let _another = tracing::Dispatch::new(tracing_subscriber::registry());
    let log = tracing_subscriber::fmt().with_writer(lines.clone()).finish();
    let _logged = tracing::subscriber::set_default(log);
    let mut server = RedisServer::start();
    let redis = server.link().await;
    let _kept = keep(&redis);
    let limiter = Limiter::over(redis.clone(), noon());
    for n in 1..=2 {
        count_admitted(&limiter, 1000, 20).await;
        server.stop();
        count_admitted(&limiter, 1000, 20).await;
        assert_eq!(lines.with("each replica counts its share"), n);
        assert_eq!(lines.with("counted in Redis again"), n - 1);
        assert_eq!(lines.with("lost the connection to Redis"), n);
        several_failed_attempts(server.port).await;
        assert_eq!(lines.with("Redis cannot be used"), n);
        server.start_again();
        until("the link is up", async || redis.is_up()).await;
    }
}
