//! Wrong secrets of many clients from one source.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use jiff::Timestamp;
use keyward::internals::domain::{CredentialId, SecretKind};
use keyward::internals::secrets::{Prefixes, random};
use keyward::proto::access::check_access_request::Requirement;
use keyward::proto::access::check_access_response::Outcome;
use keyward::proto::access::{CheckAccessRequest, RequiredScopes};
use keyward::proto::admin as pb;
use keyward::proto::admin::credential::Kind;
use keyward::proto::token::token_service_client::TokenServiceClient;
use keyward::proto::token::{IntrospectTokenRequest, IssueTokenRequest, IssueTokenResponse};
use tokio::task::JoinSet;
use tonic::Status;
use tonic::transport::Channel;
use tonic_types::StatusExt;

use super::{BEHIND_PROXY, from};
use crate::harness::{
    Admin, Backend, Credential, Keyward, bearer, connect, on_both_databases, pause, reason, until,
};

on_both_databases!(
    flood_of_one_source_does_not_block_other_callers,
    flood_of_introspected_keys_does_not_block_managers,
    source_with_many_wrong_secrets_is_refused_for_every_client,
    wrong_keys_behind_a_gateway_count_for_their_own_source,
);

const CRM: &str = "tenants/acme/applications/crm";
/// The number of guesses in flight, and of connections for them.
const IN_FLIGHT: usize = 300;
const CONNECTIONS: usize = 4;
/// The pause after a refused guess: the queue stays full, and the machine has time for other tests.
const PAUSE: Duration = Duration::from_millis(200);
const ATTACKER: &str = "192.0.2.66";

/// A well-formed secret of a client that does not exist.
fn stray(kind: SecretKind) -> Credential {
    let id = CredentialId::parse(&random::id(Timestamp::UNIX_EPOCH).unwrap()).unwrap();
    let secret = Prefixes::default().generate(kind, &id).unwrap().expose().to_owned();
    let client_id = match kind {
        SecretKind::ApiKey => String::new(),
        SecretKind::ClientSecret => id.to_string(),
    };
    Credential { client_id, secret }
}

async fn exchange(
    channel: &Channel,
    address: &str,
    credential: &Credential,
) -> Result<IssueTokenResponse, Status> {
    let request = IssueTokenRequest { credential: credential.proof(), ..Default::default() };
    let mut tokens = TokenServiceClient::new(channel.clone());
    tokens.issue_token(from(address, request)).await.map(tonic::Response::into_inner)
}

/// Guesses that are sent until this is dropped.
struct Flood {
    guesses: JoinSet<()>,
    stop: Arc<AtomicBool>,
    turned_away: Arc<AtomicUsize>,
}

impl Flood {
    /// Starts the flood. `guess` makes one guess and returns whether the queue was full.
    fn start<G, F>(guess: G) -> Self
    where
        G: Fn(usize) -> F + Clone + Send + 'static,
        F: Future<Output = bool> + Send,
    {
        let (stop, turned_away) = (Arc::<AtomicBool>::default(), Arc::<AtomicUsize>::default());
        let mut guesses = JoinSet::new();
        for number in 0..IN_FLIGHT {
            let (guess, stop, turned_away) = (guess.clone(), stop.clone(), turned_away.clone());
            guesses.spawn(async move {
                while !stop.load(Ordering::Relaxed) {
                    if guess(number).await {
                        turned_away.fetch_add(1, Ordering::Relaxed);
                        pause(PAUSE).await;
                    }
                }
            });
        }
        Self { guesses, stop, turned_away }
    }

    /// Waits until the queue is full.
    async fn is_felt(&self) {
        until("the queue is full", async || self.turned_away.load(Ordering::Relaxed) >= 10).await;
    }

    async fn end(mut self) {
        self.stop.store(true, Ordering::Relaxed);
        self.guesses.shutdown().await;
    }
}

async fn channels(kw: &Keyward) -> Vec<Channel> {
    let mut channels = Vec::new();
    for _ in 0..CONNECTIONS {
        channels.push(connect(&kw.grpc()).await);
    }
    channels
}

/// A server without failure budgets, so that only the queue bounds guesses.
async fn uncounted(backend: Backend) -> Keyward {
    let settings = [
        BEHIND_PROXY,
        ("secrets.wrong_secrets_of_source", "0"),
        ("secrets.hash_queue", "64"),
        ("secrets.hash_wait", "1m"),
        ("limits.request_timeout", "2m"),
    ];
    backend.start_with(&settings).await
}

