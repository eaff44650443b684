//! A flood of wrong secrets from many addresses, for existing and unknown clients, and its effect
//! on callers with a right secret.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use keyward::internals::domain::{CredentialId, SecretKind};
use keyward::internals::secrets::Prefixes;
use keyward::proto::token::token_service_client::TokenServiceClient;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::{interval, sleep};
use tonic::Request;
use tonic::transport::Channel;

use crate::callers::{AsksForTokens, issue_request};
use crate::harness::{Credential, connect, reason};
use crate::load::{Caller, Latencies, Shape, count, pace};
use crate::report::Figure;
use crate::scene::Scene;
use crate::settings::Part;

/// Wrong secrets per second, and the duration.
const FLOOD: usize = 10_000;
const FLOODED: Duration = Duration::from_secs(10);
const BEFORE: Duration = Duration::from_secs(5);
/// The interval between batches of wrong secrets, and the number of connections.
const WAVE: Duration = Duration::from_millis(10);
const CONNECTIONS: usize = 64;
/// The maximum number of unanswered requests: what the connections can hold.
const UNANSWERED: usize = CONNECTIONS * 90;
/// Callers with a right secret, and their total calls per second.
const KNOWN: Shape = Shape { connections: 16, in_flight: 1 };
const PACE: f64 = 200.0;

pub(super) async fn measure() -> Vec<Figure> {
    let scene = Scene::new(&[("KEYWARD_TRUSTED_PROXIES", "127.0.0.1")]).await;
    let grpc = scene.keyward.grpc();
    let failed = Arc::new(AtomicUsize::new(0));
    let known = AsksForTokens::connect(&grpc, KNOWN, &scene.clients).await;
    let known = known.into_iter().map(|caller| Hopeful { caller, failed: Arc::clone(&failed) });
    let (known, before, ()) = pace(known.collect(), PACE, sleep(BEFORE)).await;
    let idle = scene.keyward.process().memory();
    assert_eq!(failed.load(Ordering::Relaxed), 0, "no caller fails before the flood");

    let flood = Flood::new(&grpc, &scene.clients).await;
    let (_, during, (sent, answers)) = pace(known, PACE, flood.run()).await;
    let failed = count(failed.load(Ordering::Relaxed));
    let succeeded = 100.0 * (1.0 - failed / count(during.len()));
    let answered: Vec<_> = answers.iter().map(|(what, n)| format!("{what} {n}")).collect();
    let percentile = |percent| {
        let of = |latencies: &Latencies| vec![latencies.percentile(percent)];
        Figure::new(Part::Attack, format!("p{percent} of known callers"), "ms", of(&during))
            .beside("before", of(&before))
    };
    let peak = scene.keyward.process().peak_memory();
    let sent = count(sent) / FLOODED.as_secs_f64();
    vec![
        Figure::new(Part::Attack, "wrong secrets", "/s", vec![sent]).note(answered.join(", ")),
        percentile(50).note(format!("{PACE} calls a second")),
        percentile(99),
        Figure::new(Part::Attack, "known callers who succeed", "%", vec![succeeded]),
        Figure::new(Part::Attack, "most memory", "MiB", vec![peak]).beside("before", vec![idle]),
    ]
}

/// A caller with a right secret that accepts refusals.
struct Hopeful {
    caller: AsksForTokens,
    failed: Arc<AtomicUsize>,
}

impl Caller for Hopeful {
    async fn call(&mut self) -> bool {
        if self.caller.ask().await.is_err() {
            self.failed.fetch_add(1, Ordering::Relaxed);
        }
        true
    }
}

/// The attackers.
struct Flood {
    connections: Vec<TokenServiceClient<Channel>>,
    victims: Vec<String>,
    prefixes: Prefixes,
    answers: Arc<Mutex<BTreeMap<String, usize>>>,
}

impl Flood {
    async fn new(grpc: &str, clients: &[Credential]) -> Self {
        let mut connections = Vec::new();
        for _ in 0..CONNECTIONS {
            connections.push(TokenServiceClient::new(connect(grpc).await));
        }
        Self {
            connections,
            victims: clients.iter().map(|client| client.client_id.clone()).collect(),
            prefixes: Prefixes::default(),
            answers: Arc::default(),
        }
    }

    /// Sends wrong secrets at a fixed rate, regardless of the answers. Returns how many, and how
    /// many were answered in which way.
    async fn run(self) -> (usize, BTreeMap<String, usize>) {
        let waves = FLOODED.as_millis() / WAVE.as_millis();
        let each_wave = FLOOD / usize::try_from(1000 / WAVE.as_millis()).unwrap();
        let room = Arc::new(Semaphore::new(UNANSWERED));
        let mut ticks = interval(WAVE);
        let mut sent = JoinSet::new();
        let mut number = 0;
        for _ in 0..waves {
            ticks.tick().await;
            for _ in 0..each_wave {
                // If too many are unanswered, no more are sent.
                let Ok(place) = Arc::clone(&room).try_acquire_owned() else { break };
                number += 1;
                let mut client = self.connections[number % CONNECTIONS].clone();
                let (request, answers) = (self.wrong(number), Arc::clone(&self.answers));
                sent.spawn(async move {
                    let answer = client.issue_token(request).await;
                    let why = reason(&answer.expect_err("a wrong secret is refused"));
                    *answers.lock().unwrap().entry(why).or_default() += 1;
                    drop(place);
                });
            }
            while let Some(answered) = sent.try_join_next() {
                answered.expect("an error has a reason");
            }
        }
        let unanswered = sent.len();
        sent.shutdown().await;
        let mut answers = self.answers.lock().unwrap().clone();
        answers.insert("no answer yet".to_owned(), unanswered);
        (number, answers)
    }

    /// A well-formed secret of an existing or unknown client, from one of many addresses.
    fn wrong(&self, number: usize) -> Request<keyward::proto::token::IssueTokenRequest> {
        let client_id = match number % 2 {
            0 => self.victims[number / 2 % self.victims.len()].clone(),
            _ => format!("{number:032x}"),
        };
        let id = CredentialId::parse(&client_id).unwrap();
        let secret = self.prefixes.generate(SecretKind::ClientSecret, &id).unwrap();
        let wrong = Credential { client_id, secret: secret.expose().to_owned() };
        let mut request = Request::new(issue_request(&wrong));
        let from = Ipv4Addr::from_bits(0x0a00_0000 | u32::try_from(number % (1 << 20)).unwrap());
        request.metadata_mut().insert("x-forwarded-for", from.to_string().parse().unwrap());
        request
    }
}
