//! What happens while Redis is away: the replicas count for themselves, and nobody waits.

use std::io;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use keyward::internals::limiter::Limiter;
use tracing_subscriber::fmt::MakeWriter;

use super::{MINUTE, demand, noon, one};
use crate::harness::RedisServer;
use crate::harness::redis::{eventually, keep, link_to, nobody};

async fn count_admitted(limiter: &Limiter, most: u64, attempts: usize) -> usize {
    let mut admitted = 0;
    for _ in 0..attempts {
        let decision = limiter.take("acme", &[one("app", most, MINUTE)]).await;
        admitted += usize::from(decision.admitted);
    }
    admitted
}

#[tokio::test(flavor = "multi_thread")]
async fn without_redis_each_replica_counts_its_share() {
    let limiter = Limiter::over(link_to(&nobody()), noon());
    limiter.set_replicas(3);
    assert_eq!(count_admitted(&limiter, 40, 50).await, 13);
    assert_eq!(limiter.fallbacks().get(), 50);
    let peeked = limiter.peek("acme", &[one("app", 40, MINUTE)]).await;
    assert_eq!((peeked.standings[0].limit, peeked.standings[0].remaining), (40, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn without_redis_each_replica_has_room_for_one_of_what_the_limit_has_room_for() {
    let limiter = Limiter::over(link_to(&nobody()), noon());
    limiter.set_replicas(5);
    assert_eq!(count_admitted(&limiter, 2, 5).await, 1);
    let batch = [demand("items", 1000, MINUTE, 900)];
    assert!(limiter.take("acme", &batch).await.admitted);
    assert!(!limiter.take("acme", &batch).await.admitted);
    assert!(!limiter.take("acme", &[demand("more", 1000, MINUTE, 1001)]).await.admitted);
}

#[tokio::test(flavor = "multi_thread")]
async fn counting_in_redis_goes_on_without_a_hand_when_it_is_back() {
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
        let back = redis.clone();
        eventually(move || back.is_up()).await;
        // It came back empty, which costs one window, and knows no scripts.
        assert_eq!(count_admitted(&limiter, 5, 9).await, 5);
        assert_eq!(limiter.fallbacks().get(), 0);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redis_that_hangs_costs_one_timeout_once() {
    let server = RedisServer::start();
    let redis = server.link().await;
    let _kept = keep(&redis);
    let limiter = Limiter::over(redis.clone(), noon());
    assert_eq!(count_admitted(&limiter, 1000, 1).await, 1);
    server.pause();
    #[expect(clippy::disallowed_methods, reason = "how long it takes is what is tested")]
    let started = Instant::now();
    // Many at once share the one timeout, and those after them have none.
    let waiting: Vec<_> = (0..20)
        .map(|_| {
            let limiter = limiter.clone();
            tokio::spawn(async move { count_admitted(&limiter, 1000, 20).await })
        })
        .collect();
    for task in waiting {
        assert_eq!(task.await.unwrap(), 20);
    }
    let took = started.elapsed();
    assert!(!redis.is_up());
    assert!(took < Duration::from_millis(1900), "{took:?}");
    println!("400 decisions while Redis hangs took {took:?}, of which one timeout is 1 s");
    server.resume();
    let back = redis.clone();
    eventually(move || back.is_up()).await;
    let before = limiter.fallbacks().get();
    assert_eq!(count_admitted(&limiter, 1000, 1).await, 1);
    assert_eq!(limiter.fallbacks().get(), before);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redis_that_is_full_is_done_without() {
    let server = RedisServer::start();
    let redis = server.link().await;
    let limiter = Limiter::over(redis.clone(), noon());
    server.cli(&["config", "set", "maxmemory", "1"]);
    assert_eq!(count_admitted(&limiter, 5, 9).await, 5);
    assert_eq!(limiter.fallbacks().get(), 9);
    // It answers, after all.
    assert!(redis.is_up());
    server.cli(&["config", "set", "maxmemory", "0"]);
    assert_eq!(count_admitted(&limiter, 5, 9).await, 5);
    assert_eq!(limiter.fallbacks().get(), 9);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_decision_is_one_command_and_one_more_where_scripts_were_forgotten() {
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

/// What is logged on this thread.
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

/// On one thread, whose log is read.
#[tokio::test]
async fn a_change_is_logged_once_and_not_with_every_request() {
    let lines = Lines::default();
    // With a single subscriber, what another thread says first is taken for unwanted by all.
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
        assert_eq!(lines.with("counted by each replica for itself"), n);
        assert_eq!(lines.with("counted in Redis again"), n - 1);
        assert_eq!(lines.with("Redis is lost"), n);
        // Long enough for several attempts to fail.
        tokio::time::timeout(Duration::from_secs(1), std::future::pending::<()>()).await.ok();
        assert_eq!(lines.with("Redis cannot be used"), n);
        server.start_again();
        let back = redis.clone();
        eventually(move || back.is_up()).await;
    }
}
