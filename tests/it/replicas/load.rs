//! A load on replicas during failovers: about two hundred calls a second that check valid and
//! revoked tokens and get new ones, and five revocations a second. Calls start on schedule,
//! regardless of how long others take, as with many independent clients. All answers are judged and
//! summarised at the end.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use keyward::proto::access::check_access_response::Outcome;
use keyward::proto::token::token_service_client::TokenServiceClient;
use keyward::proto::token::{IntrospectTokenRequest, IssueTokenRequest, RevokeTokenRequest};
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{MissedTickBehavior, interval, timeout};
use tokio_util::sync::CancellationToken;
use tonic::transport::Channel;
use tonic::{Code, Status};

use super::scene::{Revoked, Scene, documented, now};
use crate::harness::{Admin, Credential, PATIENCE, connect, question, reason, until};

const CALL_EVERY: Duration = Duration::from_millis(5);
const REVOKE_EVERY: Duration = Duration::from_millis(200);

/// The load, until it is ended.
pub(super) struct Load {
    state: Arc<State>,
    calls: JoinHandle<JoinSet<()>>,
    stop: CancellationToken,
}

struct State {
    /// For each replica: an administrator, and a client without a token.
    callers: Vec<(Admin, TokenServiceClient<Channel>)>,
    crm: Credential,
    live: String,
    key: String,
    limited: String,
    /// The time until a revocation must be known to other replicas.
    bound: Duration,
    /// Tokens to revoke.
    stock: Mutex<Vec<String>>,
    /// Acknowledged revocations, with their time and replica.
    acknowledged: Mutex<Vec<(Revoked, usize)>>,
    /// The same tokens, for the scene.
    revoked: Arc<Mutex<Vec<Revoked>>>,
    tally: Mutex<Tally>,
}

/// A summary of the answers.
#[derive(Clone, Debug, Default)]
pub(super) struct Tally {
    /// The number of answered calls, without revocations.
    pub(super) answers: usize,
    /// The number of acknowledged revocations.
    pub(super) revocations: usize,
    /// The number of calls, including revocations, that were temporarily unavailable.
    pub(super) unknown: usize,
    /// The number of calls that a limit refused.
    pub(super) limited: usize,
    /// Wrong answers, with their number.
    wrong: BTreeMap<String, usize>,
    /// The duration of the slowest answer.
    pub(super) slowest: Duration,
}

/// The calls that are made in turn.
#[derive(Clone, Copy)]
enum Call {
    Check,
    CheckKey,
    CheckRevoked,
    CheckLimited,
    Introspect,
    IntrospectRevoked,
    Issue,
}

const CALLS: [Call; 10] = [
    Call::Check,
    Call::CheckRevoked,
    Call::Introspect,
    Call::CheckRevoked,
    Call::CheckKey,
    Call::IntrospectRevoked,
    Call::Check,
    Call::CheckRevoked,
    Call::CheckLimited,
    Call::Issue,
];

/// The judged answer.
enum Answer {
    Good,
    Revoked,
    Limited,
    Unknown,
    Wrong(String),
}

impl Scene {
    /// Starts the load.
    pub(super) async fn load(&mut self) -> Load {
        let callers = self.replicas.iter().zip(&self.admins).map(async |(replica, admin)| {
            (admin.clone(), TokenServiceClient::new(connect(&replica.grpc()).await))
        });
        let state = Arc::new(State {
            callers: join_all(callers).await,
            crm: self.crm.clone(),
            live: self.live.clone(),
            key: self.key.clone(),
            limited: self.limited.clone(),
            bound: self.bound,
            stock: Mutex::new(std::mem::take(&mut self.stock)),
            acknowledged: Mutex::default(),
            revoked: Arc::clone(&self.revoked),
            tally: Mutex::default(),
        });
        let stop = CancellationToken::new();
        let calls = tokio::spawn(Arc::clone(&state).call_on(stop.clone()));
        Load { state, calls, stop }
    }
}

impl Load {
    /// Starts concurrent revocations without waiting for them.
    pub(super) fn burst(&self, count: usize) -> JoinSet<()> {
        let mut burst = JoinSet::new();
        for n in 0..count {
            let state = Arc::clone(&self.state);
            burst.spawn(async move {
                state.revoke(n % state.callers.len()).await;
            });
        }
        burst
    }

