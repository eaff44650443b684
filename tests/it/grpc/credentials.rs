//! Credentials: their secrets, which are shown once, and rotation.

use keyward::proto::admin as pb;
use keyward::proto::admin::credential::{Kind, State};
use prost_types::{FieldMask, Timestamp};
use tonic::Code;

use crate::harness::{Admin, Backend, Credential, mask, on_both_databases, reason, secret_free};

on_both_databases!(
    secret_is_returned_only_once,
    rotation_overlaps_by_default,
    third_secret_is_refused_during_rotation,
    rotation_without_overlap_ends_older_secrets,
    rotated_api_key_keeps_its_credential_id,
    a_credential_expires,
    disabled_credential_gets_no_token,
    repeated_request_creates_one_credential,
    secret_is_not_stored_in_the_database,
    key_deleted_while_waiting_for_its_hash_is_refused,
    expired_credential_gets_and_shows_no_secret,
);

const CRM: &str = "tenants/acme/applications/crm";

fn rotate(name: &str, overlap: Option<i64>) -> pb::RotateCredentialRequest {
    pb::RotateCredentialRequest {
        name: name.to_owned(),
        etag: String::new(),
        overlap: overlap.map(|seconds| prost_types::Duration { seconds, nanos: 0 }),
    }
}

async fn rotated(
    admin: &mut Admin,
    name: &str,
    overlap: Option<i64>,
) -> (pb::Credential, Credential) {
    let made = admin.credentials.rotate_credential(rotate(name, overlap)).await.unwrap();
    let made = made.into_inner();
    let credential = made.credential.unwrap();
    let client_id = credential.client_id.clone();
    (credential, Credential { client_id, secret: made.secret })
}

async fn secret_is_returned_only_once(backend: Backend) {
    let kw = backend.start().await;
    let mut admin = kw.admin().await;
    let (made, crm) = admin.acme().await;
    assert!(crm.secret.starts_with("kws_"));
    assert_eq!(made.secrets.len(), 1);
    assert!(crm.secret.ends_with(&made.secrets[0].last_four));
    secret_free(&format!("{made:?}"));

    let request = pb::GetCredentialRequest { name: made.name.clone() };
    let read = admin.credentials.get_credential(request).await.unwrap().into_inner();
    assert_eq!(read.credential, Some(made.clone()));
    let request = pb::ListCredentialsRequest { parent: CRM.to_owned(), ..Default::default() };
    let list = admin.credentials.list_credentials(request).await.unwrap().into_inner();
    assert_eq!(list.credentials, [made]);
    secret_free(&format!("{read:?} {list:?}"));
}

async fn rotation_overlaps_by_default(backend: Backend) {
    let kw = backend.start().await;
    let mut admin = kw.admin().await;
    let (made, old) = admin.acme().await;
    let token = old.token(&kw.grpc()).await;
    let (credential, new) = rotated(&mut admin, &made.name, Some(3600)).await;
    assert_eq!(credential.client_id, made.client_id);
    assert_eq!(credential.secrets.len(), 2);
    assert!(new.secret.ends_with(&credential.secrets[0].last_four), "newest first");
    assert!(admin.is_active(&token).await, "nothing is interrupted");

    for secret in [&old, &new] {
        assert!(secret.exchange(&kw.grpc(), &[], &[]).await.is_ok());
    }
    kw.advance(3600);
    assert!(new.exchange(&kw.grpc(), &[], &[]).await.is_ok());
    let status = old.exchange(&kw.grpc(), &[], &[]).await.unwrap_err();
    assert_eq!(reason(&status), "INVALID_CLIENT");
}

async fn third_secret_is_refused_during_rotation(backend: Backend) {
    let kw = backend.start().await;
    let mut admin = kw.admin().await;
    let (made, _) = admin.acme().await;
    rotated(&mut admin, &made.name, None).await;
    let status =
        admin.credentials.rotate_credential(rotate(&made.name, Some(60))).await.unwrap_err();
    assert_eq!(status.code(), Code::FailedPrecondition);
    assert_eq!(reason(&status), "ROTATION_IN_PROGRESS");
    assert!(status.message().contains("2026-06-02T12:00:00"), "{}", status.message());
    kw.advance(24 * 3600);
    let mut admin = kw.admin().await;
    let (credential, _) = rotated(&mut admin, &made.name, Some(60)).await;
    assert_eq!(credential.secrets.len(), 2);
}

async fn rotation_without_overlap_ends_older_secrets(backend: Backend) {
    let kw = backend.start().await;
    let mut admin = kw.admin().await;
    let (made, first) = admin.acme().await;
    let (_, second) = rotated(&mut admin, &made.name, Some(3600)).await;
    let tokens = [first.token(&kw.grpc()).await, second.token(&kw.grpc()).await];
    let (credential, third) = rotated(&mut admin, &made.name, Some(0)).await;
    assert_eq!(credential.secrets.len(), 1);
    for old in [&first, &second] {
        assert!(old.exchange(&kw.grpc(), &[], &[]).await.is_err());
    }
    for token in &tokens {
        assert!(!admin.is_active(token).await);
    }
    assert!(admin.is_active(&third.token(&kw.grpc()).await).await);
}

