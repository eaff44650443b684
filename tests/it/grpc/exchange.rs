//! Token exchange: what is granted, and what is refused.

use keyward::proto::access::check_access_response::Outcome;
use keyward::proto::admin as pb;
use keyward::proto::admin::credential::Kind;
use keyward::proto::token as tokens;
use serde_json::{Value, json};
use tonic::{Code, Status};
use tonic_types::StatusExt;

use crate::harness::{
    ACCESS_TOKEN, API_KEY, Admin, Backend, Credential, JWT, Keyward, exchange_of, mask,
    on_both_databases, reason,
};

on_both_databases!(
    exchanged_token_is_narrower_and_names_both_clients,
    exchange_grants_no_more_than_the_token,
    exchanged_token_lives_no_longer_than_the_token,
    application_exchanges_only_for_its_audiences,
    api_key_is_exchanged,
    only_the_type_that_the_token_has_is_accepted,
    unaccepted_subjects_get_identical_answers,
    chain_of_ten_is_refused,
    actors_are_named_in_order,
    limits_of_issuance_are_those_of_the_exchanger,
    only_the_platform_allows_exchange,
    audience_of_exchanges_must_be_one_of_the_tenant,
    exchanged_token_can_be_revoked_by_both_applications,
);

const ACME: &str = "tenants/acme";
const CRM: &str = "tenants/acme/applications/crm";
const BILLING: &str = "https://billing.example";

/// Acme with the audience of billing, the application `crm` with the scopes `a` and `b`, and
/// `gateway`, which exchanges tokens for billing.
struct Scene {
    kw: Keyward,
    admin: Admin,
    crm: Credential,
    gateway: Credential,
}

impl Scene {
    async fn new(backend: Backend) -> Self {
        let kw = backend.start().await;
        let mut admin = kw.admin().await;
        let (_, crm) = admin.acme().await;
        audiences(&mut admin, &[BILLING, "https://mail.example"]).await;
        let (_, gateway) = admin.exchanger("acme", "gateway", &[BILLING]).await;
        Self { kw, admin, crm, gateway }
    }

    async fn exchange(
        &self,
        request: tokens::ExchangeTokenRequest,
    ) -> Result<tokens::ExchangeTokenResponse, Status> {
        self.gateway.exchange_token(&self.kw.grpc(), request).await
    }

    async fn refused(&self, request: tokens::ExchangeTokenRequest) -> Status {
        self.exchange(request).await.unwrap_err()
    }
}

async fn audiences(admin: &mut Admin, audiences: &[&str]) {
    let request = pb::UpdateTenantRequest {
        tenant: Some(pb::Tenant {
            name: ACME.to_owned(),
            additional_audiences: audiences.iter().map(|one| (*one).to_owned()).collect(),
            ..Default::default()
        }),
        update_mask: mask(&["additional_audiences"]),
    };
    admin.tenants.update_tenant(request).await.unwrap();
}

fn claims(token: &str) -> Value {
    jsonwebtoken::dangerous::insecure_decode::<Value>(token).unwrap().claims
}

fn owned(values: &[&str]) -> Vec<String> {
    values.iter().map(|value| (*value).to_owned()).collect()
}

/// The field that is wrong, and the text about it.
fn field(status: &Status) -> (String, String) {
    assert_eq!(reason(status), "INVALID_FIELD", "{status:?}");
    let violations = status.get_details_bad_request().unwrap().field_violations;
    assert_eq!(violations.len(), 1, "{status:?}");
    (violations[0].field.clone(), violations[0].description.clone())
}