    /// Retries a revocation at each replica until it works. Returns the time since `since`.
    pub(super) async fn writes_again(&self, since: Instant) -> Duration {
        let each = (0..self.state.callers.len()).map(async |at| {
            until("writes work again without a hand", async || self.state.revoke(at).await).await;
            since.elapsed()
        });
        join_all(each).await.into_iter().max().unwrap()
    }

    /// The summary so far.
    pub(super) fn so_far(&self) -> Tally {
        self.state.tally.lock().unwrap().clone()
    }

    /// Ends the load. Returns the summary, and the tokens whose revocation was acknowledged. Fails
    /// if an answer was wrong.
    pub(super) async fn end(mut self) -> (Tally, Vec<String>) {
        self.stop.cancel();
        (&mut self.calls).await.unwrap().join_all().await;
        let tally = self.so_far();
        tally.tell();
        assert!(tally.wrong.is_empty(), "{:#?}", tally.wrong);
        assert!(tally.answers > 0 && tally.revocations > 0, "{tally:?}");
        let acknowledged = self.state.acknowledged.lock().unwrap();
        let tokens = acknowledged.iter().map(|((token, _), _)| token.clone()).collect();
        drop(acknowledged);
        (tally, tokens)
    }
}

impl State {
    async fn call_on(self: Arc<Self>, stop: CancellationToken) -> JoinSet<()> {
        let mut under_way = JoinSet::new();
        let (mut calls, mut revocations) = (interval(CALL_EVERY), interval(REVOKE_EVERY));
        calls.set_missed_tick_behavior(MissedTickBehavior::Skip);
        revocations.set_missed_tick_behavior(MissedTickBehavior::Skip);
        let replicas = self.callers.len();
        let (mut called, mut revoked) = (0, 0);
        loop {
            let state = Arc::clone(&self);
            tokio::select! {
                () = stop.cancelled() => return under_way,
                _ = calls.tick() => {
                    let (at, call) = (called % replicas, CALLS[called / replicas % CALLS.len()]);
                    called += 1;
                    let turn = called / replicas;
                    under_way.spawn(async move { state.call(at, call, turn).await });
                }
                _ = revocations.tick() => {
                    let at = revoked % replicas;
                    revoked += 1;
                    under_way.spawn(async move {
                        state.revoke(at).await;
                    });
                }
            }
            while let Some(done) = under_way.try_join_next() {
                done.unwrap();
            }
        }
    }

    async fn call(&self, at: usize, call: Call, turn: usize) {
        let began = now();
        let (answer, may_be_good) = match call {
            Call::Check => (self.check(at, &self.live).await, true),
            Call::CheckKey => (self.check(at, &self.key).await, true),
            Call::CheckLimited => (self.check(at, &self.limited).await, true),
            Call::Introspect => (self.introspect(at, &self.live).await, true),
            Call::Issue => (self.issue(at).await, true),
            Call::CheckRevoked | Call::IntrospectRevoked => {
                let Some(((token, revoked_at), by)) = self.some_revoked(turn) else { return };
                let bound = if by == at { Duration::ZERO } else { self.bound };
                let may_be_good = began < revoked_at + bound;
                let answer = match call {
                    Call::CheckRevoked => self.check(at, &token).await,
                    _ => self.introspect(at, &token).await,
                };
                (answer, may_be_good)
            }
        };
        let limited = matches!(call, Call::CheckLimited);
        let revoked = matches!(call, Call::CheckRevoked | Call::IntrospectRevoked);
        self.note(began, |tally| {
            tally.answers += 1;
            match answer {
                Answer::Good if may_be_good => {}
                Answer::Good => tally.wrong("a revoked token is accepted"),
                Answer::Revoked if revoked => {}
                Answer::Limited if limited => tally.limited += 1,
                Answer::Unknown => tally.unknown += 1,
                Answer::Revoked | Answer::Limited => tally.wrong("what is good is refused"),
                Answer::Wrong(what) => tally.wrong(&what),
            }
        });
    }

