//! What one replica changes, another answers by: at once where that could be wrong.

use keyward::proto::access::check_access_response::Outcome;
use keyward::proto::admin as pb;

use crate::harness::{Admin, Keyward, mask};

async fn update(admin: &mut Admin, application: pb::Application, path: &str) {
    let name = "tenants/acme/applications/crm".to_owned();
    let application = Some(pb::Application { name, ..application });
    let request = pb::UpdateApplicationRequest { application, update_mask: mask(&[path]) };
    admin.applications.update_application(request).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_token_is_good_everywhere_at_once() {
    // Nobody tells anybody anything: what was read a moment ago would be used for an hour.
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
