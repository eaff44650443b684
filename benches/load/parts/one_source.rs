//! A flood of wrong secrets of random clients from one source, and its effect on first uses,
//! rotations and creations by others.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use keyward::internals::clock::Stopwatch;
use keyward::internals::domain::{CredentialId, SecretKind};
use keyward::internals::secrets::{Prefixes, random};
use keyward::proto::admin as pb;
use keyward::proto::admin::credential::Kind;
use keyward::proto::token::token_service_client::TokenServiceClient;
use tokio::task::JoinSet;
use tokio::time::sleep;
use tonic::transport::Channel;
use tonic::{Request, Response, Status};

use crate::callers::issue_request;
use crate::harness::{Admin, Credential, connect};
use crate::load::{Latencies, count};
use crate::report::Figure;
use crate::scene::Scene;
use crate::settings::Part;

/// Connections of the source, each with a guess in flight.
const CONNECTIONS: usize = 700;
const SOURCE: &str = "192.0.2.66";
/// How long the flood runs before others are measured.
const BEFORE: Duration = Duration::from_secs(3);
/// The number of calls by others, one after the other.
const EACH: usize = 20;

/// The same flood twice: refused by the budget of its source, which is the default, and against the
/// queue alone.
pub(super) async fn measure() -> Vec<Figure> {
    let mut figures = Vec::new();
    for (budget, what) in [("200", "budget"), ("0", "no budget")] {
        figures.extend(flooded(budget, what).await);
    }
    figures
}

async fn flooded(budget: &str, what: &str) -> Vec<Figure> {
    let scene = Scene::new(&[
        ("KEYWARD_TRUSTED_PROXIES", "127.0.0.1"),
        ("KEYWARD_SECRETS_WRONG_SECRETS_OF_SOURCE", budget),
    ])
    .await;
    let mut admin = scene.admin.clone();
    let parent = admin.application("acme", "others", &["users.read"]).await.name;
    let mut unused = Vec::new();
    let mut rotated = Vec::new();
    for _ in 0..EACH {
        unused.push(admin.credential(&parent, Kind::ClientSecret).await.1);
        rotated.push(admin.credential(&parent, Kind::ClientSecret).await.0.name);
    }
    let grpc = scene.keyward.grpc();
    let channel = connect(&grpc).await;
    let flood = Flood::start(&grpc).await;
    sleep(BEFORE).await;

    let mut first_uses = Tried::default();
    let mut rotations = Tried::default();
    let mut creations = Tried::default();
    for (credential, name) in unused.iter().zip(rotated) {
        first_uses.note(exchange(&channel, "198.51.100.1", credential)).await;
        rotations.note(rotate(&mut admin, name)).await;
        creations.note(create(&mut admin, &parent)).await;
    }
    let answered = flood.end().await;
    let figure = |name: &str, tried: &Tried| {
        let name = format!("p99 of {name}, {what}");
        let succeeded = format!("{} of {EACH} succeed", tried.succeeded);
        Figure::new(Part::Attack, name, "ms", vec![tried.p99()]).note(succeeded)
    };
    let answered = vec![count(answered)];
    vec![
        Figure::new(Part::Attack, format!("wrong secrets from one source, {what}"), "", answered),
        figure("first uses by others", &first_uses),
        figure("rotations by others", &rotations),
        figure("creations by others", &creations),
    ]
}

/// The results of calls.
#[derive(Default)]
struct Tried {
    succeeded: usize,
    micros: Vec<u32>,
}

impl Tried {
    async fn note<T>(&mut self, call: impl Future<Output = Result<T, Status>>) {
        let watch = Stopwatch::start();
        self.succeeded += usize::from(call.await.is_ok());
        self.micros.push(u32::try_from(watch.elapsed().as_micros()).unwrap_or(u32::MAX));
    }

    fn p99(&self) -> f64 {
        Latencies::new(self.micros.clone()).percentile(99)
    }
}

async fn exchange(channel: &Channel, from: &str, credential: &Credential) -> Result<(), Status> {
    let mut request = Request::new(issue_request(credential));
    request.metadata_mut().insert("x-forwarded-for", from.parse().unwrap());
    TokenServiceClient::new(channel.clone()).issue_token(request).await.map(drop)
}

async fn rotate(admin: &mut Admin, name: String) -> Result<(), Status> {
    let request = pb::RotateCredentialRequest { name, ..Default::default() };
    admin.credentials.rotate_credential(request).await.map(drop)
}

async fn create(admin: &mut Admin, parent: &str) -> Result<(), Status> {
    let request = pb::CreateCredentialRequest {
        parent: parent.to_owned(),
        credential: Some(pb::Credential { kind: Kind::ClientSecret.into(), ..Default::default() }),
        ..Default::default()
    };
    admin.credentials.create_credential(request).await.map(Response::into_inner).map(drop)
}

/// The attackers, each on its own connection.
struct Flood {
    guesses: JoinSet<()>,
    over: Arc<AtomicBool>,
    answered: Arc<AtomicUsize>,
}

impl Flood {
    async fn start(grpc: &str) -> Self {
        let (over, answered) = (Arc::<AtomicBool>::default(), Arc::<AtomicUsize>::default());
        let mut guesses = JoinSet::new();
        for _ in 0..CONNECTIONS {
            let channel = connect(grpc).await;
            let (over, answered) = (Arc::clone(&over), Arc::clone(&answered));
            guesses.spawn(async move {
                while !over.load(Ordering::Relaxed) {
                    exchange(&channel, SOURCE, &stray()).await.expect_err("it is wrong");
                    answered.fetch_add(1, Ordering::Relaxed);
                    // A refused guess is not repeated immediately, because the attacker uses the
                    // server's processor here.
                    sleep(Duration::from_millis(100)).await;
                }
            });
        }
        Self { guesses, over, answered }
    }

    /// Ends it. Returns how many wrong secrets were answered.
    async fn end(mut self) -> usize {
        self.over.store(true, Ordering::Relaxed);
        self.guesses.shutdown().await;
        self.answered.load(Ordering::Relaxed)
    }
}

/// A well-formed secret of a client that does not exist.
fn stray() -> Credential {
    let id = random::id(jiff::Timestamp::UNIX_EPOCH).unwrap();
    let client = CredentialId::parse(&id).unwrap();
    let secret = Prefixes::default().generate(SecretKind::ClientSecret, &client).unwrap();
    Credential { client_id: id, secret: secret.expose().to_owned() }
}
