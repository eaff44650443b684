//! How long it takes until the tokens of a revoked signing key are refused: by another replica, and by
//! a verifier that follows that replica; with PostgreSQL and Redis, and without Redis.

use std::time::Duration;

use keyward::internals::clock::Stopwatch;
use keyward::proto::admin as pb;
use keyward::proto::admin::credential::Kind;
use keyward::verifier::{Settings, Verifier, VerifierCredential};

use crate::harness::{Admin, PostgresServer, RedisServer, question};
use crate::report::{Figure, Target};
use crate::scene::{SCOPES, Scene};
use crate::settings::Part;

const ISSUER: &str = "http://keyward.test";
/// The bound that the server promises, in milliseconds.
const BOUND: f64 = 5_000.0;
/// The pause between two looks at the verifier, which answers without a request.
const LOOK_EVERY: Duration = Duration::from_micros(100);

/// The durations in milliseconds, sorted.
struct Times {
    call: Vec<f64>,
    replica: Vec<f64>,
    verifier: Vec<f64>,
}

pub(super) async fn measure() -> Vec<Figure> {
    let servers = || (PostgresServer::start(), RedisServer::start());
    let (postgres, redis) = tokio::task::spawn_blocking(servers).await.expect("both start");
    let redis = redis.url();
    // Without Redis, each revocation waits for the next poll. So fewer are made.
    let with = times(&postgres, Some(&redis), 100).await;
    let without = times(&postgres, None, 30).await;
    let figures = |with: &str, times: &Times| {
        let figure = |what: &str, times: &[f64], percent: usize| {
            let name = format!("p{percent} of a revoked key, {what}, {with}");
            Figure::new(Part::Keys, name, "ms", vec![times[times.len() * percent / 100]])
        };
        let refused = |what: &str, times: &[f64]| {
            [50, 99].map(|percent| figure(what, times, percent).target(Target::AtMost(BOUND)))
        };
        let call = vec![figure("the call, which ends with refusal by its server", &times.call, 50)];
        let replica = refused("from then to refused by another server", &times.replica);
        let verifier = refused("from then to refused by a verifier", &times.verifier);
        [call, replica.to_vec(), verifier.to_vec()].concat()
    };
    [figures("with Redis", &with), figures("without", &without)].concat()
}

async fn times(postgres: &PostgresServer, redis: Option<&str>, count: usize) -> Times {
    let database = postgres.fresh_database().await;
    let mut settings = vec![("KEYWARD_ISSUER", ISSUER), ("KEYWARD_DATABASE_URL", &*database)];
    settings.extend(redis.map(|url| ("KEYWARD_REDIS_URL", url)));
    let scene = Scene::new(&settings).await;
    let elsewhere = scene.keyward.another().await;
    let settings = verifier_settings(&scene, &elsewhere.grpc()).await;
    let mut times = Times { call: Vec::new(), replica: Vec::new(), verifier: Vec::new() };
    for _ in 0..count {
        let token = scene.clients[0].token(&scene.keyward.grpc()).await;
        // A new one: the token of a verifier that ran before was of the key that was revoked, and
        // after several such revocations in a row it would wait before it connects again.
        let verifier = Verifier::connect(settings.clone()).await.unwrap();
        verifier.verify(&token).unwrap();
        let (mut here, mut there) = (scene.keyward.admin().await, elsewhere.admin().await);
        let watch = Stopwatch::start();
        revoke(&mut here, &token).await;
        times.call.push(millis(&watch));
        let acknowledged = Stopwatch::start();
        let replica = async {
            // The caller's own token is of the revoked key.
            let question = question(&token, &SCOPES[..1]);
            while there.access.check_access(question.clone()).await.is_ok() {
                assert!(millis(&acknowledged) < 2.0 * BOUND, "it is refused at last");
            }
            millis(&acknowledged)
        };
        let offline = async {
            while verifier.verify(&token).is_ok() {
                assert!(millis(&acknowledged) < 2.0 * BOUND, "it is refused at last");
                tokio::time::sleep(LOOK_EVERY).await;
            }
            millis(&acknowledged)
        };
        let (replica, offline) = tokio::join!(replica, offline);
        times.replica.push(replica);
        times.verifier.push(offline);
    }
    for sorted in [&mut times.call, &mut times.replica, &mut times.verifier] {
        sorted.sort_by(f64::total_cmp);
    }
    times
}

fn millis(watch: &Stopwatch) -> f64 {
    watch.elapsed().as_secs_f64() * 1e3
}

async fn verifier_settings(scene: &Scene, server: &str) -> Settings {
    let mut admin = scene.admin.clone();
    let application = admin.application("system", "offline", &["keyward.verify"]).await.name;
    let (_, credential) = admin.credential(&application, Kind::ClientSecret).await;
    let access = VerifierCredential::client_secret(credential.client_id, credential.secret);
    Settings::new(server, access, ISSUER, "tenants/acme")
}

/// Revokes the key that signed this token.
async fn revoke(admin: &mut Admin, token: &str) {
    let kid = jsonwebtoken::decode_header(token).unwrap().kid.unwrap();
    let name = format!("signingKeys/{kid}");
    let request = pb::RevokeSigningKeyRequest { name, reason: String::new() };
    admin.keys.revoke_signing_key(request).await.unwrap();
}
