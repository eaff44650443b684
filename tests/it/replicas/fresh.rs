//! Changes on one replica take effect on another: immediately if delays could be wrong.

use keyward::proto::access::check_access_response::Outcome;
use keyward::proto::admin as pb;

use crate::grpc::warm::{ENDS, Owned, end};
use crate::harness::{Admin, Keyward, mask, reason, until, until_some};

async fn update(admin: &mut Admin, application: pb::Application, path: &str) {
    let name = "tenants/acme/applications/crm".to_owned();
    let application = Some(pb::Application { name, ..application });
    let request = pb::UpdateApplicationRequest { application, update_mask: mask(&[path]) };
    admin.applications.update_application(request).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn new_token_is_accepted_on_other_replicas_immediately() {
    // The replicas do not communicate, and data is used for an hour.
    let alone = [("revocations.poll_interval", "1h"), ("revocations.max_staleness", "2h")];
    let [a, c] = Keyward::replicas(None, &alone).await;
    let (mut at_a, mut at_c) = (a.admin().await, c.admin().await);
    let (_, crm) = at_a.acme().await;
    let token = crm.token(&a.grpc()).await;
    assert!(at_c.check(&token, &["a"]).await.allowed);

    let scopes = ["a", "b", "c"].map(ToOwned::to_owned).to_vec();
    update(&mut at_a, pb::Application { scopes, ..Default::default() }, "scopes").await;
    let wider = crm.token(&a.grpc()).await;
    assert!(at_c.check(&wider, &["c"]).await.allowed, "with a scope that is new");

    for disabled in [true, false] {
        update(&mut at_a, pb::Application { disabled, ..Default::default() }, "disabled").await;
    }
    let newer = crm.token(&a.grpc()).await;
    assert!(at_c.check(&newer, &["c"]).await.allowed, "of an epoch that is new");
    c.server().service.revocations().catch_up().await.unwrap();
    assert_eq!(at_c.check(&wider, &["c"]).await.outcome(), Outcome::Revoked);
}

#[tokio::test(flavor = "multi_thread")]
async fn ended_client_is_refused_on_other_replicas() {
    for (what, reported) in ENDS {
        let [a, c] = Keyward::replicas(None, &[]).await;
        let mut owned = Owned::new(&a).await;
        owned.warm_up(&c).await;
        end(&mut owned, &a, what).await;
        let refused = until_some("an ended client is refused", async || {
            owned.client.exchange(&c.grpc(), &[], &[]).await.err().map(|status| reason(&status))
        })
        .await;
        assert_eq!(refused, reported, "{what}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn additions_reach_cached_clients_on_other_replicas() {
    let bound = [("revocations.poll_interval", "50ms"), ("revocations.max_staleness", "200ms")];
    let [a, c] = Keyward::replicas(None, &bound).await;
    let mut admin = a.admin().await;
    let (_, crm) = admin.acme().await;
    let scopes = async || crm.exchange(&c.grpc(), &[], &[]).await.unwrap().scopes;
    assert_eq!(scopes().await, ["a", "b"]);
    let wider = ["a", "b", "c"].map(ToOwned::to_owned).to_vec();
    update(&mut admin, pb::Application { scopes: wider, ..Default::default() }, "scopes").await;
    until("the addition is known", async || scopes().await == ["a", "b", "c"]).await;
}
