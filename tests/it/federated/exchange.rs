//! A platform's token as the subject or the actor of an exchange (RFC 8693).

use keyward::proto::admin as pb;
use keyward::proto::admin::credential::{Federated, Kind};
use keyward::proto::token as tokens;
use keyward::proto::token::exchange_token_request::Credential as Proof;
use keyward::proto::token::token_service_client::TokenServiceClient;
use serde_json::{Value, json};
use tonic::{Code, Status};
use tonic_types::StatusExt;

use super::{
    CRM, ISSUER, KID, NO_BUDGET, Platform, SERVER, changed, claims, equals, key_of, register,
    start, trust,
};
use crate::harness::signer::Signer;
use crate::harness::{
    ACCESS_TOKEN, API_KEY, Admin, Backend, Credential, JWT, Keyward, connect, exchange_of,
    on_both_databases, reason,
};

on_both_databases!(
    token_of_a_workload_is_exchanged_for_a_narrower_one,
    exchanged_token_ends_with_the_credential_of_the_workload,
    workload_exchanges_its_own_token,
    workload_can_be_the_actor,
    declared_type_must_be_that_of_the_token,
    token_that_no_credential_or_several_accept_is_refused,
    changed_trust_is_found_by_its_new_subject,
);

const ID_TOKEN: &str = "urn:ietf:params:oauth:token-type:id_token";
const ACME: &str = "tenants/acme";

/// Acme with a workload of `crm`, and `gateway`, which exchanges tokens for acme's own audience.
struct Scene {
    kw: Keyward,
    admin: Admin,
    platform: Platform,
    gateway: Credential,
}

impl Scene {
    async fn new(backend: Backend) -> Self {
        let (kw, mut admin, platform) = start(backend, &[NO_BUDGET]).await;
        let (_, gateway) = admin.exchanger("acme", "gateway", &[ACME]).await;
        Self { kw, admin, platform, gateway }
    }

    async fn exchange(
        &self,
        token: &str,
        declared: &str,
    ) -> Result<tokens::ExchangeTokenResponse, Status> {
        let request = tokens::ExchangeTokenRequest {
            subject_token_type: declared.to_owned(),
            ..exchange_of(token)
        };
        self.gateway.exchange_token(&self.kw.grpc(), request).await
    }

    /// The exchange is refused, and says no more than that.
    async fn refused(&self, why: &str, token: &str) {
        let status = self.exchange(token, JWT).await.unwrap_err();
        assert_eq!(field(&status), "subject_token", "{why}");
        assert_eq!(status.code(), Code::InvalidArgument, "{why}");
    }
}

fn field(status: &Status) -> String {
    assert_eq!(reason(status), "INVALID_FIELD", "{status:?}");
    let violations = status.get_details_bad_request().unwrap().field_violations;
    assert_eq!(violations.len(), 1, "{status:?}");
    violations[0].field.clone()
}

fn claims_of(token: &str) -> Value {
    jsonwebtoken::dangerous::insecure_decode::<Value>(token).unwrap().claims
}

async fn token_of_a_workload_is_exchanged_for_a_narrower_one(backend: Backend) {
    let scene = Scene::new(backend).await;
    let (kw, now) = (&scene.kw, scene.kw.now().as_second());
    let request = tokens::ExchangeTokenRequest {
        subject_token_type: JWT.to_owned(),
        scopes: vec!["b".to_owned()],
        ..exchange_of(&scene.platform.with(kw, "exp", json!(now + 100)))
    };
    let issued = scene.gateway.exchange_token(&kw.grpc(), request).await.unwrap();
    assert_eq!(issued.expires_in.unwrap().seconds, 100, "no longer than the presented token");
    let child = claims_of(&issued.access_token);
    assert_eq!((&child["sub"], &child["scope"]), (&json!(CRM), &json!("b")));
    assert_eq!(child["client_id"], scene.gateway.client_id);
    assert_eq!(child["parents"][0]["client_id"], scene.platform.client_id);
    // Nothing of the platform's token gets into ours.
    assert_eq!((&child["iss"], child.get("kubernetes.io")), (&json!(SERVER), None));
    // Over HTTP too, twice: it is not used up.
    let token = scene.platform.token(kw);
    for _ in 0..2 {
        let form = [
            ("grant_type", "urn:ietf:params:oauth:grant-type:token-exchange"),
            ("subject_token", token.as_str()),
            ("subject_token_type", ID_TOKEN),
        ];
        let answer = kw.post_as(&scene.gateway, "/oauth2/token", &form).await;
        assert_eq!(answer.status, 200, "{}", answer.body);
        assert_eq!(answer.json()["scope"], "a b");
    }
    let wider = tokens::ExchangeTokenRequest {
        subject_token_type: JWT.to_owned(),
        scopes: vec!["c".to_owned()],
        ..exchange_of(&token)
    };
    let status = scene.gateway.exchange_token(&kw.grpc(), wider).await.unwrap_err();
    assert_eq!(reason(&status), "SCOPE_NOT_ALLOWED");
}

