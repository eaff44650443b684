//! Replicas under constant load during faults. In every case: a token whose revocation was
//! acknowledged is neither allowed nor active after the bound; valid tokens are never called
//! invalid; and callers get the documented errors in time.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use keyward::internals::keys::Claims;
use keyward::proto::access::check_access_response::Outcome;
use keyward::proto::admin as pb;
use keyward::proto::admin::credential::Kind;
use keyward::proto::token::{IntrospectTokenRequest, RevokeTokenRequest, RevokeTokensRequest};
use sqlx::{Connection, PgConnection};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tonic::{Code, Status};
use tonic_types::StatusExt;

use crate::harness::{Admin, Credential, Keyward, in_time, mask, pause, question, reason, until};

/// How many steps are twice the bound.
pub(super) const STEPS: u32 = 40;
/// How many requests the application `limited` may make in a minute.
pub(super) const LIMIT: usize = 42;

#[expect(clippy::disallowed_methods, reason = "how long it takes is what is asked")]
pub(super) fn now() -> Instant {
    Instant::now()
}

/// The state of a token for a service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Word {
    Allowed,
    Refused(Outcome),
    /// It is temporarily unknown.
    Unknown,
}

/// A token whose revocation was acknowledged, and when.
pub(super) type Revoked = (String, Instant);

/// Replicas and their users.
pub(super) struct Scene {
    pub(super) replicas: Vec<Keyward>,
    pub(super) admins: Vec<Admin>,
    pub(super) bound: Duration,
    pub(super) crm: Credential,
    pub(super) key: String,
    pub(super) limited: String,
    /// A token that stays valid.
    pub(super) live: String,
    /// Tokens to revoke.
    pub(super) stock: Vec<String>,
    pub(super) revoked: Arc<Mutex<Vec<Revoked>>>,
}

impl Scene {
    /// Replicas with a tenant and `stock` tokens to revoke.
    pub(super) async fn new<const N: usize>(
        replicas: [Keyward; N],
        bound: Duration,
        stock: usize,
    ) -> Self {
        let mut admins = join_all(replicas.iter().map(Keyward::admin)).await;
        let admin = &mut admins[0];
        let (_, crm) = admin.acme().await;
        let (_, key) = admin.credential("tenants/acme/applications/crm", Kind::ApiKey).await;
        let limited = admin.application("acme", "limited", &["a"]).await;
        let limits = pb::Limits { requests: 42, ..Default::default() };
        let limits = Some(limits);
        let request = pb::UpdateApplicationRequest {
            application: Some(pb::Application { limits, ..limited.clone() }),
            update_mask: mask(&["limits"]),
        };
        admin.applications.update_application(request).await.unwrap();
        let (_, limited) = admin.credential(&limited.name, Kind::ClientSecret).await;
        let grpc = replicas[0].grpc();
        let tokens = (0..=stock).map(|_| crm.token(&grpc));
        let mut stock = join_all(tokens).await;
        Self {
            limited: limited.token(&grpc).await,
            live: stock.pop().unwrap(),
            key: key.secret,
            replicas: replicas.into(),
            admins,
            bound,
            crm,
            stock,
            revoked: Arc::default(),
        }
    }

    /// Adds a replica.
    pub(super) async fn add(&mut self, replica: Keyward) {
        self.admins.push(replica.admin().await);
        self.replicas.push(replica);
    }

    /// Starts traffic to every replica.
    pub(super) fn traffic(&self) -> Traffic {
        let stop = CancellationToken::new();
        let asking = self.admins.iter().map(|admin| {
            let asking = Asking {
                admin: admin.clone(),
                live: self.live.clone(),
                revoked: Arc::clone(&self.revoked),
                bound: self.bound,
                seen: Seen::default(),
            };
            tokio::spawn(asking.ask(stop.clone()))
        });
        Traffic { tasks: asking.collect(), stop }
    }

    /// Revokes a token at a replica, if possible.
    pub(super) async fn try_revoke(&mut self, at: usize) -> Result<String, Status> {
        let token = self.stock.pop().expect("a token is left to be revoked");
        let request = RevokeTokenRequest { token: token.clone() };
        let outcome = in_time("an answer", self.admins[at].tokens.revoke_token(request)).await;
        outcome.inspect_err(documented)?;
        self.revoked.lock().unwrap().push((token.clone(), now()));
        Ok(token)
    }