async fn exchanged_token_is_narrower_and_names_both_clients(backend: Backend) {
    let mut scene = Scene::new(backend).await;
    let role = pb::Application { name: CRM.to_owned(), ..Default::default() };
    scene.admin.role("acme", "agents", &[], &["a"]).await;
    let request = pb::UpdateApplicationRequest {
        application: Some(pb::Application { roles: owned(&["agents"]), ..role }),
        update_mask: mask(&["roles"]),
    };
    scene.admin.applications.update_application(request).await.unwrap();
    let subject = scene.crm.token(&scene.kw.grpc()).await;
    let request = tokens::ExchangeTokenRequest {
        scopes: owned(&["b"]),
        audiences: owned(&[BILLING]),
        requested_token_type: JWT.to_owned(),
        ..exchange_of(&subject)
    };
    let issued = scene.exchange(request).await.unwrap();
    assert_eq!((issued.scopes, &*issued.issued_token_type), (owned(&["b"]), JWT));
    assert_eq!((&*issued.token_type, issued.expires_in.unwrap().seconds), ("Bearer", 900));

    let (child, parent) = (claims(&issued.access_token), claims(&subject));
    assert_eq!((&child["sub"], &child["roles"]), (&json!(CRM), &json!(["agents"])));
    assert_eq!(child["client_id"], scene.gateway.client_id);
    assert_eq!((&child["aud"], &child["scope"]), (&json!(BILLING), &json!("b")));
    assert_eq!((child.get("act"), child.get("epochs")), (None, None));
    let kid = jsonwebtoken::decode_header(&subject).unwrap().kid;
    let expected = json!([
        {
            "sub": CRM,
            "client_id": scene.crm.client_id,
            "epochs": parent["epochs"],
            "jti": parent["jti"],
            "kid": kid,
        },
        {
            "sub": "tenants/acme/applications/gateway",
            "client_id": scene.gateway.client_id,
            "epochs": child["parents"][1]["epochs"],
        },
    ]);
    assert_eq!(child["parents"], expected);

    let info = scene.admin.introspect(&issued.access_token).await;
    assert!(info.active);
    assert_eq!((&*info.subject, &info.client_id), (CRM, &scene.gateway.client_id));
    assert_eq!((info.audiences, info.scopes), (owned(&[BILLING]), owned(&["b"])));
    assert_eq!((info.roles, info.actors), (owned(&["agents"]), vec![]));
    let mut question = crate::harness::question(&issued.access_token, &["b"]);
    BILLING.clone_into(&mut question.audience);
    let answer = scene.admin.access.check_access(question).await.unwrap().into_inner();
    assert_eq!(answer.outcome(), Outcome::Allowed);
    let principal = answer.principal.unwrap();
    let by = format!("tenants/acme/applications/gateway/credentials/{}", scene.gateway.client_id);
    assert_eq!((&*principal.application, principal.exchanged_by), (CRM, by));
    assert_eq!(principal.credential, format!("{CRM}/credentials/{}", scene.crm.client_id));
}

async fn exchange_grants_no_more_than_the_token(backend: Backend) {
    let mut scene = Scene::new(backend).await;
    let grpc = scene.kw.grpc();
    let narrow = scene.crm.exchange(&grpc, &["a"], &[]).await.unwrap().access_token;
    let all = scene.exchange(exchange_of(&narrow)).await.unwrap();
    assert_eq!(all.scopes, ["a"], "without a wanted scope: those of the token");
    // The application has b, and the exchanger gets it too: the token still has not.
    let application = pb::Application {
        name: "tenants/acme/applications/gateway".to_owned(),
        scopes: owned(&["b"]),
        ..Default::default()
    };
    let update_mask = mask(&["scopes"]);
    let request = pb::UpdateApplicationRequest { application: Some(application), update_mask };
    scene.admin.applications.update_application(request).await.unwrap();
    for beyond in ["b", "c", "unknown", "A"] {
        let scopes = owned(&["a", beyond]);
        let request = tokens::ExchangeTokenRequest { scopes, ..exchange_of(&narrow) };
        let status = scene.refused(request).await;
        assert_eq!(reason(&status), "SCOPE_NOT_ALLOWED");
        assert_eq!(status.message(), format!("scope not allowed: {beyond}"));
    }
}

