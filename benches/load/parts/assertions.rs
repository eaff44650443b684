//! Tokens over gRPC for clients that sign an assertion (`private_key_jwt`), each assertion used once:
//! compared with a server that verifies the assertion and signs a token.

use std::sync::Arc;

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use keyward::internals::clock::Clock;
use keyward::proto::access::GetJwksRequest;
use keyward::proto::access::key_service_client::KeyServiceClient;
use keyward::proto::admin as pb;
use keyward::proto::admin::credential::public_key::Keys;
use keyward::proto::admin::credential::{Kind as CredentialKind, PublicKey, Registration};
use keyward::proto::token::issue_token_request::Credential as Proof;
use keyward::proto::token::{ClientAssertion, IssueTokenRequest};
use serde_json::json;

use crate::baseline::Kind;
use crate::callers::AsksOnce;
use crate::harness::connect;
use crate::load::{Measured, Shape};
use crate::report::{Figure, Target};
use crate::rounds::{Side, each, in_turns};
use crate::scene::{CLIENTS, Scene, application};
use crate::settings::{Part, Settings};

/// How many assertions are signed for each round.
const FRESH: usize = 25_000;

/// Clients that share a key, to keep the set-up small. Keyward does not know that they do.
struct Signers {
    pair: EcdsaKeyPair,
    random: SystemRandom,
    ids: Vec<String>,
    issuer: String,
    next: usize,
}

pub(super) async fn measure(settings: &Settings) -> Vec<Figure> {
    let mut scene = Scene::new(&[]).await;
    let mut signers = Signers::register(&mut scene).await;
    let verify_sign = scene.verifying_baseline(Kind::VerifySign, signers.pair.public_key());
    let mut figures = Vec::new();
    for shape in [Shape::MANY, Shape::FEW] {
        let (mut keyward, mut beside) = (Vec::new(), Vec::new());
        for round in settings.rounds() {
            let fresh = signers.requests();
            let callers = async |grpc: String| AsksOnce::connect(&grpc, shape, &fresh).await;
            let sides = [
                Side::new(scene.keyward.process(), callers(scene.keyward.grpc()).await).cold(),
                Side::new(&verify_sign.process, callers(verify_sign.grpc()).await).cold(),
            ];
            let [own, other] = in_turns(settings, round..=round, sides).await;
            keyward.extend(own);
            beside.extend(other);
        }
        let title = shape.title();
        let figure = |name: &str, unit, number: fn(&Measured) -> f64| {
            let name = format!("{name}, {title}");
            Figure::new(Part::Assertions, name, unit, each(&keyward, number))
                .beside("verify + sign", each(&beside, number))
        };
        figures.extend([
            figure("tokens for assertions", "/s", Measured::rate)
                .target(Target::AtLeast(0.85))
                .note(keyward[0].in_words()),
            figure("processor time of such a token", "µs", Measured::cpu_each),
            figure("written for such a token", "bytes", Measured::written_each),
        ]);
    }
    figures
}

impl Signers {
    async fn register(scene: &mut Scene) -> Self {
        let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap();
        #[expect(clippy::disallowed_methods, reason = "signatures draw their own randomness")]
        let random = SystemRandom::new();
        let (x, y) = pair.public_key().as_ref()[1..].split_at(32);
        let [x, y] = [x, y].map(|coordinate| URL_SAFE_NO_PAD.encode(coordinate));
        let jwk = json!({ "kty": "EC", "crv": "P-256", "x": x, "y": y, "kid": "key" });
        let keys = Some(Keys::Jwks(json!({ "keys": [jwk] }).to_string()));
        let mut ids = Vec::with_capacity(CLIENTS);
        for n in 0..CLIENTS {
            let parent = application(&mut scene.admin, &format!("signer-{n}"), None).await;
            let credential = pb::Credential {
                kind: CredentialKind::PublicKey.into(),
                registration: Some(Registration::PublicKey(PublicKey { keys: keys.clone() })),
                ..Default::default()
            };
            let request = pb::CreateCredentialRequest {
                parent,
                credential: Some(credential),
                request_id: String::new(),
            };
            let made = scene.admin.credentials.create_credential(request).await.unwrap();
            ids.push(made.into_inner().credential.unwrap().client_id);
        }
        let mut keys = KeyServiceClient::new(connect(&scene.keyward.grpc()).await);
        let issuer = keys.get_jwks(GetJwksRequest {}).await.unwrap().into_inner().issuer;
        Self { pair, random, ids, issuer, next: 0 }
    }

    /// Requests with new assertions, by one client after the other.
    fn requests(&mut self) -> Arc<[IssueTokenRequest]> {
        (0..FRESH).map(|_| self.request()).collect()
    }

    fn request(&mut self) -> IssueTokenRequest {
        let (id, now) = (&self.ids[self.next % self.ids.len()], Clock::system().now());
        self.next += 1;
        let claims = json!({
            "iss": id,
            "sub": id,
            "aud": self.issuer,
            "iat": now.as_second(),
            "exp": now.as_second() + 300,
            "jti": format!("{:032x}", self.next),
        });
        let header = json!({ "alg": "ES256", "typ": "JWT", "kid": "key" });
        let [header, claims] =
            [header, claims].map(|part| URL_SAFE_NO_PAD.encode(part.to_string()));
        let message = format!("{header}.{claims}");
        let signature = self.pair.sign(&self.random, message.as_bytes()).unwrap();
        let assertion = format!("{message}.{}", URL_SAFE_NO_PAD.encode(signature));
        let message = ClientAssertion { client_id: String::new(), assertion };
        IssueTokenRequest {
            credential: Some(Proof::ClientAssertion(message)),
            scopes: Vec::new(),
            audiences: Vec::new(),
        }
    }
}
