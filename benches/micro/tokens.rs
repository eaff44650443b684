//! Issuing and verifying tokens, compared with the signature alone.

use std::hint::black_box;

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair,
    ParsedPublicKey,
};
use criterion::Criterion;
use jiff::Timestamp;
use keyward::internals::keys::jwt::{self, Audiences};
use keyward::internals::keys::signing::generate;
use keyward::internals::keys::{Claims, SigningAlgorithm, SigningKey};

const ISSUER: &str = "https://id.example.com";

pub(super) fn measure(criterion: &mut Criterion) {
    let pkcs8 = generate(SigningAlgorithm::Es256).unwrap();
    let now = Timestamp::from_second(1_700_000_000).unwrap();
    let key = SigningKey::from_pkcs8(SigningAlgorithm::Es256, &pkcs8, 1, now).unwrap();
    let claims = claims(now);
    let token = jwt::sign(&key, &claims).unwrap();
    let (message, _) = token.rsplit_once('.').unwrap();

    let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &pkcs8).unwrap();
    #[expect(clippy::disallowed_methods, reason = "signatures draw their own randomness")]
    let random = SystemRandom::new();
    let raw = || pair.sign(&random, black_box(message).as_bytes()).unwrap();

    let mut group = criterion.benchmark_group("sign");
    group.bench_function("token", |bencher| {
        bencher.iter(|| jwt::sign(&key, black_box(&claims)).unwrap());
    });
    group.bench_function("signature alone", |bencher| bencher.iter(raw));
    group.finish();

    let signature = raw();
    let public = ParsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, pair.public_key()).unwrap();
    let mut group = criterion.benchmark_group("verify");
    group.bench_function("token", |bencher| {
        let keys = std::iter::once(&key.public);
        bencher.iter(|| jwt::verify(black_box(&token), keys.clone(), ISSUER, now).unwrap());
    });
    group.bench_function("signature alone", |bencher| {
        let message = message.as_bytes();
        bencher.iter(|| public.verify_sig(black_box(message), signature.as_ref()).unwrap());
    });
    group.finish();
}

/// The claims of an integration's token.
fn claims(now: Timestamp) -> Claims {
    Claims {
        iss: ISSUER.to_owned(),
        sub: "tenants/acme/applications/crm-synchronisation".to_owned(),
        aud: Audiences::new(vec!["https://api.example.com".to_owned()]),
        client_id: "0199f5a0c3b97d2e8f4b6a1c5d3e7f90".to_owned(),
        iat: now.as_second(),
        exp: now.as_second() + 900,
        jti: "0199f5a0c3b97d2e8f4b6a1c5d3e7f91".to_owned(),
        scope: "calls.read campaigns.read campaigns.write users.read".to_owned(),
        tenant: "acme".to_owned(),
        roles: Vec::new(),
        epochs: Some([0, 3, 1]),
        cnf: None,
        act: None,
        parents: None,
    }
}
