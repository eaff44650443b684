//! The policy bounds the age of keys, as of secrets: a credential ends, and with it its keys.

use keyward::proto::admin as pb;
use keyward::proto::admin::credential::public_key::Keys;
use keyward::proto::admin::credential::{Certificate, Kind, PublicKey, Registration};
use serde_json::json;

use super::{CRM, Party, accepted, jwks, refused, register, start};
use crate::harness::signer::Signer;
use crate::harness::{Admin, Backend, mask, on_both_databases, reason};

on_both_databases!(
    key_ends_with_the_lifetime_that_the_policy_allows,
    audit_log_has_the_thumbprint_of_a_key,
);

async fn set_lifetime(admin: &mut Admin, seconds: i64) {
    let max_credential_lifetime = Some(prost_types::Duration { seconds, nanos: 0 });
    let tenant = pb::Tenant {
        name: "tenants/acme".to_owned(),
        policy: Some(pb::Policy { max_credential_lifetime, ..Default::default() }),
        ..Default::default()
    };
    let request = pb::UpdateTenantRequest { tenant: Some(tenant), update_mask: mask(&["policy"]) };
    admin.tenants.update_tenant(request).await.unwrap();
}

fn update(credential: pb::Credential, field: &str) -> pb::UpdateCredentialRequest {
    pb::UpdateCredentialRequest { credential: Some(credential), update_mask: mask(&[field]) }
}

async fn key_ends_with_the_lifetime_that_the_policy_allows(backend: Backend) {
    // `before` was created without such a policy.
    let (kw, mut admin, before) = start(backend, &[super::NO_BUDGET]).await;
    set_lifetime(&mut admin, 100).await;
    let start = kw.now().as_second();
    let after = Party::new(&mut admin, "EdDSA").await;
    assert_eq!(after.credential.expire_time.unwrap().seconds, start + 100);
    let certificate = Certificate { thumbprints: vec!["A".repeat(43)], ..Default::default() };
    let request = pb::CreateCredentialRequest {
        parent: CRM.to_owned(),
        credential: Some(pb::Credential {
            kind: Kind::Certificate.into(),
            registration: Some(Registration::Certificate(certificate)),
            ..Default::default()
        }),
        request_id: String::new(),
    };
    let made = admin.credentials.create_credential(request).await.unwrap().into_inner();
    assert_eq!(made.credential.unwrap().expire_time.unwrap().seconds, start + 100);

    kw.advance(60);
    for party in [&before, &after] {
        accepted(&kw, "within the lifetime", || party.assertion(&kw)).await;
    }
    // Other keys do not move the end, and a later one is refused.
    let signer = Signer::new("ES256");
    let keys = Keys::Jwks(jwks(&[signer.jwk_with(&[("kid", "second")])]));
    let renewed = pb::Credential {
        name: after.credential.name.clone(),
        registration: Some(Registration::PublicKey(PublicKey { keys: Some(keys) })),
        ..Default::default()
    };
    let changed = admin.credentials.update_credential(update(renewed, "public_key")).await;
    let changed = changed.unwrap().into_inner().credential.unwrap();
    assert_eq!(changed.expire_time.unwrap().seconds, start + 100);
    let later = pb::Credential {
        name: after.credential.name.clone(),
        expire_time: Some(prost_types::Timestamp { seconds: start + 101, nanos: 0 }),
        ..Default::default()
    };
    let status = admin.credentials.update_credential(update(later, "expire_time")).await;
    assert_eq!(reason(&status.unwrap_err()), "POLICY");
    let after = Party { credential: changed, signer, kid: "second" };
    accepted(&kw, "the new key", || after.assertion(&kw)).await;
    kw.advance(40);
    for party in [&before, &after] {
        refused(&kw, "after the lifetime", || party.assertion(&kw)).await;
    }
}

async fn audit_log_has_the_thumbprint_of_a_key(backend: Backend) {
    let (_kw, mut admin, _) = start(backend, &[]).await;
    let signers: Vec<_> = (0..3).map(|_| Signer::new("PS256")).collect();
    let set = |signers: &[Signer]| {
        let keys = signers.iter().enumerate();
        let keys = keys.map(|(n, signer)| signer.jwk_with(&[("kid", &format!("key {n}"))]));
        Keys::Jwks(jwks(&keys.collect::<Vec<_>>()))
    };
    let made = register(&mut admin, CRM, set(&signers[..2])).await;
    let renewed = pb::Credential {
        name: made.name.clone(),
        registration: Some(Registration::PublicKey(PublicKey { keys: Some(set(&signers)) })),
        ..Default::default()
    };
    admin.credentials.update_credential(update(renewed, "public_key")).await.unwrap();
    let request = pb::ListAuditEventsRequest {
        parent: "tenants/acme".to_owned(),
        resource: made.name,
        ..Default::default()
    };
    let events = admin.audit.list_audit_events(request).await.unwrap().into_inner().events;
    for (event, keys) in events.iter().zip([3, 2]) {
        let change = event.changes.iter().find(|change| change.field == "registration").unwrap();
        let shown: serde_json::Value = serde_json::from_str(&change.after).unwrap();
        let shown = shown["public_key"]["jwks"].as_array().unwrap();
        assert_eq!(shown.len(), keys, "{change:?}");
        for (n, key) in shown.iter().enumerate() {
            assert_eq!(key["kid"], json!(format!("key {n}")));
            assert_eq!(key["thumbprint"].as_str().unwrap().len(), 43);
        }
        assert!(change.after.len() < 400, "{change:?}");
    }
}
