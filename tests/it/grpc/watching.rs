//! Many concurrent writers of revocations, and one client whose stream breaks repeatedly: it misses
//! nothing, and receives everything in order.

use keyward::internals::domain::{NewRevocation, Subject};
use keyward::internals::store::{Database, PoolOptions, Store};
use keyward::proto::access::{WatchRevocationsRequest, WatchRevocationsResponse};
use tokio::task::JoinSet;
use tokio::time::timeout;
use tonic::Streaming;

use crate::harness::{Admin, Backend, Dice, Keyward, PATIENCE, on_both_databases, pause};

on_both_databases!(watcher_misses_no_revocation_of_sixty_four_writers);

const WRITERS: u64 = 64;
const EACH: u64 = 12;
/// The maximum time in microseconds that a writer waits before it writes, and again before it
/// commits or rolls back.
const PAUSE: u64 = 40_000;
const HELD: u64 = 4_000;
/// The maximum time in microseconds that a stream is kept.
const KEPT: u64 = 60_000;

/// The database, with enough connections for all writers.
async fn store(kw: &Keyward, backend: Backend) -> Store {
    let database = match backend {
        Backend::Sqlite => Database::Sqlite(kw.folder().join("keyward.db")),
        Backend::Postgres => Database::parse(&kw.database_as("keyward")).unwrap(),
    };
    let pool = PoolOptions { max_connections: 64, acquire_timeout: PATIENCE };
    Store::open(&database, pool).await.unwrap()
}

/// Revokes tokens in transactions of random duration that are committed or rolled back. Returns the
/// number of commits.
async fn write(store: Store, now: jiff::Timestamp, writer: u64, mut dice: Dice) -> i64 {
    let mut committed = 0;
    for n in 0..EACH {
        pause(dice.micros(PAUSE)).await;
        let mut tx = store.begin().await.unwrap();
        let token = |part| Subject::Token(format!("{writer}-{n}-{part}"));
        let many = i64::try_from(1 + dice.roll(2)).unwrap();
        let new: Vec<_> =
            (0..many).map(|part| NewRevocation::older_than(token(part), 0, now)).collect();
        tx.insert_revocations(&new, now).await.unwrap();
        pause(dice.micros(HELD)).await;
        if dice.roll(5) > 0 {
            tx.commit().await.unwrap();
            committed += many;
        }
    }
    committed
}

/// A client of the stream.
struct Watcher {
    cursor: String,
    /// The numbers in the order in which they arrived.
    received: Vec<i64>,
    streams: u64,
}

impl Watcher {
    async fn open(&mut self, at: &mut Admin) -> Streaming<WatchRevocationsResponse> {
        let request = WatchRevocationsRequest { cursor: self.cursor.clone() };
        self.streams += 1;
        at.revocations.watch_revocations(request).await.unwrap().into_inner()
    }

    /// Processes the next message.
    async fn next(&mut self, stream: &mut Streaming<WatchRevocationsResponse>) {
        let message = stream.message().await.unwrap().expect("it ends with a status");
        assert!(!message.snapshot || self.streams == 1, "a cursor that is good needs none");
        for revocation in &message.revocations {
            self.received.push(revocation.number);
        }
        let (_, place) = message.cursor.rsplit_once('-').unwrap();
        let last = self.received.last().copied().unwrap_or_default();
        assert_eq!(place.parse(), Ok(last), "the cursor is where the watcher is");
        self.cursor = message.cursor;
    }

    /// Follows until all entries have arrived. Drops every stream after a while, at a message or
    /// between two.
    async fn follow(
        mut self,
        servers: &mut [Admin],
        dice: &mut Dice,
        all: &tokio::sync::OnceCell<i64>,
    ) -> Self {
        while all.get().is_none_or(|all| self.received.last().is_none_or(|last| last < all)) {
            let server = usize::try_from(dice.roll(servers.len() as u64)).unwrap();
            let mut stream = self.open(&mut servers[server]).await;
            let messages = 1 + dice.roll(8);
            let kept = async {
                for _ in 0..messages {
                    self.next(&mut stream).await;
                }
            };
            timeout(dice.micros(KEPT), kept).await.ok();
        }
        self
    }
}

async fn watcher_misses_no_revocation_of_sixty_four_writers(backend: Backend) {
    let (mut dice, seed) = Dice::any();
    // The database is polled often, while half of the entries are written.
    let kw = backend.start_with(&[("revocations.poll_interval", "3ms")]).await;
    let mut servers = vec![kw.admin().await];
    let mut others = Vec::new();
    if backend == Backend::Postgres {
        others.push(kw.join().await);
        servers.push(others[0].admin().await);
    }
    let store = store(&kw, backend).await;
    let mut watcher = Watcher { cursor: String::new(), received: Vec::new(), streams: 0 };
    let mut first = watcher.open(&mut servers[0]).await;
    watcher.next(&mut first).await;
    drop(first);

    let all = tokio::sync::OnceCell::new();
    let mut writers = JoinSet::new();
    for writer in 0..WRITERS {
        writers.spawn(write(store.clone(), kw.now(), writer, dice.another()));
    }
    let written = async {
        let committed: i64 = writers.join_all().await.into_iter().sum();
        all.set(committed).unwrap();
        committed
    };
    let mut chance = dice.another();
    let followed = watcher.follow(&mut servers, &mut chance, &all);
    let both = async { tokio::join!(written, followed) };
    let (committed, watcher) = timeout(PATIENCE, both).await.unwrap_or_else(|_| panic!("{seed}"));
    let expected: Vec<_> = (1..=committed).collect();
    assert_eq!(watcher.received, expected, "each once, in order, none missing, {seed}");
    assert!(watcher.streams > 20, "{}", watcher.streams);
    let streams = watcher.streams;
    tell(&format!("{backend:?}: {committed} revocations over {streams} streams, {seed}"));
}

#[expect(clippy::print_stdout, reason = "how much there was to miss is worth knowing")]
fn tell(what: &str) {
    println!("{what}");
}