async fn exchanged_token_lives_no_longer_than_the_token(backend: Backend) {
    let mut scene = Scene::new(backend).await;
    let grpc = scene.kw.grpc();
    let subject = scene.crm.token(&grpc).await;
    scene.kw.advance(600);
    let issued = scene.exchange(exchange_of(&subject)).await.unwrap();
    assert_eq!(issued.expires_in.unwrap().seconds, 300);
    assert_eq!(claims(&issued.access_token)["exp"], claims(&subject)["exp"]);
    // An actor's token that ends earlier ends it, too.
    let later = scene.crm.token(&grpc).await;
    let with_actor = scene.gateway.exchanged_for(&grpc, &later, &subject).await;
    assert_eq!(claims(&with_actor)["exp"], claims(&subject)["exp"]);
    // A key lives for longer than any token: then the tenant's lifetime counts.
    let (_, key) = scene.admin.credential(CRM, Kind::ApiKey).await;
    let request = tokens::ExchangeTokenRequest {
        subject_token_type: API_KEY.to_owned(),
        ..exchange_of(&key.secret)
    };
    assert_eq!(scene.exchange(request).await.unwrap().expires_in.unwrap().seconds, 900);
    scene.kw.advance(299);
    assert!(scene.admin.is_active(&issued.access_token).await);
    scene.kw.advance(1);
    let mut admin = scene.kw.admin().await;
    assert!(!admin.is_active(&issued.access_token).await);
    assert_eq!(field(&scene.refused(exchange_of(&subject)).await).0, "subject_token");
}

async fn application_exchanges_only_for_its_audiences(backend: Backend) {
    let mut scene = Scene::new(backend).await;
    let subject = scene.crm.token(&scene.kw.grpc()).await;
    let to = |audiences: &[&str]| tokens::ExchangeTokenRequest {
        audiences: owned(audiences),
        ..exchange_of(&subject)
    };
    for beyond in ["https://mail.example", "tenants/acme", "keyward", "https://other.example"] {
        for wanted in [&[beyond][..], &[BILLING, beyond]] {
            let status = scene.refused(to(wanted)).await;
            assert_eq!(reason(&status), "AUDIENCE_NOT_ALLOWED");
            assert_eq!(status.message(), format!("audience not allowed: {beyond}"));
        }
    }
    // Without a wanted audience there must be only one.
    let gateway = "tenants/acme/applications/gateway";
    let both = [BILLING, "https://mail.example"];
    scene.admin.allow_exchange(gateway, &both).await.unwrap();
    assert_eq!(reason(&scene.refused(to(&[])).await), "AUDIENCE_NOT_ALLOWED");
    let issued = scene.exchange(to(&both)).await.unwrap().access_token;
    assert_eq!(claims(&issued)["aud"], json!(both));
    // An audience that the tenant no longer has.
    audiences(&mut scene.admin, &[BILLING]).await;
    let subject = scene.crm.token(&scene.kw.grpc()).await;
    let to = |audience: &str| tokens::ExchangeTokenRequest {
        audiences: owned(&[audience]),
        ..exchange_of(&subject)
    };
    let status = scene.refused(to("https://mail.example")).await;
    assert_eq!(reason(&status), "AUDIENCE_NOT_ALLOWED");
    scene.exchange(to(BILLING)).await.unwrap();
    // An application that may not exchange learns nothing of the token.
    for token in [subject.as_str(), "x"] {
        let status =
            scene.crm.exchange_token(&scene.kw.grpc(), exchange_of(token)).await.unwrap_err();
        assert_eq!(
            (status.code(), &*reason(&status)),
            (Code::PermissionDenied, "EXCHANGE_NOT_ALLOWED")
        );
    }
}

async fn api_key_is_exchanged(backend: Backend) {
    let mut scene = Scene::new(backend).await;
    let (credential, key) = scene.admin.credential(CRM, Kind::ApiKey).await;
    let request = tokens::ExchangeTokenRequest {
        subject_token_type: API_KEY.to_owned(),
        scopes: owned(&["a"]),
        ..exchange_of(&key.secret)
    };
    let issued = scene.exchange(request).await.unwrap();
    let claims = claims(&issued.access_token);
    assert_eq!((&claims["sub"], &claims["scope"]), (&json!(CRM), &json!("a")));
    assert_eq!(claims["parents"][0]["client_id"], credential.client_id);
    assert_eq!(claims["parents"][0].get("jti"), None);
    assert!(scene.admin.is_active(&issued.access_token).await);
    let request = pb::DeleteCredentialRequest { name: credential.name, etag: String::new() };
    scene.admin.credentials.delete_credential(request).await.unwrap();
    assert!(!scene.admin.is_active(&issued.access_token).await);
}

