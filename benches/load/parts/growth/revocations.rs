//! Live revocations of single tokens: the memory of the server, and its start.

use keyward::internals::clock::Clock;

use super::{Grown, postgres, up_to};
use crate::curve::Curve;
use crate::database::Database;
use crate::keyward::Keyward;
use crate::report::{Figure, Target, median};
use crate::settings::{Part, Settings};

const SIZES: [u32; 4] = [1_000, 10_000, 100_000, 1_000_000];
const USUAL: u32 = 100_000;
/// The bounds with a million: memory in MiB, and the start in milliseconds.
const MEMORY: f64 = 100.0;
const START: f64 = 1_000.0;
/// How often a server is started.
const TIMES: usize = 5;

/// The `jti` of a token.
const SQLITE: &str = "lower(hex(randomblob(16)))";
const POSTGRES: &str = "replace(gen_random_uuid()::text, '-', '')";

pub(super) async fn measure(settings: &Settings) -> Grown {
    let sizes = "live revocations of single tokens";
    let mut memory =
        Curve::new("revocations-memory", "Memory of the server", sizes, "MiB", Some(MEMORY));
    let mut start = Curve::new("revocations-start", "Start to ready", sizes, "ms", Some(START));
    let mut figures = Vec::new();
    let (_server, url) = postgres().await;
    for (backend, url) in [("SQLite", None), ("PostgreSQL", Some(url))] {
        let variables = url.as_deref().map(|url| ("KEYWARD_DATABASE_URL", url));
        let mut keyward = Keyward::start(variables.as_slice()).await;
        for size in up_to(&SIZES, settings, USUAL) {
            keyward.stop();
            let mut database = Database::open(keyward.folder(), url.as_deref()).await;
            fill(&mut database, size, if url.is_some() { POSTGRES } else { SQLITE }).await;
            drop(database);
            let mut starts = Vec::new();
            let (mut memories, mut processor) = (Vec::new(), Vec::new());
            for time in 0..TIMES {
                if time > 0 {
                    keyward.stop();
                }
                starts.push(keyward.start_again().await.as_secs_f64() * 1e3);
                memories.push(keyward.process().memory());
                processor.push(keyward.process().cpu().as_secs_f64());
            }
            let peak = keyward.process().peak_memory();
            start.add(backend, size, median(&starts));
            memory.add(backend, size, median(&memories));
            let name = |what: &str| format!("{size} revocations on {backend}: {what}");
            let figure = |what: &str, unit: &str, samples: Vec<f64>, bound: f64| {
                let figure = Figure::new(Part::Growth, name(what), unit, samples);
                figure.target(Target::AtMost(bound))
            };
            let processor = format!("processor {:.2} s", median(&processor));
            figures.push(figure("start to ready", "ms", starts, START).note(processor));
            figures.push(figure("memory", "MiB", memories, MEMORY).note(format!("peak {peak:.0}")));
        }
    }
    Grown { figures, curves: vec![memory, start] }
}

/// Adds revocations up to this number. They end in an hour.
async fn fill(database: &mut Database, size: u32, token: &str) {
    let now = Clock::system().now().as_microsecond();
    let filled = format!(
        "with recursive numbers (n) as \
         (select (select last_number from revocation_feed) + 1 \
          union all select n + 1 from numbers where n < {size}) \
         insert into revocations (number, kind, subject, epoch, revoked_at, expires_at) \
         select n, 'token', {token}, 0, {now} + n, {now} + 3600000000 + n from numbers"
    );
    database.execute(filled).await;
    database.execute(format!("update revocation_feed set last_number = {size}")).await;
    database.tidy().await;
}
