//! Key sets of other parties: when they are fetched, kept and given up.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use jiff::Timestamp;
use keyward::internals::clock::Clock;
use keyward::internals::error::{Error, Result};
use keyward::internals::jose::KeySet;
use keyward::internals::outbound::{JwksSource, KeyLocation};
use serde_json::json;
use tokio::sync::Notify;

use super::stub::{Reply, StubHost};
use super::{LOOPBACK, fetcher};
use crate::harness::signer::Signer;
use crate::harness::until;

const MINUTE: Duration = Duration::from_mins(1);

/// A set with one key of this id.
fn set(kid: &str) -> String {
    json!({ "keys": [Signer::new("EdDSA").jwk_with(&[("kid", kid)])] }).to_string()
}

fn jwks(kid: &str) -> Reply {
    Reply::json("", &set(kid))
}

fn failure() -> Reply {
    Reply::with("500 Fault", "", "")
}

struct Case {
    host: StubHost,
    clock: Clock,
    source: JwksSource,
    location: KeyLocation,
}

impl Case {
    async fn new(reply: Reply) -> Self {
        let host = StubHost::start(reply).await;
        let clock = Clock::manual(Timestamp::UNIX_EPOCH);
        let source = JwksSource::new(fetcher(&host, LOOPBACK), &clock);
        let location = KeyLocation::JwksUri(host.url("localhost"));
        Self { host, clock, source, location }
    }

    async fn keys(&self) -> Result<String> {
        self.source.keys(&self.location).await.map(|keys| kid(&keys))
    }

    async fn newer(&self) -> Result<String> {
        self.source.newer_keys(&self.location).await.map(|keys| kid(&keys))
    }
}

fn jwks_uri(url: &str) -> KeyLocation {
    KeyLocation::JwksUri(url.to_owned())
}

fn kid(keys: &KeySet) -> String {
    keys.keys()[0].kid().unwrap().to_owned()
}

fn is_unavailable<T>(result: &Result<T>) -> bool {
    matches!(result, Err(Error::Unavailable(_)))
}