/// A revoked token is refused, whatever it is said to be.
async fn only_the_type_that_the_token_has_is_accepted(backend: Backend) {
    let mut scene = Scene::new(backend).await;
    let grpc = scene.kw.grpc();
    let token = scene.crm.token(&grpc).await;
    let revoked = scene.crm.token(&grpc).await;
    let request = tokens::RevokeTokenRequest { token: revoked.clone() };
    scene.admin.tokens.revoke_token(request).await.unwrap();
    let exchanged = scene.gateway.exchanged(&grpc, &token).await;
    let (_, key) = scene.admin.credential(CRM, Kind::ApiKey).await;
    let (deleted, gone) = scene.admin.credential(CRM, Kind::ApiKey).await;
    let request = pb::DeleteCredentialRequest { name: deleted.name, etag: String::new() };
    scene.admin.credentials.delete_credential(request).await.unwrap();
    let others = ["id_token", "refresh_token", "saml1", "saml2", "Access_Token", "x"]
        .map(|name| format!("urn:ietf:params:oauth:token-type:{name}"));
    let declared = [ACCESS_TOKEN, JWT, API_KEY, "access_token", ""]
        .into_iter()
        .chain(others.iter().map(String::as_str));
    for declared in declared {
        for (what, presented, fits, is_live) in [
            ("token", &token, [ACCESS_TOKEN, JWT].contains(&declared), true),
            ("exchanged", &exchanged, [ACCESS_TOKEN, JWT].contains(&declared), true),
            ("revoked", &revoked, [ACCESS_TOKEN, JWT].contains(&declared), false),
            ("key", &key.secret, declared == API_KEY, true),
            ("deleted key", &gone.secret, declared == API_KEY, false),
        ] {
            let as_subject = tokens::ExchangeTokenRequest {
                subject_token_type: declared.to_owned(),
                ..exchange_of(presented)
            };
            let as_actor = tokens::ExchangeTokenRequest {
                actor_token: presented.clone(),
                actor_token_type: declared.to_owned(),
                ..exchange_of(&token)
            };
            for (parameter, request) in [("subject_token", as_subject), ("actor_token", as_actor)] {
                let outcome = scene.exchange(request).await;
                let case = format!("{what} as {declared} in {parameter}");
                match (fits, is_live) {
                    (true, true) => drop(outcome.expect(&case)),
                    (true, false) => assert_eq!(field(&outcome.expect_err(&case)).0, parameter),
                    (false, _) => {
                        let wrong = field(&outcome.expect_err(&case)).0;
                        assert_eq!(wrong, format!("{parameter}_type"), "{case}");
                    }
                }
            }
        }
    }
    for requested in [API_KEY, "urn:ietf:params:oauth:token-type:id_token", "jwt"] {
        let requested_token_type = requested.to_owned();
        let request = tokens::ExchangeTokenRequest { requested_token_type, ..exchange_of(&token) };
        assert_eq!(field(&scene.refused(request).await).0, "requested_token_type");
    }
}

