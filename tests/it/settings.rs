//! The effects of settings on a running server.

use std::time::Duration;

use keyward::proto::admin::credential::Kind;
use keyward::proto::token::RevokeTokenRequest;

use crate::harness::{Backend, Keyward, RedisServer};

async fn metrics(kw: &Keyward) -> String {
    let url = format!("http://{}/metrics", kw.server().ops);
    reqwest::get(url).await.unwrap().text().await.unwrap()
}

/// The value of one line of the metrics.
fn metric(metrics: &str, name: &str) -> f64 {
    let line = metrics.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    line.unwrap_or_else(|| panic!("{name} is not in\n{metrics}")).parse().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn secrets_begin_with_configured_prefixes() {
    let settings = [("secrets.client_secret_prefix", "acmes"), ("secrets.api_key_prefix", "acmek")];
    let kw = Backend::Sqlite.start_with(&settings).await;
    let mut admin = kw.admin().await;
    let (_, crm) = admin.acme().await;
    assert!(crm.secret.starts_with("acmes_"), "a client secret");
    assert_eq!(kw.token_for(&crm, &[]).await.status, 200);

    let application = "tenants/acme/applications/crm";
    let (_, key) = admin.credential(application, Kind::ApiKey).await;
    assert!(key.secret.starts_with("acmek_"), "an API key");
    assert!(admin.check(&key.secret, &["a"]).await.allowed);
    let other = key.secret.replacen("acmek_", "kwk_", 1);
    assert!(!admin.check(&other, &["a"]).await.allowed, "a key of another platform");
}

#[tokio::test(flavor = "multi_thread")]
async fn platforms_with_different_prefixes_share_a_redis() {
    let redis = RedisServer::start();
    let url = redis.url();
    let start = async |prefix| {
        let [kw] = Keyward::replicas(Some(&url), &[("redis.key_prefix", prefix)]).await;
        kw
    };
    let (one, other) = (start("one").await, start("other").await);
    for kw in [&one, &other] {
        let mut admin = kw.admin().await;
        let (_, crm) = admin.acme().await;
        let [revoked, kept] = [crm.token(&kw.grpc()).await, crm.token(&kw.grpc()).await];
        admin.tokens.revoke_token(RevokeTokenRequest { token: revoked.clone() }).await.unwrap();
        assert!(!admin.check(&revoked, &["a"]).await.allowed);
        assert!(admin.check(&kept, &["a"]).await.allowed);
    }
    let keys = redis.cli(&["KEYS", "*"]);
    let keys: Vec<_> = keys.lines().filter(|key| !key.is_empty()).collect();
    // A cluster keeps keys with the same part in braces together.
    let count = |prefix: &str| {
        keys.iter().filter(|key| key.trim_start_matches('{').starts_with(prefix)).count()
    };
    assert!(count("one") > 0 && count("other") > 0, "{keys:?}");
    assert_eq!(count("one") + count("other"), keys.len(), "{keys:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn metrics_count_durations_caches_and_redis_commands() {
    let redis = RedisServer::start();
    let [kw] = Keyward::replicas(Some(&redis.url()), &[]).await;
    let mut admin = kw.admin().await;
    let (_, crm) = admin.acme().await;
    let before = metrics(&kw).await;
    assert_eq!(kw.token_for(&crm, &[]).await.status, 200);
    let token = crm.token(&kw.grpc()).await;
    assert!(admin.check(&token, &["a"]).await.allowed);
    admin.tokens.revoke_token(RevokeTokenRequest { token }).await.unwrap();
    let after = metrics(&kw).await;

    let of_tokens = "keyward_request_duration_seconds";
    let labels = r#"{face="http",method="/oauth2/token"}"#;
    assert!(!before.contains(&format!("{of_tokens}_count{labels}")), "{before}");
    assert!(after.contains(&format!("{of_tokens}_count{labels} 1\n")), "{after}");
    let sum = metric(&after, &format!("{of_tokens}_sum{labels}"));
    assert!(sum > 0.0 && sum < Duration::from_mins(5).as_secs_f64(), "{sum}");

    for kind in ["clients", "secrets", "tokens"] {
        let name = format!(r#"keyward_cache_entries{{cache="{kind}"}}"#);
        assert!(metric(&after, &name) >= 1.0, "{kind}: {after}");
    }
    let commands = "keyward_redis_commands_total";
    assert!(metric(&after, commands) > metric(&before, commands), "{after}");
}