async fn rotated_api_key_keeps_its_credential_id(backend: Backend) {
    let kw = backend.start().await;
    let mut admin = kw.admin().await;
    admin.acme().await;
    let (made, old) = admin.credential(CRM, Kind::ApiKey).await;
    let (_, new) = rotated(&mut admin, &made.name, Some(60)).await;
    for key in [&old.secret, &new.secret] {
        let info = admin.introspect(key).await;
        assert_eq!((info.active, info.client_id), (true, made.client_id.clone()));
    }
}

async fn a_credential_expires(backend: Backend) {
    let kw = backend.start().await;
    let mut admin = kw.admin().await;
    admin.acme().await;
    let end = prost_types::Timestamp { seconds: kw.now().as_second() + 10, nanos: 0 };
    let request = pb::CreateCredentialRequest {
        parent: CRM.to_owned(),
        credential: Some(pb::Credential {
            kind: Kind::ClientSecret.into(),
            expire_time: Some(end),
            ..Default::default()
        }),
        request_id: String::new(),
    };
    let made = admin.credentials.create_credential(request).await.unwrap().into_inner();
    let credential = made.credential.unwrap();
    assert_eq!((credential.state(), credential.expire_time), (State::Active, Some(end)));
    kw.advance(10);
    let request = pb::GetCredentialRequest { name: credential.name };
    let read = admin.credentials.get_credential(request).await.unwrap().into_inner();
    assert_eq!(read.credential.unwrap().state(), State::Expired);
    let secret = Credential { client_id: credential.client_id, secret: made.secret };
    assert!(secret.exchange(&kw.grpc(), &[], &[]).await.is_err());
}

/// `tests/README.md` shows this test.
async fn disabled_credential_gets_no_token(backend: Backend) {
    let kw = backend.start().await;
    let mut admin = kw.admin().await;
    let (credential, crm) = admin.acme().await;
    let change = pb::UpdateCredentialRequest {
        credential: Some(pb::Credential { disabled: true, ..credential }),
        update_mask: mask(&["disabled"]),
    };
    admin.credentials.update_credential(change).await.unwrap();
    let status = crm.exchange(&kw.grpc(), &[], &[]).await.unwrap_err();
    assert_eq!(reason(&status), "INVALID_CLIENT");
}

async fn repeated_request_creates_one_credential(backend: Backend) {
    let kw = backend.start().await;
    let mut admin = kw.admin().await;
    admin.tenant("acme", &["a"]).await;
    admin.application("acme", "crm", &["a"]).await;
    let request = pb::CreateCredentialRequest {
        parent: CRM.to_owned(),
        credential: Some(pb::Credential { kind: Kind::ApiKey.into(), ..Default::default() }),
        request_id: "7b1f".to_owned(),
    };
    let made = admin.credentials.create_credential(request.clone()).await.unwrap().into_inner();
    let status = admin.credentials.create_credential(request).await.unwrap_err();
    assert_eq!(status.code(), Code::AlreadyExists);
    let name = made.credential.unwrap().name;
    assert!(status.message().contains(&name), "{}", status.message());
    secret_free(&format!("{status:?}"));
    let request = pb::ListCredentialsRequest { parent: CRM.to_owned(), ..Default::default() };
    let list = admin.credentials.list_credentials(request).await.unwrap().into_inner();
    assert_eq!(list.credentials.len(), 1);
}

async fn key_deleted_while_waiting_for_its_hash_is_refused(backend: Backend) {
    const MANY: u64 = 30;
    let patient = [("secrets.hash_wait", "5m"), ("limits.request_timeout", "5m")];
    let kw = backend.start_with(&patient).await;
    let mut admin = kw.admin().await;
    admin.acme().await;
    let mut keys = Vec::new();
    for _ in 0..MANY {
        keys.push(admin.credential(CRM, Kind::ApiKey).await.1.secret);
    }
    let hashes = kw.server().service.hashes();
    let start = hashes.get();
    let asked: Vec<_> = keys
        .into_iter()
        .map(|token| {
            let mut tokens = admin.tokens.clone();
            let request = keyward::proto::token::IntrospectTokenRequest { token };
            tokio::spawn(async move { tokens.introspect_token(request).await })
        })
        .collect();
    // Some are hashed by now. The others have read the key and wait for a hash.
    while hashes.get() < start + 4 {
        tokio::task::yield_now().await;
    }
    let request = pb::DeleteApplicationRequest { name: CRM.to_owned(), ..Default::default() };
    admin.applications.delete_application(request).await.unwrap();
    let begun = hashes.get() - start;
    let mut active = 0;
    for answer in asked {
        active += u64::from(answer.await.unwrap().unwrap().into_inner().active);
    }
    assert!(active <= begun, "{active} were active, and {begun} hashes begun before the deletion");
}

