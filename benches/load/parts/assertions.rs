//! Tokens over gRPC for clients that sign: an assertion (`private_key_jwt`), or a `DPoP` proof beside
//! their secret. Each is used once. They are compared with a server that verifies the assertion and
//! signs a token.

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
use serde_json::{Value, json};

use crate::baseline::Kind;
use crate::callers::{AsksOnce, FreshRequest, issue_request};
use crate::harness::{Credential, connect};
use crate::load::{Measured, Shape};
use crate::report::{Figure, Target};
use crate::rounds::{Side, each, in_turns};
use crate::scene::{CLIENTS, Scene, application};
use crate::settings::{Part, Settings};

/// How many assertions or proofs are signed for each round.
const FRESH: usize = 25_000;
/// The URL of the server in proofs.
const GRPC_URL: &str = "https://keyward.test";
const METHOD: &str = "/keyward.token.v1.TokenService/IssueToken";

/// Clients that share a key, to keep the set-up small. Keyward does not know that they do.
struct Signers {
    pair: EcdsaKeyPair,
    random: SystemRandom,
    ids: Vec<String>,
    issuer: String,
    next: usize,
}

/// What the clients sign.
#[derive(Clone, Copy, PartialEq)]
enum Signed {
    Assertions,
    Proofs,
}

pub(super) async fn measure(settings: &Settings) -> Vec<Figure> {
    let mut scene = Scene::new(&[("KEYWARD_GRPC_PUBLIC_URL", GRPC_URL)]).await;
    let mut signers = Signers::register(&mut scene).await;
    let verify_sign = scene.verifying_baseline(Kind::VerifySign, signers.pair.public_key());
    let mut figures = Vec::new();
    for signed in [Signed::Assertions, Signed::Proofs] {
        for shape in [Shape::MANY, Shape::FEW] {
            let (mut keyward, mut beside) = (Vec::new(), Vec::new());
            for round in settings.rounds() {
                let assertions = signers.requests();
                let fresh = match signed {
                    Signed::Assertions => Arc::clone(&assertions),
                    Signed::Proofs => signers.with_proofs(&scene.clients),
                };
                let callers =
                    async |grpc: String, fresh| AsksOnce::connect(&grpc, shape, fresh).await;
                let own = callers(scene.keyward.grpc(), &fresh).await;
                let other = callers(verify_sign.grpc(), &assertions).await;
                let sides = [
                    Side::new(scene.keyward.process(), own).cold(),
                    Side::new(&verify_sign.process, other).cold(),
                ];
                let [own, other] = in_turns(settings, round..=round, sides).await;
                keyward.extend(own);
                beside.extend(other);
            }
            figures.extend(signed.figures(shape, &keyward, &beside));
        }
    }
    figures
}

impl Signed {
    fn figures(self, shape: Shape, keyward: &[Measured], beside: &[Measured]) -> [Figure; 3] {
        let [tokens, such] = match self {
            Self::Assertions => ["tokens for assertions", "a token for an assertion"],
            Self::Proofs => ["tokens bound to a key by DPoP", "a token bound to a key"],
        };
        let figure = |name: String, unit, number: fn(&Measured) -> f64| {
            let name = format!("{name}, {}", shape.title());
            Figure::new(Part::Assertions, name, unit, each(keyward, number))
                .beside("verify + sign", each(beside, number))
        };
        let rate = figure(tokens.to_owned(), "/s", Measured::rate).note(keyward[0].in_words());
        let rate = if self == Self::Assertions { rate.target(Target::AtLeast(0.85)) } else { rate };
        [
            rate,
            figure(format!("processor time of {such}"), "µs", Measured::cpu_each),
            figure(format!("written for {such}"), "bytes", Measured::written_each),
        ]
    }
}

impl Signers {
    async fn register(scene: &mut Scene) -> Self {
        let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap();
        #[expect(clippy::disallowed_methods, reason = "signatures draw their own randomness")]
        let random = SystemRandom::new();
        let mut keys = KeyServiceClient::new(connect(&scene.keyward.grpc()).await);
        let issuer = keys.get_jwks(GetJwksRequest {}).await.unwrap().into_inner().issuer;
        let mut signers = Self { pair, random, ids: Vec::with_capacity(CLIENTS), issuer, next: 0 };
        let keys = Some(Keys::Jwks(json!({ "keys": [signers.jwk()] }).to_string()));
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
            signers.ids.push(made.into_inner().credential.unwrap().client_id);
        }
        signers
    }

    /// Requests with new assertions, by one client after the other.
    fn requests(&mut self) -> Arc<[FreshRequest]> {
        (0..FRESH).map(|_| FreshRequest { message: self.request(), proof: None }).collect()
    }

    /// Requests of these clients with their secrets, each with a new proof.
    fn with_proofs(&mut self, clients: &[Credential]) -> Arc<[FreshRequest]> {
        let each = clients.iter().cycle().take(FRESH);
        each.map(|client| {
            let proof = Some(self.proof().parse().unwrap());
            FreshRequest { message: issue_request(client), proof }
        })
        .collect()
    }

    fn proof(&mut self) -> String {
        self.next += 1;
        let claims = json!({
            "jti": format!("{:032x}", self.next),
            "htm": "POST",
            "htu": format!("{GRPC_URL}{METHOD}"),
            "iat": Clock::system().now().as_second(),
        });
        self.sign(&json!({ "alg": "ES256", "typ": "dpop+jwt", "jwk": self.jwk() }), &claims)
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
        let assertion = self.sign(&json!({ "alg": "ES256", "typ": "JWT", "kid": "key" }), &claims);
        let message = ClientAssertion { client_id: String::new(), assertion };
        IssueTokenRequest {
            credential: Some(Proof::ClientAssertion(message)),
            scopes: Vec::new(),
            audiences: Vec::new(),
        }
    }

    fn sign(&self, header: &Value, claims: &Value) -> String {
        let part = |part: &Value| URL_SAFE_NO_PAD.encode(part.to_string());
        let message = format!("{}.{}", part(header), part(claims));
        let signature = self.pair.sign(&self.random, message.as_bytes()).unwrap();
        format!("{message}.{}", URL_SAFE_NO_PAD.encode(signature))
    }

    fn jwk(&self) -> Value {
        let (x, y) = self.pair.public_key().as_ref()[1..].split_at(32);
        let [x, y] = [x, y].map(|coordinate| URL_SAFE_NO_PAD.encode(coordinate));
        json!({ "kty": "EC", "crv": "P-256", "x": x, "y": y, "kid": "key" })
    }
}