async fn rotate(admin: &mut Admin, credential: &pb::Credential) -> Result<Credential, Status> {
    let overlap = prost_types::Duration { seconds: 60, nanos: 0 };
    let request = pb::RotateCredentialRequest {
        name: credential.name.clone(),
        overlap: Some(overlap),
        ..Default::default()
    };
    let rotated = admin.credentials.rotate_credential(request).await?.into_inner();
    Ok(Credential { client_id: credential.client_id.clone(), secret: rotated.secret })
}

async fn create(admin: &mut Admin) -> Result<Credential, Status> {
    let request = pb::CreateCredentialRequest {
        parent: CRM.to_owned(),
        credential: Some(pb::Credential { kind: Kind::ClientSecret.into(), ..Default::default() }),
        ..Default::default()
    };
    let made = admin.credentials.create_credential(request).await?.into_inner();
    Ok(Credential { client_id: made.credential.unwrap().client_id, secret: made.secret })
}

async fn flood_of_one_source_does_not_block_other_callers(backend: Backend) {
    let kw = Box::pin(uncounted(backend)).await;
    let mut admin = kw.admin().await;
    let (to_rotate, _) = admin.acme().await;
    let mut unused = Vec::new();
    for _ in 0..5 {
        unused.push(create(&mut admin).await.unwrap());
    }
    let channels = channels(&kw).await;
    let flood = Flood::start(move |number| {
        let channel = channels[number % CONNECTIONS].clone();
        async move {
            let status = exchange(&channel, ATTACKER, &stray(SecretKind::ClientSecret)).await;
            reason(&status.unwrap_err()) == "OVERLOADED"
        }
    });
    flood.is_felt().await;

    let channel = connect(&kw.grpc()).await;
    for (number, credential) in unused.iter().enumerate() {
        let address = format!("198.51.100.{number}");
        exchange(&channel, &address, credential).await.expect("a first use");
    }
    let rotated = rotate(&mut admin, &to_rotate).await.expect("a rotation");
    exchange(&channel, "198.51.100.1", &rotated).await.expect("a first use of the new secret");
    for _ in 0..3 {
        let created = create(&mut admin).await.expect("a creation");
        exchange(&channel, "198.51.100.2", &created).await.expect("a first use of it");
    }
    assert!(!flood.guesses.is_empty());
    flood.end().await;
}

async fn flood_of_introspected_keys_does_not_block_managers(backend: Backend) {
    let kw = Box::pin(uncounted(backend)).await;
    let mut admin = kw.admin().await;
    let (to_rotate, _) = admin.acme().await;
    let unused = create(&mut admin).await.unwrap();
    let gateway = admin.application("system", "gateway", &["keyward.verify"]).await;
    let (_, gateway) = admin.credential(&gateway.name, Kind::ClientSecret).await;
    let token = gateway.exchange(&kw.grpc(), &[], &["keyward"]).await.unwrap().access_token;
    let mut channels = Vec::new();
    for _ in 0..CONNECTIONS {
        channels.push(bearer(&kw.grpc(), &token).await);
    }
    // The application exists, but not the keys that it sends.
    let flood = Flood::start(move |number| {
        let mut tokens = TokenServiceClient::new(channels[number % CONNECTIONS].clone());
        async move {
            let token = stray(SecretKind::ApiKey).secret;
            let answer = tokens.introspect_token(IntrospectTokenRequest { token }).await;
            answer.is_err_and(|status| reason(&status) == "OVERLOADED")
        }
    });
    flood.is_felt().await;
    let channel = connect(&kw.grpc()).await;
    exchange(&channel, "198.51.100.1", &unused).await.expect("a first use");
    let rotated = rotate(&mut admin, &to_rotate).await.expect("a rotation");
    exchange(&channel, "198.51.100.2", &rotated).await.expect("a first use of the new secret");
    create(&mut admin).await.expect("a creation");
    flood.end().await;
}

/// The visible parts of an error.
fn seen(status: &Status) -> (tonic::Code, String, Vec<u8>) {
    (status.code(), status.message().to_owned(), status.details().to_vec())
}