#[tokio::test(flavor = "multi_thread")]
async fn concurrent_requests_share_one_fetch() {
    let go = Arc::new(Notify::new());
    let Reply::Bytes(bytes) = jwks("a") else { unreachable!() };
    let case = Case::new(Reply::When(Arc::clone(&go), bytes)).await;
    let asked = join_all((0..50).map(|_| case.keys()));
    let (asked, ()) = tokio::join!(asked, async {
        until("the host is asked", async || case.host.requests() == 1).await;
        go.notify_one();
    });
    assert!(asked.into_iter().all(|kid| kid.unwrap() == "a"));
    assert_eq!(case.keys().await.unwrap(), "a");
    assert_eq!(case.host.connections(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn set_is_refreshed_before_it_stops_being_fresh() {
    for (lines, fresh) in [
        ("", 5 * MINUTE),
        ("cache-control: max-age=600\r\n", 10 * MINUTE),
        ("cache-control: max-age=1\r\n", MINUTE),
        ("cache-control: no-store\r\n", MINUTE),
        ("cache-control: max-age=999999\r\n", 60 * MINUTE),
        ("cache-control: max-age=soon\r\n", 5 * MINUTE),
    ] {
        let case = Case::new(Reply::json(lines, &set("a"))).await;
        assert_eq!(case.keys().await.unwrap(), "a");
        case.host.answer(Reply::json(lines, &set("b")));
        case.clock.advance(fresh * 6 / 10);
        assert_eq!(case.keys().await.unwrap(), "a");
        assert_eq!(case.host.requests(), 1, "{lines}");
        // The set is still fresh, so this request does not wait for the next one.
        case.clock.advance(fresh * 2 / 10);
        assert_eq!(case.keys().await.unwrap(), "a");
        until("the set is refreshed", async || case.keys().await.unwrap() == "b").await;
        assert_eq!(case.host.requests(), 2, "{lines}");
        case.host.answer(jwks("c"));
        case.clock.advance(fresh);
        assert_eq!(case.keys().await.unwrap(), "c", "what is not fresh is fetched first");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn unknown_key_id_refreshes_once_in_thirty_seconds() {
    let case = Case::new(jwks("a")).await;
    assert_eq!(case.keys().await.unwrap(), "a");
    case.host.answer(jwks("b"));
    let newer = join_all((0..20).map(|_| case.newer())).await;
    assert!(newer.into_iter().all(|kid| kid.unwrap() == "b"));
    assert_eq!(case.host.requests(), 2);
    case.host.answer(jwks("c"));
    case.clock.advance(Duration::from_secs(20));
    assert_eq!(case.newer().await.unwrap(), "b", "fetched lately");
    assert_eq!(case.host.requests(), 2);
    case.clock.advance(Duration::from_secs(10));
    assert_eq!(case.newer().await.unwrap(), "c");
    assert_eq!(case.keys().await.unwrap(), "c");
}

#[tokio::test(flavor = "multi_thread")]
async fn failed_refresh_for_unknown_key_id_decides_nothing() {
    let case = Case::new(jwks("a")).await;
    assert_eq!(case.keys().await.unwrap(), "a");
    case.host.answer(failure());
    assert!(is_unavailable(&case.newer().await));
    assert!(is_unavailable(&case.newer().await), "not even in the pause after it");
    assert_eq!(case.host.requests(), 2);
    assert_eq!(case.keys().await.unwrap(), "a", "known keys work");
    case.host.answer(jwks("b"));
    case.clock.advance(Duration::from_secs(30));
    assert_eq!(case.newer().await.unwrap(), "b");
}

#[tokio::test(flavor = "multi_thread")]
async fn stale_set_is_used_for_a_day_and_failures_are_remembered() {
    let case = Case::new(jwks("a")).await;
    assert_eq!(case.keys().await.unwrap(), "a");
    let hostile = [
        failure(),
        Reply::with("302 Found", "location: https://localhost/\r\n", ""),
        Reply::with("200 OK", "content-type: text/html\r\n", "<html>"),
        Reply::json("", "{\"keys\":["),
        Reply::json("", "{\"keys\":{}}"),
        Reply::json("", &" ".repeat(70_000)),
        Reply::Bytes(Vec::new()),
    ];
    let mut requests = 1;
    case.clock.advance(5 * MINUTE);
    for reply in hostile {
        case.host.answer(reply);
        for _ in 0..10 {
            assert_eq!(case.keys().await.unwrap(), "a");
        }
        requests += 1;
        assert_eq!(case.host.requests(), requests, "the failure is remembered");
        case.clock.advance(Duration::from_secs(10));
    }
    assert!(case.source.fetcher().metrics().stale_answers.get() >= 70);
    case.clock.advance(Duration::from_secs(24 * 3600 - 300 - 130));
    assert_eq!(case.keys().await.unwrap(), "a");
    case.clock.advance(MINUTE);
    assert!(is_unavailable(&case.keys().await), "the keys could have been revoked long ago");
    case.host.answer(jwks("b"));
    assert!(is_unavailable(&case.keys().await), "the failure is remembered");
    case.clock.advance(Duration::from_secs(10));
    assert_eq!(case.keys().await.unwrap(), "b");
}

#[tokio::test(flavor = "multi_thread")]
async fn host_that_never_answered_is_unavailable() {
    let case = Case::new(failure()).await;
    for _ in 0..5 {
        assert!(is_unavailable(&case.keys().await));
    }
    assert_eq!(case.host.requests(), 1);
    case.clock.advance(Duration::from_secs(10));
    case.host.answer(jwks("a"));
    assert_eq!(case.keys().await.unwrap(), "a");
    let refused = case.source.keys(&jwks_uri("https://127.0.0.1.evil.invalid/")).await;
    assert!(is_unavailable(&refused));
}

#[tokio::test(flavor = "multi_thread")]
async fn fetch_goes_on_when_its_first_caller_is_gone() {
    let go = Arc::new(Notify::new());
    let Reply::Bytes(bytes) = jwks("a") else { unreachable!() };
    let case = Case::new(Reply::When(Arc::clone(&go), bytes)).await;
    let mut first = Box::pin(case.keys());
    assert!(futures_util::poll!(&mut first).is_pending());
    drop(first);
    until("the host is asked", async || case.host.requests() == 1).await;
    go.notify_one();
    assert_eq!(case.keys().await.unwrap(), "a");
    assert_eq!(case.host.requests(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn number_of_sets_in_memory_is_bounded() {
    let host = StubHost::start(failure()).await;
    let clock = Clock::manual(Timestamp::UNIX_EPOCH);
    let source = JwksSource::bounded(fetcher(&host, LOOPBACK), &clock, 16);
    for n in 0..200 {
        // Refused without a connection.
        assert!(is_unavailable(&source.keys(&jwks_uri(&format!("https://10.0.0.1/{n}"))).await));
    }
    assert!(source.len() <= 16, "{}", source.len());
}
