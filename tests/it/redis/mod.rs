//! The link to Redis: rights, suitability checks, and reconnecting.

mod groups;

use std::time::Duration;

use keyward::internals::error::Error;
use keyward::internals::redis::{
    LinkError, Redis, RedisUrl, Script, Subscription, SubscriptionEvent, Timeouts,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use crate::harness::redis::{TlsServer, keep, link_to, unreachable_url};
use crate::harness::{RedisServer, in_time, pause, until};

async fn up(redis: &Redis) {
    until("the link is up", async || redis.is_up()).await;
}

async fn down(redis: &Redis) {
    until("the link is down", async || !redis.is_up()).await;
}

/// Writes a value and reads it back.
async fn works(redis: &Redis, key: &str) -> Result<(), Error> {
    let script =
        Script::new("redis.call('SET', KEYS[1], ARGV[1]) return redis.call('GET', KEYS[1])");
    let answer: String = redis.run(&script, &[redis.key("test", key)], &["it works"]).await?;
    assert_eq!(answer, "it works");
    Ok(())
}

/// The error for an unsuitable Redis.
async fn unfit(redis: &Redis) -> String {
    match redis.check_once().await {
        Err(LinkError::Unfit(words)) => words,
        other => panic!("{other:?}"),
    }
}

async fn receives(subscription: &mut Subscription, expected: &SubscriptionEvent) {
    let received = in_time(format!("{expected:?}"), subscription.next()).await;
    assert_eq!(received, *expected);
}

/// Waits for a message, and ignores earlier ones.
async fn receives_eventually(subscription: &mut Subscription, expected: &SubscriptionEvent) {
    let received = async { while subscription.next().await != *expected {} };
    in_time(format!("{expected:?}"), received).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn call_without_link_fails_and_sends_nothing() {
    let redis = link_to(&unreachable_url());
    let failed = works(&redis, "key").await.unwrap_err();
    assert!(matches!(failed, Error::Unavailable(_)), "{failed:?}");
    assert!(matches!(redis.check_once().await, Err(LinkError::Away(_))));
    assert_eq!((redis.commands().get(), redis.up().get()), (0, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn link_reconnects_after_every_restart() {
    let mut server = RedisServer::start();
    let redis = link_to(&server.url());
    let _kept = keep(&redis);
    for _ in 0..3 {
        up(&redis).await;
        works(&redis, "key").await.unwrap();
        assert_eq!(redis.up().get(), 1);
        server.stop();
        // The keeper notices it without a call.
        down(&redis).await;
        assert_eq!(redis.up().get(), 0);
        works(&redis, "key").await.unwrap_err();
        server.start_again();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn hanging_server_costs_one_timeout_for_all_calls() {
    let server = RedisServer::start();
    let url = RedisUrl::parse(&server.url()).unwrap();
    let response = Duration::from_millis(300);
    let redis = Redis::new(url, "keyward", Timeouts { response, ..Timeouts::default() });
    redis.check_once().await.unwrap();
    server.pause();
    let before = redis.commands().get();
    works(&redis, "key").await.unwrap_err();
    assert!(redis.commands().get() > before, "the first call asks the server");
    let before = redis.commands().get();
    for _ in 0..1000 {
        works(&redis, "key").await.unwrap_err();
    }
    // What sends nothing waits for no answer.
    assert_eq!(redis.commands().get(), before, "later calls do not ask it");
    let _kept = keep(&redis);
    server.resume();
    up(&redis).await;
    works(&redis, "key").await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn lost_link_ends_waiting_calls() {
    let server = RedisServer::start();
    let url = RedisUrl::parse(&server.url()).unwrap();
    let response = Duration::from_secs(1);
    let redis = Redis::new(url, "keyward", Timeouts { response, ..Timeouts::default() });
    // On a slow machine both calls can reach their own timeout at the same time.
    until("the second call ends with the link, and not after its own timeout", async || {
        redis.check_once().await.unwrap();
        server.pause();
        let second = async {
            pause(response / 2).await;
            works(&redis, "key").await
        };
        let (first, second) = tokio::join!(works(&redis, "key"), second);
        server.resume();
        first.unwrap_err();
        format!("{:?}", second.unwrap_err()).contains("Redis cannot be reached")
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn flushed_scripts_are_sent_again() {
    let server = RedisServer::start();
    let redis = server.link().await;
    for commands in [2, 3, 5, 6] {
        if commands == 5 {
            server.cli(&["script", "flush"]);
        }
        works(&redis, "key").await.unwrap();
        assert_eq!(redis.commands().get(), commands);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn failing_script_is_internal_and_keeps_the_link() {
    let server = RedisServer::start();
    let redis = server.link().await;
    let broken = Script::new("return redis.call('LPUSH', KEYS[1], nil .. 'x')");
    let failed = redis.run::<i64>(&broken, &["key".to_owned()], &["x"]).await.unwrap_err();
    assert!(matches!(failed, Error::Internal(_)), "{failed:?}");
    let text = Script::new("return 'text'");
    let failed = redis.run::<i64>(&text, &["key".to_owned()], &["x"]).await.unwrap_err();
    assert!(matches!(failed, Error::Internal(_)), "{failed:?}");
    assert!(redis.is_up());
}

#[tokio::test(flavor = "multi_thread")]
async fn user_with_only_the_used_commands_is_enough() {
    let server = RedisServer::start();
    let rights = "on >p%40ss:word/! ~keyward:* resetchannels &keyward:* +eval +evalsha +get +set \
                  +del +time +info +publish +subscribe +ping";
    let rule: Vec<_> = ["acl", "setuser", "kim"].into_iter().chain(rights.split(' ')).collect();
    server.cli(&rule);
    let url = |login: &str| format!("redis://{login}@127.0.0.1:{}", server.port);
    // The password contains characters that must be encoded, and text that looks encoded.
    let redis = link_to(&url("kim:p%2540ss%3Aword%2F%21"));
    redis.check_once().await.unwrap();
    works(&redis, "key").await.unwrap();
    let channel = redis.key("test", "channel");
    let mut subscription = redis.subscribe(channel.clone());
    receives(&mut subscription, &SubscriptionEvent::Subscribed).await;
    redis.publish(&channel, b"hint").await.unwrap();
    receives(&mut subscription, &SubscriptionEvent::Message(b"hint".to_vec())).await;
    let elsewhere = redis.publish("elsewhere", b"hint").await.unwrap_err();
    assert!(matches!(elsewhere, Error::Unavailable(_)), "{elsewhere:?}");
    assert!(redis.is_up());
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_password_error_does_not_contain_it() {
    let server = RedisServer::start();
    server.cli(&["config", "set", "requirepass", "right"]);
    let url = |login: &str| format!("redis://{login}127.0.0.1:{}", server.port);
    link_to(&url(":right@")).check_once().await.unwrap();
    for login in [":wrong-hush@", "kim:wrong-hush@"] {
        let redis = link_to(&url(login));
        let reported = unfit(&redis).await;
        let failed = works(&redis, "key").await.unwrap_err();
        let shown = format!("{reported} {redis:?} {failed:?} {failed}");
        assert!(!shown.contains("hush"), "{shown}");
    }
    unfit(&link_to(&url(""))).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn database_number_of_the_url_is_used() {
    let server = RedisServer::start();
    let redis = link_to(&format!("{}/3", server.url()));
    redis.check_once().await.unwrap();
    works(&redis, "key").await.unwrap();
    assert_eq!(server.cli(&["-n", "3", "keys", "*"]), "keyward:test:key");
    assert_eq!(server.keys(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn unsuitable_server_error_has_advice() {
    let server = RedisServer::start();
    let port = server.port.to_string();
    let replica = RedisServer::start_with(&["--replicaof", "127.0.0.1", &port]);
    assert!(unfit(&link_to(&replica.url())).await.contains("replica"));
    let node = RedisServer::start_with(&["--cluster-enabled", "yes"]);
    assert!(unfit(&link_to(&node.url())).await.contains("redis-cluster://"));
    server.cli(&["config", "set", "maxmemory", "100mb"]);
    server.cli(&["config", "set", "maxmemory-policy", "allkeys-lru"]);
    assert!(unfit(&link_to(&server.url())).await.contains("noeviction"));
}

#[tokio::test(flavor = "multi_thread")]
async fn unsuitable_redis_is_not_used_until_fixed() {
    let server = RedisServer::start();
    let redis = server.link().await;
    let _kept = keep(&redis);
    server.cli(&["config", "set", "maxmemory", "100mb"]);
    server.cli(&["config", "set", "maxmemory-policy", "allkeys-lru"]);
    down(&redis).await;
    server.cli(&["config", "set", "maxmemory-policy", "noeviction"]);
    up(&redis).await;
    server.cli(&["replicaof", "127.0.0.1", "1"]);
    // The first write notices it, if the link's keeper does not.
    works(&redis, "key").await.unwrap_err();
    down(&redis).await;
    server.cli(&["replicaof", "no", "one"]);
    up(&redis).await;
    works(&redis, "key").await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn subscription_resumes_after_a_restart() {
    let mut server = RedisServer::start();
    let redis = server.link().await;
    let _kept = keep(&redis);
    let mut subscription = redis.subscribe("channel");
    let mut other = redis.subscribe("other");
    receives(&mut subscription, &SubscriptionEvent::Subscribed).await;
    receives(&mut other, &SubscriptionEvent::Subscribed).await;
    redis.publish("channel", b"1").await.unwrap();
    receives(&mut subscription, &SubscriptionEvent::Message(b"1".to_vec())).await;
    server.stop();
    server.start_again();
    receives(&mut subscription, &SubscriptionEvent::Subscribed).await;
    receives(&mut other, &SubscriptionEvent::Subscribed).await;
    // The link may not have noticed yet.
    while redis.publish("channel", b"2").await.is_err() {
        up(&redis).await;
    }
    receives(&mut subscription, &SubscriptionEvent::Message(b"2".to_vec())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn subscription_abandons_a_hanging_server() {
    // This server accepts the subscription and then sends nothing.
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let redis = link_to(&format!("redis://{}", listener.local_addr().unwrap()));
    let mut subscription = redis.subscribe("channel");
    let mut connections = Vec::new();
    for _ in 0..2 {
        let (mut connection, _) = in_time("it connects again", listener.accept()).await.unwrap();
        connection.read_u8().await.unwrap();
        let subscribed = "*3\r\n$9\r\nsubscribe\r\n$7\r\nchannel\r\n:1\r\n";
        connection.write_all(subscribed.as_bytes()).await.unwrap();
        connections.push(connection);
        receives(&mut subscription, &SubscriptionEvent::Subscribed).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn dropped_subscription_is_closed() {
    let server = RedisServer::start();
    let redis = server.link().await;
    let mut subscription = redis.subscribe("channel");
    receives(&mut subscription, &SubscriptionEvent::Subscribed).await;
    assert_eq!(server.cli(&["pubsub", "channels"]), "channel");
    drop(subscription);
    until("it is closed", async || server.cli(&["pubsub", "channels"]).is_empty()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn tls_server_needs_a_trusted_certificate() {
    let tls = TlsServer::start();
    let trusted = link_to(&format!("{}?ca_file={}", tls.url(), tls.ca_file()));
    trusted.check_once().await.unwrap();
    works(&trusted, "key").await.unwrap();
    let mut subscription = trusted.subscribe("channel");
    receives(&mut subscription, &SubscriptionEvent::Subscribed).await;
    trusted.publish("channel", b"hint").await.unwrap();
    receives(&mut subscription, &SubscriptionEvent::Message(b"hint".to_vec())).await;

    let trouble = link_to(&tls.url()).check_once().await.unwrap_err();
    assert!(trouble.to_string().contains("certificate"), "{trouble}");
    let words = unfit(&link_to(&format!("{}?ca_file=/nowhere", tls.url()))).await;
    assert!(words.contains("/nowhere"), "{words}");
    // A TLS client does not get further with a server without TLS.
    let plain = tls.server.url().replacen("redis:", "rediss:", 1);
    link_to(&plain).check_once().await.unwrap_err();
}