async fn source_with_many_wrong_secrets_is_refused_for_every_client(backend: Backend) {
    let settings =
        [BEHIND_PROXY, ("secrets.wrong_secrets_of_source", "6"), ("secrets.hash_wait", "1m")];
    let kw = backend.start_with(&settings).await;
    let mut admin = kw.admin().await;
    let (_, crm) = admin.acme().await;
    let unused = create(&mut admin).await.unwrap();
    let channel = connect(&kw.grpc()).await;
    exchange(&channel, ATTACKER, &crm).await.expect("it costs the source nothing");

    for number in 0..6 {
        let wrong = stray(SecretKind::ClientSecret);
        if number % 2 == 0 {
            let status = exchange(&channel, ATTACKER, &wrong).await.unwrap_err();
            assert_eq!(reason(&status), "INVALID_CLIENT", "{number}");
        } else {
            let request = kw
                .request(reqwest::Method::POST, "/oauth2/token")
                .basic_auth(&wrong.client_id, Some(&wrong.secret))
                .header("x-forwarded-for", ATTACKER)
                .form(&[("grant_type", "client_credentials")]);
            assert_eq!(kw.send(request).await.error(), "invalid_client", "{number}");
        }
    }
    let hashes = kw.server().service.hashes().get();
    let unknown = exchange(&channel, ATTACKER, &stray(SecretKind::ClientSecret)).await;
    let unknown = unknown.unwrap_err();
    assert_eq!(reason(&unknown), "RATE_LIMITED");
    let wait = unknown.get_details_retry_info().unwrap().retry_delay.unwrap();
    assert!(wait > Duration::ZERO && wait <= Duration::from_secs(61), "{wait:?}");
    let right = exchange(&channel, ATTACKER, &unused).await.unwrap_err();
    assert_eq!(seen(&right), seen(&unknown), "nothing tells which client exists");
    let request = kw
        .request(reqwest::Method::POST, "/oauth2/token")
        .basic_auth(&unused.client_id, Some(&unused.secret))
        .header("x-forwarded-for", ATTACKER)
        .form(&[("grant_type", "client_credentials")]);
    let answer = kw.send(request).await;
    assert_eq!(answer.status, 429);
    assert_eq!(answer.header("ratelimit-policy"), "\"wrong-secrets\";q=6;w=60");
    assert_eq!(kw.server().service.hashes().get(), hashes, "what is refused costs no hash");

    exchange(&channel, ATTACKER, &crm).await.expect("it was found right lately");
    exchange(&channel, "198.51.100.1", &unused).await.expect("another source");
    let status = exchange(&channel, "198.51.100.1", &stray(SecretKind::ClientSecret)).await;
    assert_eq!(reason(&status.unwrap_err()), "INVALID_CLIENT");
    kw.advance(62);
    let status = exchange(&channel, ATTACKER, &stray(SecretKind::ClientSecret)).await;
    assert_eq!(reason(&status.unwrap_err()), "INVALID_CLIENT", "the window has passed");
}

async fn wrong_keys_behind_a_gateway_count_for_their_own_source(backend: Backend) {
    let settings = [("secrets.wrong_secrets_of_source", "3"), ("secrets.hash_wait", "1m")];
    let kw = backend.start_with(&settings).await;
    let mut admin = kw.admin().await;
    admin.acme().await;
    let (_, key) = admin.credential(CRM, Kind::ApiKey).await;
    let mut check = async |key: &str, source: &str| {
        let request = CheckAccessRequest {
            token: key.to_owned(),
            source_address: source.to_owned(),
            requirement: Some(Requirement::Scopes(RequiredScopes::default())),
            ..Default::default()
        };
        admin.access.check_access(request).await.unwrap().into_inner().outcome()
    };
    let stray = || stray(SecretKind::ApiKey).secret;
    for _ in 0..3 {
        assert_eq!(check(&stray(), ATTACKER).await, Outcome::InvalidToken);
    }
    assert_eq!(check(&stray(), ATTACKER).await, Outcome::TooManyFailures);
    assert_eq!(check(&stray(), "198.51.100.1").await, Outcome::InvalidToken);
    for _ in 0..4 {
        assert_eq!(
            check(&stray(), "").await,
            Outcome::InvalidToken,
            "there is no one to count for"
        );
    }
    assert_eq!(check(&key.secret, "198.51.100.2").await, Outcome::Allowed);
    assert_eq!(check(&key.secret, ATTACKER).await, Outcome::Allowed, "it was right lately");
}
