//! Watchers of revocations: from acknowledged to received by the last of them.

use keyward::internals::clock::Stopwatch;
use keyward::proto::access::WatchRevocationsRequest;
use keyward::proto::access::revocation_service_client::RevocationServiceClient;
use keyward::proto::token::RevokeTokenRequest;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::Grown;
use crate::callers::AsksForTokens;
use crate::curve::Curve;
use crate::harness::bearer;
use crate::load::Shape;
use crate::report::{Figure, Target};
use crate::scene::Scene;
use crate::settings::{Part, Settings};

const SIZES: [u32; 4] = [1, 10, 100, 1_000];
/// The longest time to the last watcher, in milliseconds, of 99 in 100 revocations.
const BOUND: f64 = 250.0;
/// The number of revocations, and of watchers on each connection.
const TIMES: usize = 200;
const ON_CONNECTION: u32 = 10;
const ONE: Shape = Shape { connections: 1, in_flight: 1 };

/// What a watcher received: `None` for the first message, which ends the snapshot.
type Received = Option<i64>;

pub(super) async fn measure(_: &Settings) -> Grown {
    let title = "A revocation, from acknowledged to received by the last watcher";
    let mut curve = Curve::new("watchers", title, "watchers", "ms", Some(BOUND));
    let mut figures = Vec::new();
    let scene = Scene::new(&[]).await;
    for size in SIZES {
        let times = times(&scene, size).await;
        for percent in [50, 99] {
            let time = times[times.len() * percent / 100];
            curve.add(&format!("p{percent}"), size, time);
            let name = format!("{size} watchers: p{percent} from acknowledged to the last");
            let figure = Figure::new(Part::Growth, name, "ms", vec![time]);
            figures.push(figure.target(Target::AtMost(BOUND)));
        }
    }
    Grown { figures, curves: vec![curve] }
}

/// The durations of revocations in milliseconds, sorted.
async fn times(scene: &Scene, size: u32) -> Vec<f64> {
    let (sender, mut received) = mpsc::unbounded_channel::<Received>();
    let _watchers = watchers(scene, size, sender).await;
    for _ in 0..size {
        let first = received.recv().await.expect("all watch");
        assert_eq!(first, None, "nothing is revoked yet");
    }
    let mut admin = scene.admin.clone();
    let mut asks = AsksForTokens::connect(&scene.keyward.grpc(), ONE, &scene.clients).await;
    let mut times = Vec::with_capacity(TIMES);
    for _ in 0..TIMES {
        let token = asks[0].ask().await.unwrap().access_token;
        admin.tokens.revoke_token(RevokeTokenRequest { token }).await.unwrap();
        let acknowledged = Stopwatch::start();
        for _ in 0..size {
            let news = received.recv().await.expect("all watch");
            assert!(news.is_some(), "it is a revocation");
        }
        times.push(acknowledged.elapsed().as_secs_f64() * 1e3);
    }
    times.sort_by(f64::total_cmp);
    times
}

/// Starts watchers. They stop when the set is dropped.
async fn watchers(
    scene: &Scene,
    size: u32,
    received: mpsc::UnboundedSender<Received>,
) -> JoinSet<()> {
    let (grpc, token) = (scene.keyward.grpc(), scene.verifier().await);
    let mut watchers = JoinSet::new();
    for first in (0..size).step_by(ON_CONNECTION as usize) {
        let client = RevocationServiceClient::new(bearer(&grpc, &token).await);
        for _ in first..size.min(first + ON_CONNECTION) {
            let (mut client, received) = (client.clone(), received.clone());
            watchers.spawn(async move {
                let request = WatchRevocationsRequest { cursor: String::new() };
                let mut news = client.watch_revocations(request).await.unwrap().into_inner();
                let mut is_first = true;
                while let Some(message) = news.message().await.unwrap() {
                    if message.snapshot {
                        continue;
                    }
                    if std::mem::take(&mut is_first) {
                        received.send(None).unwrap();
                    }
                    for revocation in message.revocations {
                        received.send(Some(revocation.number)).unwrap();
                    }
                }
            });
        }
    }
    watchers
}
