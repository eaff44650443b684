//! Exchanged tokens end with everything that they rest on: at once on the server that revoked it,
//! within the bound on another one, and at verifiers.

use keyward::proto::access::check_access_response::Outcome;
use keyward::proto::admin as pb;
use keyward::proto::admin::credential::Kind;
use keyward::proto::token::RevokeTokenRequest;
use keyward::verifier::{Refusal, Verifier};

use super::{ACME, gateway as follower, refused, revoke, taken, verifier};
use crate::harness::{Admin, Backend, Credential, Keyward, exchange_of, mask, until};

const CRM: &str = "tenants/acme/applications/crm";
const GATEWAY: &str = "tenants/acme/applications/gateway";
const DESK: &str = "tenants/acme/applications/desk";

/// What can end an exchanged token, besides itself.
const WAYS: [&str; 19] = [
    "subject token",
    "subject token by its id",
    "earlier subject token",
    "actor token",
    "tokens of subject credential",
    "subject credential disabled",
    "subject credential deleted",
    "tokens of subject application",
    "subject application disabled",
    "subject application narrowed",
    "subject application deleted",
    "scope disabled",
    "tokens of exchanger credential",
    "exchanger credential rotated",
    "exchanger credential deleted",
    "exchanger application disabled",
    "exchanger audience removed",
    "actor application disabled",
    "tokens of tenant",
];

struct Actors {
    crm: (pb::Credential, Credential),
    gateway: (pb::Credential, Credential),
    desk: (pb::Credential, Credential),
}

impl Actors {
    async fn new(admin: &mut Admin) -> Self {
        Self {
            crm: admin.credential(CRM, Kind::ClientSecret).await,
            gateway: admin.credential(GATEWAY, Kind::ClientSecret).await,
            desk: admin.credential(DESK, Kind::ClientSecret).await,
        }
    }
}

/// The tokens of a chain: the first, an exchanged one, one that was exchanged again, and the actor's.
struct Chain {
    first: String,
    middle: String,
    actor: String,
    last: String,
}

impl Chain {
    async fn new(kw: &Keyward, actors: &Actors) -> Self {
        let grpc = kw.grpc();
        let first = actors.crm.1.token(&grpc).await;
        let middle = actors.gateway.1.exchanged(&grpc, &first).await;
        let actor = actors.desk.1.token(&grpc).await;
        let last = actors.gateway.1.exchanged_for(&grpc, &middle, &actor).await;
        Self { first, middle, actor, last }
    }
}

fn id(token: &str) -> String {
    let claims = jsonwebtoken::dangerous::insecure_decode::<serde_json::Value>(token);
    claims.unwrap().claims["jti"].as_str().unwrap().to_owned()
}

async fn change(admin: &mut Admin, application: pb::Application, field: &str) {
    let update_mask = mask(&[field]);
    let request = pb::UpdateApplicationRequest { application: Some(application), update_mask };
    admin.applications.update_application(request).await.unwrap();
}

async fn switch(admin: &mut Admin, name: &str) {
    // Enabling it again must not revive a token.
    for disabled in [true, false] {
        let application = pb::Application { name: name.to_owned(), disabled, ..Default::default() };
        change(admin, application, "disabled").await;
    }
}

async fn revoke_token(admin: &mut Admin, token: &str) {
    let request = RevokeTokenRequest { token: token.to_owned() };
    assert!(admin.tokens.revoke_token(request).await.unwrap().into_inner().revoked);
}

async fn delete_credential(admin: &mut Admin, name: &str) {
    let request = pb::DeleteCredentialRequest { name: name.to_owned(), etag: String::new() };
    admin.credentials.delete_credential(request).await.unwrap();
}

async fn end(admin: &mut Admin, way: &str, actors: &Actors, chain: &Chain) {
    let Actors { crm, gateway, desk: _ } = actors;
    match way {
        "subject token" => revoke_token(admin, &chain.middle).await,
        "subject token by its id" => revoke(admin, &gateway.0.name, &id(&chain.middle)).await,
        "earlier subject token" => revoke_token(admin, &chain.first).await,
        "actor token" => revoke_token(admin, &chain.actor).await,
        "tokens of subject credential" => revoke(admin, &crm.0.name, "").await,
        "subject credential disabled" => {
            let credential =
                pb::Credential { name: crm.0.name.clone(), disabled: true, ..Default::default() };
            let request = pb::UpdateCredentialRequest {
                credential: Some(credential),
                update_mask: mask(&["disabled"]),
            };
            admin.credentials.update_credential(request).await.unwrap();
        }
        "subject credential deleted" => delete_credential(admin, &crm.0.name).await,
        "tokens of subject application" => revoke(admin, CRM, "").await,
        "subject application disabled" => switch(admin, CRM).await,
        "subject application narrowed" => {
            for scopes in [vec!["a".to_owned()], vec!["a".to_owned(), "b".to_owned()]] {
                let application =
                    pb::Application { name: CRM.to_owned(), scopes, ..Default::default() };
                change(admin, application, "scopes").await;
            }
        }
        "subject application deleted" => {
            let request =
                pb::DeleteApplicationRequest { name: CRM.to_owned(), etag: String::new() };
            admin.applications.delete_application(request).await.unwrap();
        }
        "scope disabled" => {
            for disabled in [true, false] {
                let name = "tenants/acme/scopes/a".to_owned();
                let request = pb::UpdateScopeRequest {
                    scope: Some(pb::Scope { name, disabled, ..Default::default() }),
                    update_mask: mask(&["disabled"]),
                };
                admin.scopes.update_scope(request).await.unwrap();
            }
        }
        "tokens of exchanger credential" => revoke(admin, &gateway.0.name, "").await,
        "exchanger credential rotated" => {
            let request = pb::RotateCredentialRequest {
                name: gateway.0.name.clone(),
                overlap: Some(prost_types::Duration::default()),
                ..Default::default()
            };
            admin.credentials.rotate_credential(request).await.unwrap();
        }
        "exchanger credential deleted" => delete_credential(admin, &gateway.0.name).await,
        "exchanger application disabled" => switch(admin, GATEWAY).await,
        "exchanger audience removed" => {
            for audiences in [&[][..], &[ACME]] {
                admin.allow_exchange(GATEWAY, audiences).await.unwrap();
            }
        }
        "actor application disabled" => switch(admin, DESK).await,
        "tokens of tenant" => revoke(admin, ACME, "").await,
        other => panic!("{other}"),
    }
}

