//! Redis fails over to its replica repeatedly, under load. The database is the authority and stays
//! available: no revoked token is accepted, and limits cause no outage.

use std::time::Duration;

use tokio::task::block_in_place;

use super::scene::{LIMIT, Scene, assert_no_gap, now};
use crate::harness::redis::Watched;
use crate::harness::{Keyward, fresh_database};

const SETTINGS: [(&str, &str); 4] = [
    ("secrets.hash_wait", "1m"),
    ("revocations.poll_interval", "200ms"),
    ("revocations.max_staleness", "2s"),
    ("redis.response_timeout", "200ms"),
];
const BOUND: Duration = Duration::from_secs(2);
const FAILOVERS: usize = 10;

#[expect(clippy::print_stdout, reason = "how long it takes is what is asked")]
fn tell(what: &str, took: Duration) {
    println!("{what}: {took:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn redis_failover_causes_no_outage_and_revives_no_token() {
    let mut group = tokio::task::spawn_blocking(Watched::start_quick).await.unwrap();
    let database = fresh_database().await;
    let replicas: [Keyward; 2] =
        Keyward::replicas_on(database.clone(), Some(&group.url()), &SETTINGS).await;
    let mut scene = Scene::new(replicas, BOUND, 40).await;
    scene.acquainted().await;
    let load = scene.load().await;
    let mut longest = Duration::ZERO;
    for round in 0..FAILOVERS {
        let burst = load.burst(6);
        let began = now();
        block_in_place(|| if round % 2 == 0 { group.crash() } else { group.switch_over() });
        tell("the sentinel has another primary after", began.elapsed());
        longest = longest.max(load.writes_again(now()).await);
        burst.join_all().await;
        block_in_place(|| group.rejoin());
        // The limit admits the same number again.
        scene.next_minute();
    }
    tell("the longest that a revocation took", longest);
    let (tally, _) = load.end().await;
    assert_eq!(tally.unknown, 0, "the database was there: {tally:?}");
    // The replicas count together again, in the new primary.
    scene.redis_is(true).await;
    scene.acquainted().await;
    scene.next_minute();
    let before = scene.fallbacks().await;
    assert_eq!(scene.admitted(LIMIT).await, LIMIT);
    assert_eq!(scene.fallbacks().await, before);
    assert_no_gap(&database).await;
    scene.assert_nothing_forgotten().await;
}
