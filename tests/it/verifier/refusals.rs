//! Accepted and refused tokens.

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use keyward::internals::keys::signing::generate;
use keyward::internals::keys::{Claims, SigningAlgorithm, SigningKey, jwt};
use keyward::proto::admin as pb;
use keyward::proto::admin::credential::Kind;
use keyward::verifier::{
    InsufficientScope, Refusal, Settings, StartError, Verifier, VerifierCredential,
};
use serde_json::{Value, json};

use super::{ACME, ISSUER, gateway, refused, revoke, settings, taken, verifier};
use crate::harness::{Admin, Backend, Credential, Keyward, Proxy, RedisServer, mask, until};

fn claims(token: &str) -> Claims {
    jsonwebtoken::dangerous::insecure_decode::<Claims>(token).unwrap().claims
}

/// A token with another header and the original signature.
fn with_header(token: &str, change: impl FnOnce(&mut Value)) -> String {
    let (header, rest) = token.split_once('.').unwrap();
    let mut header: Value =
        serde_json::from_slice(&URL_SAFE_NO_PAD.decode(header).unwrap()).unwrap();
    change(&mut header);
    format!("{}.{rest}", URL_SAFE_NO_PAD.encode(header.to_string()))
}

async fn audiences(admin: &mut Admin, audiences: &[&str]) {
    let tenant = pb::Tenant {
        name: ACME.to_owned(),
        additional_audiences: audiences.iter().map(|audience| (*audience).to_owned()).collect(),
        ..Default::default()
    };
    let update_mask = mask(&["additional_audiences"]);
    let request = pb::UpdateTenantRequest { tenant: Some(tenant), update_mask };
    admin.tenants.update_tenant(request).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn valid_token_is_accepted_and_others_are_refused() {
    let kw = Backend::Sqlite.start().await;
    let mut admin = kw.admin().await;
    let (credential, crm) = admin.acme().await;
    let (_, key) = admin.credential("tenants/acme/applications/crm", Kind::ApiKey).await;
    audiences(&mut admin, &["https://api.acme.example"]).await;
    let gateway = gateway(&mut admin).await;
    let verifier = verifier(&kw, &gateway).await;

    let good = crm.token(&kw.grpc()).await;
    let token = verifier.verify(&good).unwrap();
    let said = claims(&good);
    assert_eq!((token.tenant(), token.application()), ("acme", "tenants/acme/applications/crm"));
    assert_eq!((token.client_id(), token.token_id()), (&*credential.client_id, &*said.jti));
    assert_eq!(token.expires_at().as_second(), kw.now().as_second() + 900);
    assert_eq!((token.audiences(), token.roles()), (&[ACME.to_owned()][..], &[][..]));
    assert_eq!(token.scopes().collect::<Vec<_>>(), ["a", "b"]);
    assert!(token.has_scope("a") && !token.has_scope("a b") && !token.has_scope(""));
    assert_eq!(token.require_scopes(&["b", "a"]), Ok(()));
    let lacking = InsufficientScope { missing: vec!["c".to_owned(), "d".to_owned()] };
    assert_eq!(token.require_scopes(&["a", "c", "d"]), Err(lacking));

    let [a, b] = [ACME, "https://api.acme.example"];
    for (wanted, verdict) in [
        (&[b, a][..], Ok(())),
        (&[a], Ok(())),
        (&[b], Err(Refusal::WrongAudience)),
        (&["keyward"], Err(Refusal::WrongAudience)),
    ] {
        let token = crm.exchange(&kw.grpc(), &[], wanted).await.unwrap().access_token;
        assert_eq!(verifier.verify(&token).map(drop), verdict, "{wanted:?}");
    }

    let algorithm = SigningAlgorithm::Es256;
    let pkcs8 = generate(algorithm).unwrap();
    let stranger =
        SigningKey::from_pkcs8(algorithm, &pkcs8, 1, jiff::Timestamp::UNIX_EPOCH).unwrap();
    let foreign = jwt::sign(&stranger, &said).unwrap();
    let kid = |token: &str| jsonwebtoken::decode_header(token).unwrap().kid;
    let forged = with_header(&foreign, |header| header["kid"] = json!(kid(&good)));
    let (unsigned, _) = good.rsplit_once('.').unwrap();
    let twin = crm.token(&kw.grpc()).await;
    let signature = |token: &str| token.rsplit_once('.').unwrap().1.to_owned();
    let none = with_header(&good, |header| header["alg"] = json!("none"));
    for (token, refusal) in [
        (key.secret.as_str(), Refusal::ApiKey),
        ("kwk_", Refusal::ApiKey),
        ("", Refusal::Malformed),
        ("Bearer", Refusal::Malformed),
        (&".".repeat(1_000_000), Refusal::Malformed),
        (unsigned, Refusal::Malformed),
        (&format!("{unsigned}.{}", signature(&twin)), Refusal::BadSignature),
        (&none, Refusal::Malformed),
        (&with_header(&good, |header| header["typ"] = json!("JWT")), Refusal::WrongType),
        (&with_header(&good, |header| header["jku"] = json!("https://x")), Refusal::BadSignature),
        (&foreign, Refusal::UnknownKey),
        (&forged, Refusal::BadSignature),
    ] {
        assert_eq!(verifier.verify(token).unwrap_err(), refusal, "{token:.80}");
    }
    for length in 0..good.len() {
        let refusal = verifier.verify(&good[..length]).unwrap_err();
        assert!(matches!(refusal, Refusal::Malformed | Refusal::BadSignature), "cut to {length}");
    }

    kw.advance(899);
    taken(&verifier, &good).await;
    assert!(verifier.recheck(&token).is_ok());
    kw.advance(1);
    assert_eq!(verifier.verify(&good), Err(Refusal::Expired), "no leeway");
    assert_eq!(verifier.recheck(&token), Err(Refusal::Expired));
}

#[tokio::test(flavor = "multi_thread")]
async fn issuer_must_match_exactly() {
    let kw = Backend::Sqlite.start().await;
    let mut admin = kw.admin().await;
    let (_, crm) = admin.acme().await;
    let gateway = gateway(&mut admin).await;
    let token = crm.token(&kw.grpc()).await;
    for issuer in ["https://keyward.tes", "https://keyward.test/", "https://keyward.test.evil"] {
        let settings =
            Settings { issuer: issuer.to_owned(), ..settings(&kw, &kw.grpc(), &gateway) };
        let verifier = Verifier::connect(settings).await.unwrap();
        assert_eq!(verifier.verify(&token), Err(Refusal::WrongIssuer), "{issuer}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn unsafe_settings_are_refused() {
    let good =
        || Settings::new("http://127.0.0.1:1", VerifierCredential::api_key("kwk_x"), ISSUER, ACME);
    for (setting, bad) in [
        ("audience", Settings { audience: String::new(), ..good() }),
        ("audience", Settings { audience: "a b".to_owned(), ..good() }),
        ("issuer", Settings { issuer: String::new(), ..good() }),
        ("max_lag", Settings { max_lag: Duration::from_secs(1), ..good() }),
        ("api_key_prefix", Settings { api_key_prefix: String::new(), ..good() }),
        ("server", Settings { server: "not a url".into(), ..good() }),
    ] {
        match Verifier::start(bad).unwrap_err() {
            StartError::Setting { setting: reported, .. } => assert_eq!(reported, setting),
            other => panic!("{setting}: {other}"),
        }
    }
    let shown = format!("{:?}", good());
    assert!(!shown.contains("kwk_x"), "{shown}");
}

#[tokio::test(flavor = "multi_thread")]
async fn connect_fails_on_refusal_or_after_its_timeout() {
    let kw = Backend::Sqlite.start().await;
    let mut admin = kw.admin().await;
    let (_, crm) = admin.acme().await;
    let gateway = gateway(&mut admin).await;
    let wrong = Credential { secret: "kws_wrong".to_owned(), ..gateway.clone() };
    for (credential, words) in [(&wrong, "client authentication failed"), (&crm, "keyward.verify")]
    {
        let refused = Verifier::connect(settings(&kw, &kw.grpc(), credential)).await.unwrap_err();
        assert!(matches!(refused, StartError::Refused(_)), "{refused}");
        assert!(refused.to_string().contains(words), "{refused}");
    }
    let anonymous = Settings {
        ready_within: Duration::from_millis(200),
        ..settings(&kw, "http://127.0.0.1:1", &gateway)
    };
    let away = Verifier::connect(anonymous.clone()).await.unwrap_err();
    assert!(matches!(away, StartError::NotReady { .. }), "{away}");
    assert!(away.to_string().contains("refused"), "it says what is wrong: {away}");

    let token = crm.token(&kw.grpc()).await;
    let early = Verifier::start(anonymous).unwrap();
    assert_eq!(early.verify(&token), Err(Refusal::NotReady));
    assert_eq!(early.lag(), Duration::MAX);
}

/// Revokes at every level.
async fn at_every_level(kw: &Keyward, admin: &mut Admin, verifier: &Verifier) {
    let (credential, crm) = admin.acme().await;
    let (_, sibling) = admin.credential("tenants/acme/applications/crm", Kind::ClientSecret).await;
    admin.application("acme", "bi", &["a"]).await;
    let (_, bi) = admin.credential("tenants/acme/applications/bi", Kind::ClientSecret).await;
    for (name, one, revoked) in [
        (credential.name.as_str(), true, [true, false, false]),
        (&credential.name, false, [true, false, false]),
        ("tenants/acme/applications/crm", false, [true, true, false]),
        (ACME, false, [true, true, true]),
    ] {
        let mut tokens = Vec::new();
        for credential in [&crm, &sibling, &bi] {
            tokens.push(credential.token(&kw.grpc()).await);
            assert!(verifier.verify(&tokens[tokens.len() - 1]).is_ok(), "{name}");
        }
        let found_good = verifier.verify(&tokens[0]).unwrap();
        let token_id = if one { claims(&tokens[0]).jti } else { String::new() };
        revoke(admin, name, &token_id).await;
        refused(verifier, &tokens[0], &Refusal::Revoked).await;
        assert_eq!(verifier.recheck(&found_good), Err(Refusal::Revoked), "{name}");
        for (token, revoked) in tokens.iter().zip(revoked) {
            let verdict = if revoked { Err(Refusal::Revoked) } else { Ok(()) };
            assert_eq!(verifier.verify(token).map(drop), verdict, "{name}");
        }
        let after = crm.token(&kw.grpc()).await;
        assert!(verifier.verify(&after).is_ok(), "{name}: what is made now is good");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn revocation_takes_effect_at_every_level() {
    let kw = Backend::Sqlite.start().await;
    let mut admin = kw.admin().await;
    let gateway = gateway(&mut admin).await;
    let verifier = verifier(&kw, &gateway).await;
    Box::pin(at_every_level(&kw, &mut admin, &verifier)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn revocation_reaches_verifiers_of_other_replicas() {
    let redis = RedisServer::start();
    for redis in [Some(&redis), None] {
        let url = redis.map(RedisServer::url);
        let [here, there] = Keyward::replicas(url.as_deref(), &[]).await;
        let mut admin = here.admin().await;
        let gateway = gateway(&mut admin).await;
        let verifier = verifier(&there, &gateway).await;
        Box::pin(at_every_level(&here, &mut admin, &verifier)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn earlier_revocations_are_in_the_snapshot() {
    let kw = Backend::Sqlite.start().await;
    let mut admin = kw.admin().await;
    let (credential, crm) = admin.acme().await;
    let gateway = gateway(&mut admin).await;
    let old = crm.token(&kw.grpc()).await;
    // More than one message of the snapshot can contain.
    let mut others = Vec::new();
    for n in 0..40 {
        others.push(tokio::spawn({
            let (mut admin, name) = (kw.admin().await, credential.name.clone());
            async move {
                for m in 0..30 {
                    revoke(&mut admin, &name, &format!("token-{n}-{m}")).await;
                }
            }
        }));
    }
    for other in others {
        other.await.unwrap();
    }
    revoke(&mut admin, &credential.name, "").await;
    let new = crm.token(&kw.grpc()).await;
    let early = Verifier::start(settings(&kw, &kw.grpc(), &gateway)).unwrap();
    let mut verdicts = Vec::new();
    until("it is ready", async || {
        verdicts.push(early.verify(&old));
        early.verify(&new).is_ok()
    })
    .await;
    assert!(verdicts.iter().all(Result::is_err), "never taken, not even before it was ready");
    assert_eq!(early.verify(&old), Err(Refusal::Revoked));
    assert_eq!(early.revocations(), 1201);

    // An hour after its expiry it is dropped; by then the token has expired, too.
    kw.advance(2 * 3600);
    until("they are forgotten", async || early.revocations() == 0).await;
    assert_eq!(early.verify(&old), Err(Refusal::Expired));
}

#[tokio::test(flavor = "multi_thread")]
async fn new_key_is_known_before_it_signs() {
    let mut kw = Backend::Sqlite.start().await;
    let mut admin = kw.admin().await;
    let (_, crm) = admin.acme().await;
    let gateway = gateway(&mut admin).await;
    let mut proxy = Proxy::to(kw.server().grpc).await;
    let server = format!("http://{}", proxy.address);
    let verifier = Verifier::connect(settings(&kw, &server, &gateway)).await.unwrap();
    let old = crm.token(&kw.grpc()).await;
    let kid = |token: &str| jsonwebtoken::decode_header(token).unwrap().kid;
    kw.restart_with(&[("tokens.signing_algorithm", "EdDSA".to_owned())]).await;
    proxy.lead_to(kw.server().grpc).await;
    until("it follows again", async || kw.server().service.feeds.watching() > 0).await;
    kw.advance(601);
    let new = crm.token(&kw.grpc()).await;
    assert_ne!(kid(&new), kid(&old));
    taken(&verifier, &new).await;
    assert!(verifier.verify(&old).is_ok());
}