/// Ends chains in each way at one server, and looks at another one, which can be the same, and at a
/// verifier that follows it.
async fn every_parent_ends_the_token(at: &Keyward, other: &Keyward) {
    let mut admin = at.admin().await;
    admin.acme().await;
    admin.exchanger("acme", "gateway", &[ACME]).await;
    admin.application("acme", "desk", &["c"]).await;
    let follower = follower(&mut admin).await;
    let verifier = verifier(other, &follower).await;
    let mut there = other.admin().await;
    let (_, standby) = admin.exchanger("acme", "standby", &[ACME]).await;
    for way in WAYS {
        if way == "subject application deleted" {
            // The ways after it need the application again.
            let chain = ended(at, &mut admin, &mut there, (&verifier, &standby), way).await;
            admin.application("acme", "crm", &["a", "b"]).await;
            assert!(!admin.is_active(&chain.last).await, "the application is another one");
            continue;
        }
        ended(at, &mut admin, &mut there, (&verifier, &standby), way).await;
    }
}

async fn ended(
    at: &Keyward,
    admin: &mut Admin,
    there: &mut Admin,
    (verifier, standby): (&Verifier, &Credential),
    way: &str,
) -> Chain {
    let actors = Actors::new(admin).await;
    let chain = Chain::new(at, &actors).await;
    // A chain of other credentials ends only with what both share.
    let shares = !way.contains("token") || way.contains("tokens of");
    let bystander = if !shares || way.contains("credential") {
        Some(Chain::new(at, &Actors::new(admin).await).await.last)
    } else {
        None
    };
    // The second time a token is in the cache of verified tokens.
    for _ in 0..3 {
        assert!(admin.check(&chain.last, &["a"]).await.allowed, "{way}");
        assert!(there.check(&chain.last, &["a"]).await.allowed, "{way}");
    }
    taken(verifier, &chain.last).await;
    let accepted = verifier.verify(&chain.last).unwrap();
    assert_eq!((accepted.application(), accepted.actor()), (CRM, Some(DESK)));
    end(admin, way, &actors, &chain).await;
    assert!(!admin.is_active(&chain.last).await, "{way}");
    assert_eq!(admin.check(&chain.last, &["a"]).await.outcome(), Outcome::Revoked, "{way}");
    let request = exchange_of(&chain.last);
    let again = standby.exchange_token(&at.grpc(), request).await;
    assert!(again.is_err(), "{way}: it cannot be exchanged");
    until(format!("{way} at the other server"), async || {
        there.check(&chain.last, &["a"]).await.outcome() == Outcome::Revoked
    })
    .await;
    refused(verifier, &chain.last, &Refusal::Revoked).await;
    assert!(verifier.recheck(&accepted).is_err(), "{way}");
    if let Some(bystander) = bystander {
        assert!(admin.is_active(&bystander).await, "{way}");
        taken(verifier, &bystander).await;
    }
    chain
}

#[tokio::test(flavor = "multi_thread")]
async fn every_parent_ends_the_token_on_one_server() {
    let kw = Backend::Sqlite.start().await;
    Box::pin(every_parent_ends_the_token(&kw, &kw)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_parent_ends_the_token_on_other_replicas() {
    let [at, other] = Keyward::replicas(None, &[("revocations.poll_interval", "50ms")]).await;
    Box::pin(every_parent_ends_the_token(&at, &other)).await;
}

/// A key that signed the subject token and no longer signs: the new token has another one.
#[tokio::test(flavor = "multi_thread")]
async fn revoked_key_of_the_subject_token_ends_the_token() {
    let kw = Backend::Sqlite.start().await;
    let mut admin = kw.admin().await;
    let (_, crm) = admin.acme().await;
    let (_, gateway) = admin.exchanger("acme", "gateway", &[ACME]).await;
    let follower = follower(&mut admin).await;
    let verifier = verifier(&kw, &follower).await;
    let kid = |token: &str| jsonwebtoken::decode_header(token).unwrap().kid.unwrap();
    admin.keys.rotate_signing_key(pb::RotateSigningKeyRequest {}).await.unwrap();
    kw.advance(590);
    let subject = crm.token(&kw.grpc()).await;
    kw.advance(20);
    kw.server().service.admin.maintain_signing_keys().await.unwrap();
    let child = gateway.exchanged(&kw.grpc(), &subject).await;
    assert_ne!(kid(&child), kid(&subject));
    taken(&verifier, &child).await;
    let mut admin = kw.admin().await;
    assert!(admin.check(&child, &["a"]).await.allowed);
    let name = format!("signingKeys/{}", kid(&subject));
    let request = pb::RevokeSigningKeyRequest { name, reason: "stolen".to_owned() };
    admin.keys.revoke_signing_key(request).await.unwrap();
    assert_eq!(admin.check(&child, &["a"]).await.outcome(), Outcome::Revoked);
    assert!(!admin.is_active(&child).await);
    refused(&verifier, &child, &Refusal::Revoked).await;
}