async fn exchanged_token_ends_with_the_credential_of_the_workload(backend: Backend) {
    let mut scene = Scene::new(backend).await;
    let token = scene.platform.token(&scene.kw);
    let child = scene.exchange(&token, JWT).await.unwrap().access_token;
    assert!(scene.admin.is_active(&child).await);
    let name = scene.platform.name.clone();
    let delete = pb::DeleteCredentialRequest { name, etag: String::new() };
    scene.admin.credentials.delete_credential(delete).await.unwrap();
    assert!(!scene.admin.is_active(&child).await);
    scene.refused("no credential is left", &token).await;
}

async fn workload_exchanges_its_own_token(backend: Backend) {
    let mut scene = Scene::new(backend).await;
    let kw = &scene.kw;
    let token = scene.platform.token(kw);
    let request = |assertion: &str| tokens::ExchangeTokenRequest {
        credential: Some(Proof::ClientAssertion(tokens::ClientAssertion {
            client_id: scene.platform.client_id.clone(),
            assertion: assertion.to_owned(),
        })),
        subject_token_type: JWT.to_owned(),
        ..exchange_of(&token)
    };
    let mut client = TokenServiceClient::new(connect(&kw.grpc()).await);
    let status = client.exchange_token(request(&token)).await.unwrap_err();
    assert_eq!(reason(&status), "EXCHANGE_NOT_ALLOWED");
    scene.admin.allow_exchange(CRM, &[ACME]).await.unwrap();
    let issued = client.exchange_token(request(&token)).await.unwrap().into_inner();
    let child = claims_of(&issued.access_token);
    assert_eq!(
        (&child["sub"], &child["client_id"]),
        (&json!(CRM), &json!(scene.platform.client_id))
    );
    let wrong = scene.platform.with(kw, "sub", json!("other"));
    let status = client.exchange_token(request(&wrong)).await.unwrap_err();
    assert_eq!(reason(&status), "INVALID_CLIENT");
}

async fn workload_can_be_the_actor(backend: Backend) {
    let mut scene = Scene::new(backend).await;
    let grpc = scene.kw.grpc();
    let (_, key) = scene.admin.credential(CRM, Kind::ApiKey).await;
    let subject = key.token(&grpc).await;
    let request = tokens::ExchangeTokenRequest {
        actor_token: scene.platform.token(&scene.kw),
        actor_token_type: JWT.to_owned(),
        ..exchange_of(&subject)
    };
    let issued = scene.gateway.exchange_token(&grpc, request).await.unwrap();
    let child = claims_of(&issued.access_token);
    assert_eq!(child["act"], json!({ "sub": CRM, "client_id": scene.platform.client_id }));
}

async fn declared_type_must_be_that_of_the_token(backend: Backend) {
    let mut scene = Scene::new(backend).await;
    let grpc = scene.kw.grpc();
    let (_, key) = scene.admin.credential(CRM, Kind::ApiKey).await;
    let ours = key.token(&grpc).await;
    let revoked = key.token(&grpc).await;
    let request = tokens::RevokeTokenRequest { token: revoked.clone() };
    scene.admin.tokens.revoke_token(request).await.unwrap();
    let theirs = scene.platform.token(&scene.kw);
    let forged = Signer::new("ES256").token(&json!({ "kid": KID }), &claims(&scene.kw));
    // It names this server, so it is checked as one of ours, and is none.
    let posing = scene.platform.with(&scene.kw, "iss", json!(SERVER));
    let of_ours = [ACCESS_TOKEN, JWT];
    let of_theirs = [JWT, ID_TOKEN];
    for declared in [ACCESS_TOKEN, JWT, ID_TOKEN, API_KEY] {
        for (what, token, fits, is_live) in [
            ("ours", &ours, of_ours.contains(&declared), true),
            ("revoked", &revoked, of_ours.contains(&declared), false),
            ("posing as ours", &posing, of_ours.contains(&declared), false),
            ("theirs", &theirs, of_theirs.contains(&declared), true),
            ("forged", &forged, of_theirs.contains(&declared), false),
            ("key", &key.secret, declared == API_KEY, true),
        ] {
            let case = format!("{what} as {declared}");
            let outcome = scene.exchange(token, declared).await;
            match (fits, is_live) {
                (true, true) => drop(outcome.expect(&case)),
                (true, false) => {
                    assert_eq!(field(&outcome.expect_err(&case)), "subject_token", "{case}");
                }
                (false, _) => {
                    assert_eq!(field(&outcome.expect_err(&case)), "subject_token_type", "{case}");
                }
            }
        }
    }
}

