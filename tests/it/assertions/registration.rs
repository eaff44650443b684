//! What a credential of the kind `public_key` is registered with.

use keyward::proto::admin as pb;
use keyward::proto::admin::credential::public_key::Keys;
use keyward::proto::admin::credential::{Kind, PublicKey, Registration};
use serde_json::{Value, json};
use tonic::Status;
use tonic_types::StatusExt;

use super::{CRM, accepted, jwks, refused, register, request, start};
use crate::harness::signer::Signer;
use crate::harness::{Admin, Backend, mask, on_both_databases, reason};

on_both_databases!(keys_are_stored_in_their_normal_form, faulty_keys_are_refused);

fn keys(credential: &pb::Credential) -> Keys {
    match &credential.registration {
        Some(Registration::PublicKey(PublicKey { keys: Some(keys) })) => keys.clone(),
        other => panic!("{other:?}"),
    }
}

async fn read(admin: &mut Admin, name: &str) -> pb::Credential {
    let request = pb::GetCredentialRequest { name: name.to_owned() };
    admin.credentials.get_credential(request).await.unwrap().into_inner().credential.unwrap()
}

async fn keys_are_stored_in_their_normal_form(backend: Backend) {
    let (kw, mut admin, _) = start(backend, &[super::NO_BUDGET]).await;
    let (ec, rsa, ed) = (Signer::new("ES256"), Signer::new("PS256"), Signer::new("EdDSA"));
    let mut with_more = ec.jwk_with(&[("kid", "k"), ("use", "sig"), ("alg", "ES256")]);
    with_more["x5t"] = json!("thumb");
    let text = jwks(&[with_more]).replace(':', " :\n ");
    let made = register(&mut admin, CRM, Keys::Jwks(text)).await;
    let stored = jwks(&[ec.jwk_with(&[("kid", "k"), ("alg", "ES256")])]);
    assert_eq!(keys(&made), Keys::Jwks(stored.clone()));
    let shown = read(&mut admin, &made.name).await;
    assert_eq!(shown, made);
    assert!(shown.secrets.is_empty() && !shown.viewable);

    let pem = format!("A comment\n{}\n{}", rsa.pem(), ed.pem());
    let made = register(&mut admin, CRM, Keys::Pem(pem)).await;
    assert_eq!(keys(&made), Keys::Jwks(jwks(&[rsa.jwk(), ed.jwk()])));
    for signer in [&rsa, &ed] {
        for kid in [None, Some("any")] {
            let assertion = || {
                let now = kw.now().as_second();
                let claims = json!({
                    "iss": made.client_id, "sub": made.client_id, "aud": super::ISSUER,
                    "iat": now, "exp": now + 60, "jti": jti(),
                });
                let header = kid.map_or_else(|| json!({}), |kid| json!({ "kid": kid }));
                signer.token(&header, &claims)
            };
            accepted(&kw, "PEM", assertion).await;
        }
    }

    // The same keys in another form are no change.
    let same = pb::Credential {
        registration: Some(Registration::PublicKey(PublicKey { keys: Some(keys(&made)) })),
        name: made.name.clone(),
        ..Default::default()
    };
    let update =
        pb::UpdateCredentialRequest { credential: Some(same), update_mask: mask(&["public_key"]) };
    let same = admin.credentials.update_credential(update).await.unwrap().into_inner();
    assert_eq!(same.credential.unwrap().etag, made.etag);

    let rotate = pb::RotateCredentialRequest { name: made.name.clone(), ..Default::default() };
    let status = admin.credentials.rotate_credential(rotate).await.unwrap_err();
    assert_eq!(reason(&status), "INVALID_FIELD");
    let reveal = pb::RevealCredentialRequest { name: made.name.clone() };
    let status = admin.credentials.reveal_credential(reveal).await.unwrap_err();
    assert_eq!(reason(&status), "NOT_VIEWABLE");
}

fn jti() -> String {
    use std::sync::atomic::{AtomicUsize, Ordering};
    static NUMBER: AtomicUsize = AtomicUsize::new(0);
    format!("pem-{}", NUMBER.fetch_add(1, Ordering::Relaxed))
}

/// The invalid fields.
fn fields(status: &Status) -> Vec<String> {
    assert_eq!(reason(status), "INVALID_FIELD");
    let violations = status.get_details_bad_request().unwrap().field_violations;
    violations.into_iter().map(|violation| violation.field).collect()
}

