//! How long it takes until another replica refuses a token after its revocation was acknowledged:
//! with PostgreSQL and Redis, and without Redis.

use keyward::internals::clock::Stopwatch;
use keyward::proto::token::RevokeTokenRequest;

use crate::callers::AsksForTokens;
use crate::harness::{PostgresServer, RedisServer, question};
use crate::load::Shape;
use crate::report::{Figure, Target};
use crate::scene::{SCOPES, Scene};
use crate::settings::Part;

const ONE: Shape = Shape { connections: 1, in_flight: 1 };

pub(super) async fn measure() -> Vec<Figure> {
    let servers = || (PostgresServer::start(), RedisServer::start());
    let (postgres, redis) = tokio::task::spawn_blocking(servers).await.expect("both start");
    let redis = redis.url();
    // Without Redis, each revocation waits for the next poll, and starts right after the last one,
    // which is the worst case. So fewer are made.
    let with = times(&postgres, Some(&redis), 1_000).await;
    let without = times(&postgres, None, 100).await;
    let figure = |what: &str, percent: usize, times: &[f64]| {
        let name = format!("p{percent} from acknowledged to refused elsewhere, {what}");
        Figure::new(Part::Revocations, name, "ms", vec![times[times.len() * percent / 100]])
    };
    vec![
        figure("with Redis", 50, &with),
        figure("with Redis", 99, &with).target(Target::AtMost(50.0)),
        figure("without", 50, &without),
        figure("without", 99, &without).target(Target::AtMost(1_500.0)),
    ]
}

/// The durations of revocations in milliseconds, sorted.
async fn times(postgres: &PostgresServer, redis: Option<&str>, count: usize) -> Vec<f64> {
    let database = postgres.fresh_database().await;
    let issuer = ("KEYWARD_ISSUER", "http://keyward.test");
    let mut settings = vec![issuer, ("KEYWARD_DATABASE_URL", &*database)];
    settings.extend(redis.map(|url| ("KEYWARD_REDIS_URL", url)));
    let scene = Scene::new(&settings).await;
    let mut asks = AsksForTokens::connect(&scene.keyward.grpc(), ONE, &scene.clients).await;
    let elsewhere = scene.keyward.another().await;
    let (mut here, mut there) = (scene.admin.clone(), elsewhere.admin().await);
    let mut times = Vec::with_capacity(count);
    for _ in 0..count {
        let token = asks[0].ask().await.unwrap().access_token;
        let question = question(&token, &SCOPES[..1]);
        let answer = there.access.check_access(question.clone()).await.unwrap();
        assert!(answer.into_inner().allowed, "it is good until it is revoked");
        here.tokens.revoke_token(RevokeTokenRequest { token }).await.unwrap();
        let acknowledged = Stopwatch::start();
        while there.access.check_access(question.clone()).await.unwrap().into_inner().allowed {
            assert!(acknowledged.elapsed().as_secs() < 10, "it is refused at last");
        }
        times.push(acknowledged.elapsed().as_secs_f64() * 1e3);
    }
    times.sort_by(f64::total_cmp);
    times
}