    /// Revokes a token at a replica and waits until all refuse it. Returns how long that took.
    /// Fails if it does not work, or if a replica that is asked after the bound allows the token.
    pub(super) async fn revoke(&mut self, at: usize) -> Duration {
        let token = self.try_revoke(at).await.unwrap();
        let acknowledged = now();
        let who_acknowledged = ask(&mut self.admins[at], &token).await;
        assert_eq!(who_acknowledged, Word::Refused(Outcome::Revoked), "where it was revoked");
        let bound = self.bound;
        let refused = self.admins.iter_mut().map(async |admin| {
            until("a revoked token is refused", async || {
                let late = acknowledged.elapsed() > bound;
                let word = ask(admin, &token).await;
                assert!(word != Word::Allowed || !late, "allowed after the bound");
                word != Word::Allowed
            })
            .await;
        });
        join_all(refused).await;
        acknowledged.elapsed()
    }

    /// Every revoked token is refused by every replica with the documented reason.
    pub(super) async fn assert_nothing_forgotten(&mut self) {
        let revoked: Vec<_> = self.revoked.lock().unwrap().clone();
        assert!(!revoked.is_empty());
        let each = self.admins.iter_mut().map(async |admin| {
            for (token, _) in &revoked {
                let word = ask(admin, token).await;
                assert_eq!(word, Word::Refused(Outcome::Revoked));
                assert!(!admin.is_active(token).await);
            }
        });
        join_all(each).await;
    }

    /// The same, if replicas cannot look anything up.
    pub(super) async fn assert_refused(&mut self) {
        let revoked: Vec<_> = self.revoked.lock().unwrap().clone();
        for admin in &mut self.admins {
            for (token, _) in &revoked {
                assert_eq!(ask(admin, token).await, Word::Refused(Outcome::Revoked));
            }
        }
    }

    /// No revoked token is valid, although replicas may not know all.
    pub(super) async fn assert_refused_or_unknown(&mut self) {
        let revoked: Vec<_> = self.revoked.lock().unwrap().clone();
        for admin in &mut self.admins {
            for (token, _) in &revoked {
                assert_ne!(ask(admin, token).await, Word::Allowed);
            }
        }
    }

    /// Revokes all tokens of the tenant.
    pub(super) async fn revoke_tenant(&mut self) {
        let request = RevokeTokensRequest { name: "tenants/acme".to_owned(), ..Default::default() };
        self.admins[0].tokens.revoke_tokens(request).await.unwrap();
    }

    /// Waits until every replica is ready, allows valid tokens and keys, and issues tokens. Returns
    /// how long that took.
    pub(super) async fn recovered(&mut self) -> Duration {
        let began = now();
        for replica in &self.replicas {
            until("it is ready without a hand", async || replica.ops("/readyz").await == 200).await;
        }
        self.reads_go_on().await;
        began.elapsed()
    }

    /// Waits until every replica allows valid tokens and keys, and issues tokens, which needs no
    /// writes.
    pub(super) async fn reads_go_on(&mut self) {
        for (replica, admin) in self.replicas.iter().zip(&mut self.admins) {
            until("it recovers without a hand", async || {
                ask(admin, &self.live).await == Word::Allowed
                    && ask(admin, &self.key).await == Word::Allowed
                    && exchange(replica, &self.crm).await.is_some()
            })
            .await;
        }
    }

    /// How many requests the limit of 42 a minute admits. Every refused request must be refused
    /// because of the limit.
    pub(super) async fn admitted(&mut self, each: usize) -> usize {
        let token = &self.limited;
        let asked = self.admins.iter_mut().map(async |admin| {
            let mut admitted = 0;
            for _ in 0..each {
                match ask(admin, token).await {
                    Word::Allowed => admitted += 1,
                    word => assert_eq!(word, Word::Refused(Outcome::RateLimited)),
                }
            }
            admitted
        });
        join_all(asked).await.into_iter().sum()
    }

    /// Advances a minute, so that the limit admits again. Nothing expires.
    pub(super) fn next_minute(&self) {
        self.replicas[0].advance(61);
    }

    /// Lets a part of twice the bound pass for the servers.
    pub(super) fn step(&self) {
        self.replicas[0].clock().advance(self.bound * 2 / STEPS);
    }

    /// Waits until every replica knows how many replicas there are.
    pub(super) async fn acquainted(&self) {
        let count = self.replicas.len();
        for replica in &self.replicas {
            let limiter = replica.server().service.limiter();
            until("the replicas know each other", async || limiter.replicas() == count).await;
        }
    }

    /// Waits until every replica is connected to Redis, or none is.
    pub(super) async fn redis_is(&self, up: bool) {
        for replica in &self.replicas {
            let redis = replica.server().redis().unwrap();
            until("the link is as Redis is", async || redis.is_up() == up).await;
            assert_eq!(replica.metric::<u8>("keyward_redis_up").await, u8::from(up));
        }
    }

    /// The number of decisions without Redis.
    pub(super) async fn fallbacks(&self) -> usize {
        const NAME: &str = "keyward_limiter_fallbacks_total";
        let each = self.replicas.iter().map(|replica| replica.metric::<usize>(NAME));
        join_all(each).await.into_iter().sum()
    }
}