async fn faulty_keys_are_refused(backend: Backend) {
    let (kw, mut admin, party) = start(backend, &[super::NO_BUDGET]).await;
    let good = Signer::new("ES256").jwk_with(&[("kid", "k")]);
    let small = crate::harness::signer::base64url([0xFF; 128]);
    let mut private = good.clone();
    private["d"] = json!("AAAA");
    let rsa_1024 = json!({ "kty": "RSA", "e": "AQAB", "n": small });
    let symmetric = json!({ "kty": "oct", "k": "AAAA" });
    let encryption = Signer::new("ES256").jwk_with(&[("use", "enc")]);
    let cases: Vec<(Keys, &str)> = vec![
        (Keys::Jwks(String::new()), "jwks"),
        (Keys::Jwks("[]".to_owned()), "jwks"),
        (Keys::Jwks("{}".to_owned()), "jwks.keys"),
        (Keys::Jwks(good.to_string()), "jwks.keys"),
        (Keys::Jwks(jwks(&[])), "jwks.keys"),
        (Keys::Jwks(jwks(&[rsa_1024])), "jwks.keys[0].n"),
        (Keys::Jwks(jwks(&[good.clone(), private])), "jwks.keys[1].d"),
        (Keys::Jwks(jwks(&[symmetric])), "jwks.keys[0].k"),
        (Keys::Jwks(jwks(&[encryption])), "jwks.keys[0].use"),
        (Keys::Jwks(jwks(&[good.clone(), good.clone()])), "jwks.keys[1].kid"),
        (Keys::Jwks(" ".repeat(40_000)), "jwks"),
        (Keys::Pem("-----BEGIN CERTIFICATE-----".to_owned()), "pem"),
        (Keys::Pem(String::new()), "pem"),
        (Keys::JwksUri(String::new()), "jwks_uri"),
        (Keys::JwksUri("http://keys.example/jwks".to_owned()), "jwks_uri"),
        (Keys::JwksUri("https://user@keys.example/jwks".to_owned()), "jwks_uri"),
        (Keys::JwksUri("https://user:pass@keys.example/jwks".to_owned()), "jwks_uri"),
        (Keys::JwksUri("https://keys.example/jwks#key".to_owned()), "jwks_uri"),
        (Keys::JwksUri("keys.example/jwks".to_owned()), "jwks_uri"),
        (Keys::JwksUri("file:///etc/passwd".to_owned()), "jwks_uri"),
        (Keys::JwksUri(format!("https://keys.example/{}", "a".repeat(2048))), "jwks_uri"),
        (Keys::JwksUri("https://127.0.0.1/jwks".to_owned()), "jwks_uri"),
        (Keys::JwksUri("https://[::1]/jwks".to_owned()), "jwks_uri"),
        (Keys::JwksUri("https://10.0.0.1/jwks".to_owned()), "jwks_uri"),
        (Keys::JwksUri("https://169.254.169.254/latest".to_owned()), "jwks_uri"),
        (Keys::JwksUri("https://[::ffff:10.0.0.1]/jwks".to_owned()), "jwks_uri"),
    ];
    for (keys, field) in cases {
        let expected = format!("credential.public_key.{field}");
        let shown = format!("{keys:?}").chars().take(80).collect::<String>();
        let status = admin.credentials.create_credential(request(CRM, keys.clone())).await;
        assert_eq!(fields(&status.unwrap_err()), [expected.as_str()], "{shown}");
        let change = pb::UpdateCredentialRequest {
            credential: Some(pb::Credential {
                name: party.credential.name.clone(),
                registration: Some(Registration::PublicKey(PublicKey { keys: Some(keys) })),
                ..Default::default()
            }),
            update_mask: mask(&["public_key"]),
        };
        let status = admin.credentials.update_credential(change).await.unwrap_err();
        assert_eq!(fields(&status), [expected], "{shown}");
    }
    let mut without = request(CRM, Keys::Jwks(jwks(std::slice::from_ref(&good))));
    without.credential.as_mut().unwrap().registration = None;
    let status = admin.credentials.create_credential(without).await.unwrap_err();
    assert_eq!(fields(&status), ["credential.public_key"]);
    for kind in [Kind::ClientSecret, Kind::ApiKey] {
        let mut other = request(CRM, Keys::Jwks(jwks(std::slice::from_ref(&good))));
        other.credential.as_mut().unwrap().kind = kind.into();
        let status = admin.credentials.create_credential(other).await.unwrap_err();
        assert_eq!(fields(&status), ["credential.public_key"]);
    }
    accepted(&kw, "unchanged", || party.assertion(&kw)).await;
    refused(&kw, "the refused key", || {
        Signer::new("ES256").token(&json!({}), &Value::from_iter([("iss", party.id())]))
    })
    .await;
}