async fn unaccepted_subjects_get_identical_answers(backend: Backend) {
    let scene = Scene::new(backend).await;
    let grpc = scene.kw.grpc();
    let expired = scene.crm.token(&grpc).await;
    scene.kw.advance(900);
    let mut admin = scene.kw.admin().await;
    let revoked = scene.crm.token(&grpc).await;
    let request = tokens::RevokeTokenRequest { token: revoked.clone() };
    admin.tokens.revoke_token(request).await.unwrap();
    admin.tenant("other", &["a"]).await;
    let other = admin.application("other", "crm", &["a"]).await.name;
    let foreign = admin.credential(&other, Kind::ClientSecret).await.1.token(&grpc).await;
    let (_, foreign_key) = admin.credential(&other, Kind::ApiKey).await;
    let system = admin.token.clone();
    let (_, key) = admin.credential(CRM, Kind::ApiKey).await;
    let mut broken = key.secret.clone();
    broken.pop();
    let live = scene.crm.token(&grpc).await;
    let request = scene.kw.request(reqwest::Method::POST, "/oauth2/introspect");
    let request = request.header("accept", "application/token-introspection+jwt");
    let request = request.basic_auth(&scene.crm.client_id, Some(&scene.crm.secret));
    let introspection = scene.kw.send(request.form(&[("token", &live)])).await.body;
    assert_eq!(introspection.split('.').count(), 3, "{introspection}");
    let hashes = scene.kw.server().service.hashes().get();
    let mut answers = Vec::new();
    for (token, declared) in [
        (expired.as_str(), ACCESS_TOKEN),
        (&revoked, ACCESS_TOKEN),
        (&foreign, ACCESS_TOKEN),
        (&system, JWT),
        (&live[..live.len() - 1], JWT),
        (&introspection, JWT),
        ("x", ACCESS_TOKEN),
        (&".".repeat(20_000), ACCESS_TOKEN),
        (&foreign_key.secret, API_KEY),
        (&broken, API_KEY),
        ("kwk_", API_KEY),
    ] {
        let request = tokens::ExchangeTokenRequest {
            subject_token_type: declared.to_owned(),
            ..exchange_of(token)
        };
        let (wrong, text) = field(&scene.refused(request).await);
        assert_eq!(wrong, "subject_token");
        answers.push(text);
    }
    answers.dedup();
    assert_eq!(answers.len(), 1, "{answers:?}");
    let spent = scene.kw.server().service.hashes().get() - hashes;
    assert!(spent <= 1, "at most that of the gateway's own secret: {spent}");
}

async fn chain_of_ten_is_refused(backend: Backend) {
    let mut scene = Scene::new(backend).await;
    let grpc = scene.kw.grpc();
    for with_actor in [false, true] {
        let actor = if with_actor { scene.crm.token(&grpc).await } else { String::new() };
        let mut token = scene.crm.token(&grpc).await;
        for number in 1..=10 {
            let mut request = exchange_of(&token);
            if with_actor {
                request.actor_token.clone_from(&actor);
                ACCESS_TOKEN.clone_into(&mut request.actor_token_type);
            }
            let answer = scene.exchange(request).await;
            if number <= 5 {
                token = answer.unwrap().access_token;
                assert!(scene.admin.is_active(&token).await, "{number}");
            } else {
                let (wrong, text) = field(&answer.unwrap_err());
                assert_eq!(wrong, "subject_token");
                assert!(text.contains("5 times"), "{text}");
            }
        }
        assert!(token.len() < 6 * 1024, "{}", token.len());
    }
}

async fn actors_are_named_in_order(backend: Backend) {
    let mut scene = Scene::new(backend).await;
    let grpc = scene.kw.grpc();
    let (_, desk) = {
        scene.admin.application("acme", "desk", &["c"]).await;
        scene.admin.credential("tenants/acme/applications/desk", Kind::ClientSecret).await
    };
    let subject = scene.crm.token(&grpc).await;
    let once = scene.gateway.exchanged_for(&grpc, &subject, &desk.token(&grpc).await).await;
    let by_desk = json!({
        "sub": "tenants/acme/applications/desk",
        "client_id": desk.client_id,
    });
    assert_eq!(claims(&once)["act"], by_desk);
    // Without an actor of its own, an exchange keeps the one of before.
    let kept = scene.gateway.exchanged(&grpc, &once).await;
    assert_eq!(claims(&kept)["act"], by_desk);
    let actor = scene.crm.token(&grpc).await;
    let twice = scene.gateway.exchanged_for(&grpc, &kept, &actor).await;
    let expected = json!({ "sub": CRM, "client_id": scene.crm.client_id, "act": by_desk });
    assert_eq!(claims(&twice)["act"], expected);
    assert_eq!(claims(&twice)["sub"], CRM);
    let actors = scene.admin.introspect(&twice).await.actors;
    let named: Vec<_> = actors.iter().map(|actor| actor.client_id.as_str()).collect();
    assert_eq!(named, [&*scene.crm.client_id, &*desk.client_id]);
    // What an actor may do does not add to what the token may.
    let request = tokens::ExchangeTokenRequest {
        scopes: owned(&["c"]),
        actor_token: desk.token(&grpc).await,
        actor_token_type: ACCESS_TOKEN.to_owned(),
        ..exchange_of(&subject)
    };
    assert_eq!(reason(&scene.refused(request).await), "SCOPE_NOT_ALLOWED");
    // A token that has an actor cannot be one, and each parameter needs the other.
    let with = |actor_token: &str, actor_token_type: &str| tokens::ExchangeTokenRequest {
        actor_token: actor_token.to_owned(),
        actor_token_type: actor_token_type.to_owned(),
        ..exchange_of(&subject)
    };
    for (request, wrong) in [
        (with(&once, ACCESS_TOKEN), "actor_token"),
        (with("", ACCESS_TOKEN), "actor_token"),
        (with(&subject, ""), "actor_token_type"),
    ] {
        assert_eq!(field(&scene.refused(request).await).0, wrong);
    }
}