async fn token_that_no_credential_or_several_accept_is_refused(backend: Backend) {
    let mut scene = Scene::new(backend).await;
    let (kw, platform) = (&scene.kw, &scene.platform);
    let right = platform.token(kw);
    for (why, token) in [
        ("issuer", platform.with(kw, "iss", json!(format!("{ISSUER}/")))),
        ("subject", platform.with(kw, "sub", json!("job:nightly-evil"))),
        ("audience", platform.with(kw, "aud", json!("other"))),
        ("no subject", platform.with(kw, "sub", Value::Null)),
        ("no expiry", platform.with(kw, "exp", Value::Null)),
        ("expired", platform.with(kw, "exp", json!(kw.now().as_second()))),
        ("too long", platform.with(kw, "exp", json!(kw.now().as_second() + 49 * 3600))),
        ("forged", Signer::new("ES256").token(&json!({ "kid": KID }), &claims(kw))),
        (
            "an access token of another server",
            platform.signer.token(&json!({ "kid": KID, "typ": "at+jwt" }), &claims(kw)),
        ),
    ] {
        scene.refused(why, &token).await;
    }
    // The trust of another tenant does not count.
    scene.admin.tenant("globex", &["a"]).await;
    let (_, stranger) = scene.admin.exchanger("globex", "gateway", &["tenants/globex"]).await;
    let request =
        tokens::ExchangeTokenRequest { subject_token_type: JWT.to_owned(), ..exchange_of(&right) };
    let status = stranger.exchange_token(&scene.kw.grpc(), request).await.unwrap_err();
    assert_eq!(field(&status), "subject_token");

    // Another trust whose keys do not verify it changes nothing; one whose keys do makes two.
    Platform::new(&mut scene.admin, CRM, trust).await;
    scene.exchange(&right, JWT).await.unwrap();
    scene.admin.application("acme", "other", &["a"]).await;
    let same = Federated {
        subject: String::new(),
        claims: vec![equals("sub", super::SUBJECT)],
        ..trust(Some(key_of(&scene.platform.signer)))
    };
    let second = register(&mut scene.admin, "tenants/acme/applications/other", same).await;
    scene.refused("two credentials", &right).await;
    let form = [
        ("grant_type", "urn:ietf:params:oauth:grant-type:token-exchange"),
        ("subject_token", right.as_str()),
        ("subject_token_type", JWT),
    ];
    let answer = scene.kw.post_as(&scene.gateway, "/oauth2/token", &form).await;
    assert_eq!((answer.status.as_u16(), &*answer.error()), (400, "invalid_request"));
    // With a client id, both still work.
    for id in [&scene.platform.client_id, &second.client_id] {
        super::accepted(&scene.kw, "client_id decides", id, &right).await;
    }
}

async fn changed_trust_is_found_by_its_new_subject(backend: Backend) {
    let mut scene = Scene::new(backend).await;
    let other = scene.platform.with(&scene.kw, "sub", json!("job:weekly"));
    scene.refused("not registered", &other).await;
    let trust = Federated {
        subject: "job:weekly".to_owned(),
        ..trust(Some(key_of(&scene.platform.signer)))
    };
    let request = pb::UpdateCredentialRequest {
        credential: Some(pb::Credential {
            name: scene.platform.name.clone(),
            registration: Some(pb::credential::Registration::Federated(trust)),
            ..Default::default()
        }),
        update_mask: crate::harness::mask(&["federated"]),
    };
    scene.admin.credentials.update_credential(request).await.unwrap();
    scene.exchange(&other, JWT).await.unwrap();
    scene.refused("the old subject", &scene.platform.token(&scene.kw)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_that_cannot_be_fetched_make_the_exchange_unavailable() {
    let mut scene = Scene::new(Backend::Sqlite).await;
    // Loopback is not allowed, so nothing is asked.
    let issuer = "https://localhost:1";
    let trust = Federated { issuer: issuer.to_owned(), ..trust(None) };
    register(&mut scene.admin, CRM, trust).await;
    let claims = changed(claims(&scene.kw), "iss", json!(issuer));
    let status = scene.exchange(&scene.platform.sign(&claims), JWT).await.unwrap_err();
    assert_eq!((status.code(), reason(&status).as_str()), (Code::Unavailable, "UNAVAILABLE"));
    // A subject that is not registered causes no question.
    let other = scene.platform.sign(&changed(claims, "sub", json!("job:other")));
    scene.refused("not registered", &other).await;
}
