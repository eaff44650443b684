//! The first use of a secret, which is a hash: how many of them a second, beside argon2 by
//! itself, and what they do to callers who are known already.

use std::time::Duration;

use argon2::{Algorithm, Argon2, Params, Version};
use futures_util::{StreamExt, stream};
use keyward::clock::Stopwatch;
use keyward::proto::admin::credential::Kind as CredentialKind;
use tokio::task::JoinSet;

use crate::callers::AsksForTokens;
use crate::harness::Credential;
use crate::load::{Shape, count, pace};
use crate::report::{Figure, Target};
use crate::scene::{HASHES, Scene, application, first_uses};
use crate::settings::{Part, Settings};

/// First uses in a round, and how many of them are under way at once.
const FIRST_USES: usize = 80;
const AT_ONCE: usize = 8;
/// Callers who are known already, and how often they call, all together, in a second.
const KNOWN: Shape = Shape { connections: 16, in_flight: 1 };
const PACE: f64 = 200.0;

pub(super) async fn measure(settings: &Settings) -> Vec<Figure> {
    let mut scene = Scene::new(&[]).await;
    let grpc = scene.keyward.grpc();
    let newcomers = application(&mut scene.admin, "newcomers", None).await;
    let mut known = AsksForTokens::connect(&grpc, KNOWN, &scene.clients).await;
    let (mut rates, mut raw_rates) = (Vec::new(), Vec::new());
    let (mut unloaded, mut loaded) = (Vec::new(), Vec::new());
    for _ in settings.rounds() {
        let unused: Vec<Credential> = stream::iter(0..FIRST_USES)
            .map(|_| {
                let (mut admin, newcomers) = (scene.admin.clone(), &newcomers);
                async move { admin.credential(newcomers, CredentialKind::ClientSecret).await.1 }
            })
            .buffer_unordered(HASHES)
            .collect()
            .await;
        raw_rates.push(raw_rate(settings.measured()).await);

        let (callers, alone, ()) = pace(known, PACE, tokio::time::sleep(settings.measured())).await;
        unloaded.push(alone.percentile(99));
        let (callers, meanwhile, took) =
            pace(callers, PACE, first_uses(&grpc, &unused, AT_ONCE)).await;
        loaded.push(meanwhile.percentile(99));
        rates.push(count(FIRST_USES) / took.as_secs_f64());
        known = callers;
    }
    vec![
        Figure::new(Part::Secrets, "first uses of a secret", "/s", rates)
            .beside("argon2", raw_rates)
            .target(Target::AtLeast(0.9)),
        Figure::new(Part::Secrets, "p99 of known callers meanwhile", "ms", loaded)
            .beside("unloaded", unloaded)
            .target(Target::AtMost(3.0))
            .note(format!("{PACE} calls a second")),
    ]
}

/// Hashes a second, on all cores, with the cost that secrets have.
async fn raw_rate(span: Duration) -> f64 {
    let watch = Stopwatch::start();
    let mut threads = JoinSet::new();
    for _ in 0..std::thread::available_parallelism().map_or(1, usize::from) {
        threads.spawn_blocking(move || {
            let params = Params::new(19_456, 2, 1, None).unwrap();
            let argon2 = Argon2::new(Algorithm::Argon2id, Version::V0x13, params);
            let mut hashes = 0;
            while watch.elapsed() < span {
                let mut hash = [0; 32];
                argon2.hash_password_into(b"a secret", &[7; 16], &mut hash).unwrap();
                hashes += 1;
            }
            hashes
        });
    }
    let hashes: usize = threads.join_all().await.into_iter().sum();
    count(hashes) / watch.elapsed().as_secs_f64()
}
