//! Tokens over gRPC from a replica, with PostgreSQL and Redis on this machine: once without limits,
//! and once with a limit that is never reached, which needs Redis for every token. Compared with
//! `sign`; the loss of `sign` with one Redis script per token is the minimum cost of limits.

use keyward::proto::admin::Limits;

use crate::baseline::Kind;
use crate::callers::AsksForTokens;
use crate::harness::{PostgresServer, RedisServer};
use crate::load::{Measured, Shape};
use crate::report::{Figure, Target};
use crate::rounds::{Side, each, in_turns};
use crate::scene::{HASHES, Scene, clients, first_uses};
use crate::settings::{Part, Settings};

const FAR_AWAY: i64 = 1_000_000_000;

pub(super) async fn measure(settings: &Settings) -> Vec<Figure> {
    let servers = || (PostgresServer::start(), RedisServer::start());
    let (postgres, redis) = tokio::task::spawn_blocking(servers).await.expect("both start");
    let (database, redis) = (postgres.fresh_database().await, redis.url());
    let variables = [("KEYWARD_DATABASE_URL", &*database), ("KEYWARD_REDIS_URL", &redis)];
    let scene = Scene::new(&variables).await;
    let limits = Limits { tokens: FAR_AWAY, ..Default::default() };
    let limited = clients(&scene.admin, "limited", Some(limits)).await;
    first_uses(&scene.keyward.grpc(), &limited, HASHES).await;

    let sign = scene.baseline(Kind::Sign);
    let counted = scene.counting_baseline(&redis);
    let shape = Shape::MANY;
    let (keyward, grpc) = (scene.keyward.process(), scene.keyward.grpc());
    let sides = [
        Side::new(keyward, AsksForTokens::connect(&grpc, shape, &scene.clients).await),
        Side::new(keyward, AsksForTokens::connect(&grpc, shape, &limited).await),
        Side::new(&sign.process, AsksForTokens::connect(&sign.grpc(), shape, &limited).await),
        Side::new(&counted.process, AsksForTokens::connect(&counted.grpc(), shape, &limited).await),
    ];
    let [free, limited, sign, counted] = in_turns(settings, settings.rounds(), sides).await;
    let figures = |what: &str, side: &[Measured]| {
        let figure = |name: &str, unit, number: fn(&Measured) -> f64| {
            Figure::new(Part::Replicas, format!("{name}, {what}"), unit, each(side, number))
                .beside("sign", each(&sign, number))
        };
        [
            figure("tokens", "/s", Measured::rate).note(side[0].in_words()),
            figure("processor time of a token", "µs", Measured::cpu_each),
        ]
    };
    let aimed = |[rate, cpu]: [Figure; 2]| [rate.target(Target::AtLeast(0.65)), cpu];
    [
        aimed(figures("no limits", &free)),
        aimed(figures("limited", &limited)),
        // The minimum cost of limits.
        figures("sign that has each counted in Redis", &counted),
    ]
    .concat()
}