async fn secret_is_not_stored_in_the_database(backend: Backend) {
    let mut kw = backend.start().await;
    let mut admin = kw.admin().await;
    let (credential, crm) = admin.acme().await;
    let (_, key) = admin.credential(CRM, Kind::ApiKey).await;
    let token = crm.token(&kw.grpc()).await;
    let request = keyward::proto::token::RevokeTokenRequest { token: token.clone() };
    admin.tokens.revoke_token(request).await.unwrap();
    let rename = pb::UpdateCredentialRequest {
        credential: Some(pb::Credential {
            name: credential.name,
            display_name: "renamed".to_owned(),
            ..Default::default()
        }),
        update_mask: Some(FieldMask { paths: vec!["display_name".to_owned()] }),
    };
    admin.credentials.update_credential(rename).await.unwrap();
    kw.restart().await;
    let bytes = kw.stored_bytes().await;
    assert!(bytes.len() > 1000);
    for secret in [&crm.secret, &key.secret, &token, &kw.admin_credential().secret] {
        let found = bytes.windows(secret.len()).any(|window| window == secret.as_bytes());
        assert!(!found, "a secret is at rest");
    }
}

/// Credentials that expired by themselves, with their application, or by the policy.
async fn expired_credential_gets_and_shows_no_secret(backend: Backend) {
    let kw = backend.start().await;
    let mut admin = kw.admin().await;
    let (made, _) = admin.acme().await;
    let policy = pb::Policy { secrets_viewable: true, ..Default::default() };
    set_policy(&mut admin, policy.clone()).await;
    let (_, _) = rotated(&mut admin, &made.name, Some(0)).await;
    let soon = kw.now().as_second() + 60;
    let end = |seconds: Option<i64>| seconds.map(|seconds| Timestamp { seconds, nanos: 0 });

    expire_credential(&mut admin, &made.name, end(Some(soon))).await;
    kw.advance(60);
    let mut admin = kw.admin().await;
    refused_as_expired(&mut admin, &made.name, "extend its expire_time first").await;
    // The advice in the error works.
    expire_credential(&mut admin, &made.name, None).await;
    let (_, secret) = rotated(&mut admin, &made.name, Some(0)).await;
    assert!(secret.exchange(&kw.grpc(), &[], &[]).await.is_ok());

    expire_application(&mut admin, end(Some(soon + 60))).await;
    kw.advance(60);
    let mut admin = kw.admin().await;
    refused_as_expired(&mut admin, &made.name, "tenants/acme/applications/crm has expired").await;
    let request = pb::CreateCredentialRequest {
        parent: CRM.to_owned(),
        credential: Some(pb::Credential { kind: Kind::ApiKey.into(), ..Default::default() }),
        request_id: String::new(),
    };
    let status = admin.credentials.create_credential(request.clone()).await.unwrap_err();
    assert_eq!((status.code(), reason(&status)), (Code::FailedPrecondition, "EXPIRED".to_owned()));
    expire_application(&mut admin, None).await;
    admin.credentials.create_credential(request).await.unwrap();

    let max_credential_lifetime = Some(prost_types::Duration { seconds: 60, nanos: 0 });
    set_policy(&mut admin, pb::Policy { max_credential_lifetime, ..policy }).await;
    refused_as_expired(&mut admin, &made.name, "create another credential").await;
}

async fn refused_as_expired(admin: &mut Admin, name: &str, what_to_do: &str) {
    let status = admin.credentials.rotate_credential(rotate(name, None)).await.unwrap_err();
    assert_eq!((status.code(), reason(&status)), (Code::FailedPrecondition, "EXPIRED".to_owned()));
    assert!(status.message().contains(what_to_do), "{}", status.message());
    let request = pb::RevealCredentialRequest { name: name.to_owned() };
    let status = admin.credentials.reveal_credential(request).await.unwrap_err();
    assert_eq!((status.code(), reason(&status)), (Code::FailedPrecondition, "EXPIRED".to_owned()));
}

async fn set_policy(admin: &mut Admin, policy: pb::Policy) {
    let tenant =
        pb::Tenant { name: "tenants/acme".to_owned(), policy: Some(policy), ..Default::default() };
    let update_mask = mask(&["policy"]);
    let request = pb::UpdateTenantRequest { tenant: Some(tenant), update_mask };
    admin.tenants.update_tenant(request).await.unwrap();
}

async fn expire_credential(admin: &mut Admin, name: &str, expire_time: Option<Timestamp>) {
    let credential = pb::Credential { name: name.to_owned(), expire_time, ..Default::default() };
    let update_mask = mask(&["expire_time"]);
    let request = pb::UpdateCredentialRequest { credential: Some(credential), update_mask };
    admin.credentials.update_credential(request).await.unwrap();
}

async fn expire_application(admin: &mut Admin, expire_time: Option<Timestamp>) {
    let application = pb::Application { name: CRM.to_owned(), expire_time, ..Default::default() };
    let update_mask = mask(&["expire_time"]);
    let request = pb::UpdateApplicationRequest { application: Some(application), update_mask };
    admin.applications.update_application(request).await.unwrap();
}