async fn limits_of_issuance_are_those_of_the_exchanger(backend: Backend) {
    let mut scene = Scene::new(backend).await;
    let grpc = scene.kw.grpc();
    let limited = |name: &str, tokens: i64| pb::UpdateApplicationRequest {
        application: Some(pb::Application {
            name: name.to_owned(),
            limits: Some(pb::Limits { tokens, ..Default::default() }),
            ..Default::default()
        }),
        update_mask: mask(&["limits"]),
    };
    let subject = scene.crm.token(&grpc).await;
    scene.admin.applications.update_application(limited(CRM, 1)).await.unwrap();
    let request = limited("tenants/acme/applications/gateway", 2);
    scene.admin.applications.update_application(request).await.unwrap();
    for _ in 0..2 {
        scene.exchange(exchange_of(&subject)).await.unwrap();
    }
    assert_eq!(reason(&scene.refused(exchange_of(&subject)).await), "RATE_LIMITED");
    // None of them counted for the application whose token it is.
    scene.crm.exchange(&grpc, &[], &[]).await.unwrap();
}

async fn only_the_platform_allows_exchange(backend: Backend) {
    let mut scene = Scene::new(backend).await;
    let every = |verb: &str| {
        ["own", "users", "account"].map(|reach| format!("applications.{verb}.{reach}"))
    };
    let permissions = ["view", "create", "edit"].map(every).concat();
    let permissions: Vec<_> = permissions.iter().map(String::as_str).collect();
    scene.admin.role("acme", "owner", &permissions, &["*"]).await;
    let ann = scene.admin.user("acme", "ann", &["owner"]).await;
    let mut ann = scene.admin.acting_for(&ann);
    for audiences in [&[BILLING][..], &[]] {
        let status = ann.allow_exchange(CRM, audiences).await.unwrap_err();
        assert_eq!(reason(&status), "PERMISSION_DENIED", "{audiences:?}");
    }
    let new = |exchange: &[&str]| pb::CreateApplicationRequest {
        parent: ACME.to_owned(),
        application_id: "mine".to_owned(),
        application: Some(pb::Application {
            display_name: "Mine".to_owned(),
            exchange_audiences: owned(exchange),
            ..Default::default()
        }),
        request_id: String::new(),
    };
    let status = ann.applications.create_application(new(&[BILLING])).await.unwrap_err();
    assert_eq!(reason(&status), "PERMISSION_DENIED");
    ann.applications.create_application(new(&[])).await.unwrap();
    // A mask of * leaves them as they are.
    let gateway = "tenants/acme/applications/gateway";
    let request = pb::UpdateApplicationRequest {
        application: Some(pb::Application {
            name: gateway.to_owned(),
            display_name: "Gateway".to_owned(),
            ..Default::default()
        }),
        update_mask: mask(&["*"]),
    };
    let kept = ann.applications.update_application(request).await.unwrap().into_inner();
    assert_eq!(kept.application.unwrap().exchange_audiences, [BILLING]);

    audiences(&mut scene.admin, &[BILLING, "a", "b"]).await;
    let set = scene.admin.allow_exchange(gateway, &["b", "a", "b"]).await.unwrap();
    assert_eq!(set.exchange_audiences, ["a", "b"]);
    let request = pb::ListAuditEventsRequest { parent: ACME.to_owned(), ..Default::default() };
    let events = scene.admin.audit.list_audit_events(request).await.unwrap().into_inner().events;
    let change = events[0].changes.iter().find(|change| change.field == "exchange_audiences");
    let change = change.unwrap();
    assert_eq!((&*change.before, &*change.after), (BILLING, "a b"));
    for wrong in ["keyward", "", "two words"] {
        let status = scene.admin.allow_exchange(gateway, &["a", wrong]).await.unwrap_err();
        assert_eq!(field(&status).0, "application.exchange_audiences[1]", "{wrong:?}");
    }
    let many: Vec<_> = (0..65).map(|number| number.to_string()).collect();
    let many: Vec<_> = many.iter().map(String::as_str).collect();
    let status = scene.admin.allow_exchange(gateway, &many).await.unwrap_err();
    assert_eq!(field(&status).0, "application.exchange_audiences");
}

