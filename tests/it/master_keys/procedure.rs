//! The whole procedure of `deploy/README.md`.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use keyward::proto::admin as pb;
use keyward::proto::admin::credential::Kind;
use keyward::proto::token::RevokeTokenRequest;
use tokio::sync::RwLock;
use tokio::task::JoinHandle;

use super::{
    CRM, KeyFiles, NEW, OLD, borrowed, id, reveal, rewrap_all, status, uses, viewable_acme,
};
use crate::harness::{
    Backend, Credential, Keyward, RedisServer, fresh_database, on_both_databases, until,
};

on_both_databases!(everything_works_in_each_step);

/// The servers that callers may use.
type Live = Arc<RwLock<Vec<String>>>;

/// A caller that always calls, on one of the servers that it may use.
struct Traffic {
    stop: Arc<AtomicBool>,
    calls: Arc<AtomicU64>,
    task: JoinHandle<()>,
}

impl Traffic {
    fn begin(live: &Live, client: &Credential, key: &Credential) -> Self {
        let (stop, calls) = (Arc::<AtomicBool>::default(), Arc::<AtomicU64>::default());
        let (live, client, key) = (Arc::clone(live), client.clone(), key.clone());
        let (stopped, counted) = (Arc::clone(&stop), Arc::clone(&calls));
        let task = tokio::spawn(async move {
            for n in 0_usize.. {
                if stopped.load(Ordering::Acquire) {
                    return;
                }
                let live = live.read().await;
                let grpc = &live[n % live.len()];
                let token = client.token(grpc).await;
                assert!(!token.is_empty());
                key.exchange(grpc, &[], &[]).await.unwrap();
                counted.fetch_add(1, Ordering::AcqRel);
            }
        });
        Self { stop, calls, task }
    }

    /// Waits for more calls.
    async fn more(&self, count: u64) {
        let before = self.calls.load(Ordering::Acquire);
        until("callers are answered", async || {
            assert!(!self.task.is_finished(), "a call failed");
            self.calls.load(Ordering::Acquire) >= before + count
        })
        .await;
    }

    async fn end(self) {
        self.stop.store(true, Ordering::Release);
        self.task.await.expect("no call fails");
    }
}

/// Restarts the servers one by one with other keys. Callers use the others meanwhile.
async fn roll(live: &Live, servers: &mut [Keyward], settings: &[(&'static str, String)]) {
    for (n, server) in servers.iter_mut().enumerate() {
        let address = server.grpc();
        live.write().await.retain(|other| *other != address);
        server.restart_with(settings).await;
        live.write().await.insert(n.min(1), server.grpc());
    }
}

async fn change_under_traffic(redis: Option<&str>) {
    let keys = KeyFiles::new();
    let with = |primary, additional| {
        let mut settings = keys.settings(primary, additional);
        settings.extend(redis.map(|url| ("redis.url", url.to_owned())));
        settings
    };
    let start = with(OLD, None);
    let first = Keyward::start(Some(fresh_database().await), &borrowed(&start)).await;
    let second = first.join_with(&borrowed(&start)).await;
    let mut servers = [first, second];
    let mut admin = servers[0].admin().await;
    let (made, crm) = viewable_acme(&mut admin).await;
    let (_, key) = admin.credential(CRM, Kind::ApiKey).await;
    let revoked = crm.token(&servers[0].grpc()).await;
    admin.tokens.revoke_token(RevokeTokenRequest { token: revoked.clone() }).await.unwrap();
    let kept = crm.token(&servers[0].grpc()).await;

    let live = Live::default();
    live.write().await.extend(servers.iter().map(Keyward::grpc));
    let traffic = Traffic::begin(&live, &crm, &key);
    traffic.more(3).await;
    roll(&live, &mut servers, &with(OLD, Some(NEW))).await;
    traffic.more(3).await;
    roll(&live, &mut servers, &with(NEW, Some(OLD))).await;
    traffic.more(3).await;
    let mut admin = servers[1].admin().await;
    assert_eq!(reveal(&mut admin, &made.name).await.unwrap(), crm.secret);
    rewrap_all(&mut admin).await;
    until("the hashes have moved", async || {
        crm.token(&servers[0].grpc()).await;
        let old = uses(&mut admin, OLD).await;
        old.removable && old.secret_hashes == 0
    })
    .await;
    roll(&live, &mut servers, &with(NEW, None)).await;
    traffic.more(3).await;
    traffic.end().await;

    let mut admin = servers[0].admin().await;
    assert_eq!(reveal(&mut admin, &made.name).await.unwrap(), crm.secret);
    for (token, active) in [(&revoked, false), (&kept, true)] {
        assert_eq!(admin.is_active(token).await, active);
    }
    let status = status(&mut admin).await;
    assert_eq!(status.master_keys.len(), 1, "{status:?}");
    assert_eq!((status.master_keys[0].id.as_str(), status.servers.len()), (&*id(NEW), 2));
}

#[tokio::test(flavor = "multi_thread")]
async fn no_call_fails_while_the_key_changes() {
    change_under_traffic(None).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_call_fails_while_the_key_changes_with_redis() {
    let redis = RedisServer::start();
    change_under_traffic(Some(&redis.url())).await;
}

async fn everything_works_in_each_step(backend: Backend) {
    let keys = KeyFiles::new();
    let mut kw = keys.start(backend, OLD, None).await;
    let mut admin = kw.admin().await;
    let (made, crm) = viewable_acme(&mut admin).await;
    let token = crm.token(&kw.grpc()).await;
    for n in 0..3 {
        admin.application("acme", &format!("more-{n}"), &["a"]).await;
    }
    let list = |page_token: String| pb::ListApplicationsRequest {
        parent: "tenants/acme".to_owned(),
        page_size: 1,
        page_token,
        ..Default::default()
    };
    let page = admin.applications.list_applications(list(String::new())).await.unwrap();
    let mut page_token = page.into_inner().next_page_token;
    for (primary, additional) in [(OLD, Some(NEW)), (NEW, Some(OLD)), (NEW, None)] {
        kw.restart_with(&keys.settings(primary, additional)).await;
        let mut admin = kw.admin().await;
        crm.token(&kw.grpc()).await;
        assert!(admin.is_active(&token).await, "its signing key is known");
        assert_eq!(reveal(&mut admin, &made.name).await.unwrap(), crm.secret);
        let page = admin.applications.list_applications(list(page_token)).await.unwrap();
        page_token = page.into_inner().next_page_token;
        if (primary, additional) == (NEW, Some(OLD)) {
            assert!(!uses(&mut admin, OLD).await.removable);
            rewrap_all(&mut admin).await;
            until("the hashes have moved", async || uses(&mut admin, OLD).await.removable).await;
        }
    }
}