    async fn check(&self, at: usize, token: &str) -> Answer {
        let mut access = self.callers[at].0.access.clone();
        match answered(access.check_access(question(token, &["a"]))).await {
            Ok(answer) => match answer.into_inner().outcome() {
                Outcome::Allowed => Answer::Good,
                Outcome::Revoked => Answer::Revoked,
                Outcome::RateLimited => Answer::Limited,
                outcome => Answer::Wrong(format!("CheckAccess says {outcome:?}")),
            },
            Err(status) => failed("CheckAccess", &status),
        }
    }

    async fn introspect(&self, at: usize, token: &str) -> Answer {
        let request = IntrospectTokenRequest { token: token.to_owned() };
        let mut tokens = self.callers[at].0.tokens.clone();
        match answered(tokens.introspect_token(request)).await {
            Ok(answer) if answer.get_ref().active => Answer::Good,
            Ok(_) => Answer::Revoked,
            Err(status) => failed("IntrospectToken", &status),
        }
    }

    async fn issue(&self, at: usize) -> Answer {
        let request = IssueTokenRequest { credential: self.crm.proof(), ..Default::default() };
        let mut tokens = self.callers[at].1.clone();
        match answered(tokens.issue_token(request)).await {
            Ok(issued) => {
                self.stock.lock().unwrap().push(issued.into_inner().access_token);
                Answer::Good
            }
            Err(status) => failed("IssueToken", &status),
        }
    }

    /// Revokes a token. Returns whether that was acknowledged. Otherwise it may still have been
    /// done, and the token is tried again later.
    async fn revoke(&self, at: usize) -> bool {
        let Some(token) = self.stock.lock().unwrap().pop() else { return false };
        let began = now();
        let request = RevokeTokenRequest { token: token.clone() };
        let mut tokens = self.callers[at].0.tokens.clone();
        let outcome = answered(tokens.revoke_token(request)).await;
        let acknowledged = now();
        self.note(began, |tally| match &outcome {
            Ok(_) => tally.revocations += 1,
            Err(status) => match failed("RevokeToken", status) {
                Answer::Wrong(what) => tally.wrong(&what),
                _ => tally.unknown += 1,
            },
        });
        if outcome.is_err() {
            self.stock.lock().unwrap().insert(0, token);
            return false;
        }
        self.revoked.lock().unwrap().push((token.clone(), acknowledged));
        self.acknowledged.lock().unwrap().push(((token, acknowledged), at));
        true
    }

    /// A revoked token: one of the newest, or any, by turns.
    fn some_revoked(&self, turn: usize) -> Option<(Revoked, usize)> {
        let acknowledged = self.acknowledged.lock().unwrap();
        let last = acknowledged.len().checked_sub(1)?;
        let back = if turn.is_multiple_of(3) { turn * 7919 } else { turn % 4 };
        acknowledged.get(last - back % (last + 1)).cloned()
    }

    fn note(&self, began: Instant, what: impl FnOnce(&mut Tally)) {
        let mut tally = self.tally.lock().unwrap();
        tally.slowest = tally.slowest.max(began.elapsed());
        what(&mut tally);
    }
}

impl Tally {
    fn wrong(&mut self, what: &str) {
        *self.wrong.entry(what.to_owned()).or_default() += 1;
    }

    #[expect(clippy::print_stdout, reason = "the figures are what is asked")]
    fn tell(&self) {
        let mut reported = format!(
            "{} calls and {} revocations answered, {} could not be now, slowest {:?}",
            self.answers, self.revocations, self.unknown, self.slowest
        );
        for (what, count) in &self.wrong {
            write!(reported, "; {what}: {count}").unwrap();
        }
        println!("{reported}");
    }
}

/// The answer to a call, within the time limit.
async fn answered<T>(call: impl Future<Output = Result<T, Status>>) -> Result<T, Status> {
    let late = |_| Err(Status::unknown("no answer"));
    timeout(PATIENCE, call).await.unwrap_or_else(late)
}

/// Judges a failed call: documented as temporary, or wrong.
fn failed(call: &str, status: &Status) -> Answer {
    match status.code() {
        Code::Unavailable | Code::DeadlineExceeded => {
            documented(status);
            Answer::Unknown
        }
        Code::ResourceExhausted if reason(status) == "OVERLOADED" => Answer::Unknown,
        code => Answer::Wrong(format!("{call} fails with {code:?}: {}", status.message())),
    }
}