/// The state of a token or key at a replica. Fails at undocumented answers.
pub(super) async fn ask(admin: &mut Admin, token: &str) -> Word {
    let answer = in_time("an answer", admin.access.check_access(question(token, &["a"]))).await;
    match answer {
        Ok(answer) => match answer.into_inner().outcome() {
            Outcome::Allowed => Word::Allowed,
            outcome => Word::Refused(outcome),
        },
        Err(status) => {
            documented(&status);
            Word::Unknown
        }
    }
}

/// A new token, or `None` if the errors of both interfaces say why there is none.
async fn exchange(replica: &Keyward, client: &Credential) -> Option<String> {
    match client.exchange(&replica.grpc(), &[], &[]).await {
        Ok(issued) => Some(issued.access_token),
        Err(status) => {
            documented(&status);
            None
        }
    }
}

/// Fails if an error does not say that a dependency is unavailable.
pub(super) fn documented(status: &Status) {
    match status.code() {
        Code::Unavailable => {
            assert_eq!(reason(status), "UNAVAILABLE", "{status:?}");
            assert!(status.get_details_retry_info().is_some(), "{status:?}");
        }
        Code::DeadlineExceeded => assert_eq!(reason(status), "DEADLINE_EXCEEDED", "{status:?}"),
        _ => panic!("{status:?} is not documented"),
    }
}

/// Observations of the traffic.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Seen {
    pub(super) answers: usize,
    /// How many answers were UNAVAILABLE.
    pub(super) unknown: usize,
    /// The duration of the slowest answer.
    pub(super) slowest: Duration,
}

/// Constant requests to the replicas.
pub(super) struct Traffic {
    tasks: Vec<JoinHandle<Seen>>,
    stop: CancellationToken,
}

impl Traffic {
    /// Ends the traffic. Returns the observations for each replica. Fails if an answer was wrong.
    pub(super) async fn end(self) -> Vec<Seen> {
        self.stop.cancel();
        let seen = join_all(self.tasks).await.into_iter().map(|task| task.expect("all held"));
        let seen: Vec<_> = seen.collect();
        assert!(seen.iter().all(|seen| seen.answers > 0), "{seen:?}");
        seen
    }
}

struct Asking {
    admin: Admin,
    live: String,
    revoked: Arc<Mutex<Vec<Revoked>>>,
    bound: Duration,
    seen: Seen,
}

impl Asking {
    async fn ask(mut self, stop: CancellationToken) -> Seen {
        for round in 0_usize.. {
            let live = self.live.clone();
            let word = self.timed(&live).await;
            assert!(matches!(word, Word::Allowed | Word::Unknown), "it is good: {word:?}");
            for (token, at) in self.some(round) {
                let late = at.elapsed() > self.bound;
                let word = self.timed(&token).await;
                assert!(word != Word::Allowed || !late, "allowed {:?} later", at.elapsed());
                if round.is_multiple_of(4) {
                    let late = at.elapsed() > self.bound;
                    let request = IntrospectTokenRequest { token };
                    match self.admin.tokens.introspect_token(request).await {
                        Ok(answer) => assert!(!answer.into_inner().active || !late),
                        Err(status) => documented(&status),
                    }
                }
            }
            if stop.run_until_cancelled(pause(Duration::from_millis(50))).await.is_none() {
                break;
            }
        }
        self.seen
    }

    async fn timed(&mut self, token: &str) -> Word {
        let began = now();
        let word = ask(&mut self.admin, token).await;
        self.seen.answers += 1;
        self.seen.unknown += usize::from(word == Word::Unknown);
        self.seen.slowest = self.seen.slowest.max(began.elapsed());
        word
    }

    /// The newest revoked tokens, and one of the others.
    fn some(&self, round: usize) -> Vec<Revoked> {
        let revoked = self.revoked.lock().unwrap();
        let older = revoked.get(round % revoked.len().max(1));
        revoked.iter().rev().take(2).chain(older).cloned().collect()
    }
}

/// The claims of a token.
pub(super) fn claims(token: &str) -> Claims {
    jsonwebtoken::dangerous::insecure_decode::<Claims>(token).unwrap().claims
}

/// Checks that the list in the database has no gaps. Returns its length.
pub(super) async fn assert_no_gap(database: &str) -> i64 {
    const SQL: &str = "select last_number, (select count(*) from revocations), \
        (select coalesce(max(number), 0) from revocations) from revocation_feed";
    let mut connection = PgConnection::connect(database).await.unwrap();
    let (last, count, newest): (i64, i64, i64) =
        sqlx::query_as(SQL).fetch_one(&mut connection).await.unwrap();
    assert_eq!((count, newest), (last, last));
    last
}
