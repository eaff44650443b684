//! The first use of a secret, which needs a hash: how many per second, compared with argon2 alone,
//! and the effect on known callers. The effect of hashes on callers of a server without hashes
//! shows the machine's own share.

use std::thread;
use std::time::Duration;

use argon2::{Algorithm, Argon2, Params, Version};
use futures_util::{StreamExt, stream};
use keyward::internals::clock::Stopwatch;
use keyward::internals::secrets::workers::use_idle_priority;
use keyward::proto::admin::credential::Kind as CredentialKind;
use tokio::task::spawn_blocking;

use crate::baseline::Kind;
use crate::callers::AsksForTokens;
use crate::harness::Credential;
use crate::load::{Shape, count, pace};
use crate::report::{Figure, Target};
use crate::scene::{HASHES, Scene, application, first_uses};
use crate::settings::{Part, Settings};

/// First uses in a round, and how many of them are in flight.
const FIRST_USES: usize = 240;
const AT_ONCE: usize = 8;
/// Known callers, and their total calls per second.
const KNOWN: Shape = Shape { connections: 16, in_flight: 1 };
const PACE: f64 = 200.0;

pub(super) async fn measure(settings: &Settings) -> Vec<Figure> {
    let mut scene = Scene::new(&[]).await;
    let grpc = scene.keyward.grpc();
    let newcomers = application(&mut scene.admin, "newcomers", None).await;
    let mut known = AsksForTokens::connect(&grpc, KNOWN, &scene.clients).await;
    let (mut rates, mut raw_rates) = (Vec::new(), Vec::new());
    let (mut unloaded, mut loaded) = (Vec::new(), Vec::new());
    let sign = scene.baseline(Kind::Sign);
    let mut signed = AsksForTokens::connect(&sign.grpc(), KNOWN, &scene.clients).await;
    let (mut sign_unloaded, mut sign_loaded) = (Vec::new(), Vec::new());
    for _ in settings.rounds() {
        let unused: Vec<Credential> = stream::iter(0..FIRST_USES)
            .map(|_| {
                let (mut admin, newcomers) = (scene.admin.clone(), &newcomers);
                async move { admin.credential(newcomers, CredentialKind::ClientSecret).await.1 }
            })
            .buffer_unordered(HASHES)
            .collect()
            .await;
        raw_rates.push(raw_rate(settings.measured(), || ()).await);

        let (callers, alone, ()) = pace(known, PACE, tokio::time::sleep(settings.measured())).await;
        unloaded.push(alone.percentile(99));
        let (callers, meanwhile, took) =
            pace(callers, PACE, first_uses(&grpc, &unused, AT_ONCE)).await;
        loaded.push(meanwhile.percentile(99));
        rates.push(count(FIRST_USES) / took.as_secs_f64());
        known = callers;

        let (callers, alone, ()) =
            pace(signed, PACE, tokio::time::sleep(settings.measured())).await;
        sign_unloaded.push(alone.percentile(99));
        let hashes = raw_rate(settings.measured(), use_idle_priority);
        let (callers, meanwhile, _) = pace(callers, PACE, hashes).await;
        sign_loaded.push(meanwhile.percentile(99));
        signed = callers;
    }
    vec![
        Figure::new(Part::Secrets, "first uses of a secret", "/s", rates)
            .beside("argon2", raw_rates)
            .target(Target::AtLeast(0.9)),
        Figure::new(Part::Secrets, "p99 of known callers meanwhile", "ms", loaded)
            .beside("unloaded", unloaded)
            .target(Target::AtMost(3.0))
            .note(format!("{PACE} calls a second")),
        Figure::new(
            Part::Secrets,
            "p99 of callers of `sign` beside such hashes",
            "ms",
            sign_loaded,
        )
        .beside("unloaded", sign_unloaded),
    ]
}

/// Hashes per second on all cores, with the cost parameters of secrets.
async fn raw_rate(span: Duration, prepare: fn()) -> f64 {
    let watch = Stopwatch::start();
    let hash = move || {
        prepare();
        let params = Params::new(19_456, 2, 1, None).unwrap();
        let argon2 = Argon2::new(Algorithm::Argon2id, Version::V0x13, params);
        let mut hashes = 0;
        while watch.elapsed() < span {
            let mut hash = [0; 32];
            argon2.hash_password_into(b"a secret", &[7; 16], &mut hash).unwrap();
            hashes += 1;
        }
        hashes
    };
    let cores = thread::available_parallelism().map_or(1, usize::from);
    // Separate threads, because they keep their low priority.
    let threads = move || {
        let threads: Vec<_> = (0..cores).map(|_| thread::spawn(hash)).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).sum()
    };
    let hashes: usize = spawn_blocking(threads).await.unwrap();
    count(hashes) / watch.elapsed().as_secs_f64()
}