async fn audience_of_exchanges_must_be_one_of_the_tenant(backend: Backend) {
    let mut scene = Scene::new(backend).await;
    let gateway = "tenants/acme/applications/gateway";
    let other = "https://other.example";
    let status = scene.admin.allow_exchange(gateway, &[BILLING, other]).await.unwrap_err();
    let (name, text) = field(&status);
    assert_eq!(name, "application.exchange_audiences");
    assert!(text.contains(other) && text.contains("additional_audiences"), "{text}");
    let new = pb::CreateApplicationRequest {
        parent: ACME.to_owned(),
        application: Some(pb::Application {
            display_name: "New".to_owned(),
            exchange_audiences: owned(&[other]),
            ..Default::default()
        }),
        ..Default::default()
    };
    let status = scene.admin.applications.create_application(new).await.unwrap_err();
    assert_eq!(field(&status).0, "application.exchange_audiences");
    audiences(&mut scene.admin, &[BILLING, other]).await;
    scene.admin.allow_exchange(gateway, &[BILLING, other, ACME]).await.unwrap();
    // One that the tenant has no longer can be kept, but not added again.
    audiences(&mut scene.admin, &[BILLING]).await;
    let kept = scene.admin.allow_exchange(gateway, &[BILLING, other]).await.unwrap();
    assert_eq!(kept.exchange_audiences, [BILLING, other]);
    scene.admin.allow_exchange(gateway, &[BILLING]).await.unwrap();
    scene.admin.allow_exchange(gateway, &[BILLING, other]).await.unwrap_err();
}

async fn exchanged_token_can_be_revoked_by_both_applications(backend: Backend) {
    let mut scene = Scene::new(backend).await;
    let grpc = scene.kw.grpc();
    scene.admin.application("acme", "other", &["a"]).await;
    let (_, other) =
        scene.admin.credential("tenants/acme/applications/other", Kind::ClientSecret).await;
    for (by, may) in [(&scene.crm, true), (&scene.gateway, true), (&other, false)] {
        let subject = scene.crm.token(&grpc).await;
        let child = scene.gateway.exchanged(&grpc, &subject).await;
        let form = [("token", child.as_str())];
        let seen = scene.kw.post_as(by, "/oauth2/introspect", &form).await.json();
        assert_eq!(seen["active"], json!(may));
        let answer = scene.kw.post_as(by, "/oauth2/revoke", &form).await;
        assert_eq!(answer.status.as_u16(), if may { 200 } else { 400 }, "{answer:?}");
        assert_eq!(scene.admin.is_active(&child).await, !may);
        assert!(scene.admin.is_active(&subject).await, "only the child ends");
        if may {
            let request =
                pb::ListAuditEventsRequest { parent: ACME.to_owned(), ..Default::default() };
            let events = scene.admin.audit.list_audit_events(request).await.unwrap();
            let resource = &events.into_inner().events[0].resource;
            let holder = "tenants/acme/applications/gateway/credentials/";
            assert_eq!(*resource, format!("{holder}{}", scene.gateway.client_id));
        }
    }
}
