//! A load on servers, sent as a load balancer does: only to those that say that they are ready. Each
//! call must succeed.

use std::collections::{BTreeMap, HashMap};
use std::fmt::Display;
use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use keyward::proto::admin as pb;
use keyward::proto::admin::credential::Kind;
use keyward::proto::token::RevokeTokenRequest;
use tokio::task::JoinHandle;
use tonic::Status;

use crate::harness::{Admin, Credential, in_time, pause, question, until};
use crate::process::binary::Serving;

const WORKERS: usize = 4;

/// Servers, the newest one last.
type Targets = Arc<Mutex<Vec<Arc<Target>>>>;

struct Target {
    grpc: String,
    ops: String,
    ready: AtomicBool,
}

/// Calls on servers until it is stopped.
pub(super) struct Load {
    targets: Targets,
    tally: Arc<Tally>,
    tasks: Vec<JoinHandle<()>>,
}

#[derive(Default)]
struct Tally {
    stopped: AtomicBool,
    done: AtomicUsize,
    failed: Mutex<BTreeMap<String, usize>>,
}

impl Tally {
    fn add<T>(&self, call: &str, outcome: Result<T, impl Display>) -> Option<T> {
        self.done.fetch_add(1, Ordering::Relaxed);
        match outcome {
            Ok(answer) => Some(answer),
            Err(error) => {
                *self.failed.lock().unwrap().entry(format!("{call}: {error}")).or_default() += 1;
                None
            }
        }
    }
}

/// The first admin credential, which the first server has written.
pub(super) fn first_credential(folder: &Path) -> Credential {
    let text = fs::read_to_string(folder.join("admin.env")).unwrap();
    let value = |name: &str| {
        let prefix = format!("export {name}=");
        text.lines().find_map(|line| line.strip_prefix(&prefix)).unwrap().to_owned()
    };
    Credential { client_id: value("KEYWARD_CLIENT_ID"), secret: value("KEYWARD_CLIENT_SECRET") }
}

impl Load {
    /// Starts it on this server.
    pub(super) async fn start(server: &Serving, credential: Credential) -> Self {
        let mut admin = Admin::new(server.grpc.clone(), &credential).await;
        let (_, crm) = {
            admin.tenant("acme", &["a"]).await;
            admin.application("acme", "crm", &["a"]).await;
            admin.credential("tenants/acme/applications/crm", Kind::ClientSecret).await
        };
        let (targets, tally) = (Targets::default(), Arc::new(Tally::default()));
        let mut tasks = vec![tokio::spawn(probe(Arc::clone(&targets), Arc::clone(&tally)))];
        let load = Self { targets, tally, tasks: Vec::new() };
        load.add(server).await;
        for number in 0..WORKERS {
            let worker = Worker {
                number,
                admins: HashMap::new(),
                credential: credential.clone(),
                crm: crm.clone(),
                targets: Arc::clone(&load.targets),
                tally: Arc::clone(&load.tally),
            };
            tasks.push(tokio::spawn(worker.run()));
        }
        Self { tasks, ..load }
    }

    /// Adds a server, and waits until it gets calls.
    pub(super) async fn add(&self, server: &Serving) {
        let target = Arc::new(Target {
            grpc: server.grpc.clone(),
            ops: server.ops.clone(),
            ready: AtomicBool::new(false),
        });
        self.targets.lock().unwrap().push(Arc::clone(&target));
        until("the server is ready", async || target.ready.load(Ordering::Relaxed)).await;
    }

    /// Waits until many more calls have been answered.
    pub(super) async fn goes_on(&self) {
        let before = self.tally.done.load(Ordering::Relaxed);
        until("calls go on", async || self.tally.done.load(Ordering::Relaxed) > before + 80).await;
    }

    /// Ends it. Returns the number of calls, and what failed, with the number of each.
    pub(super) async fn stop(self) -> (usize, BTreeMap<String, usize>) {
        self.tally.stopped.store(true, Ordering::Relaxed);
        for task in self.tasks {
            in_time("a worker ends", task).await.unwrap();
        }
        let failed = self.tally.failed.lock().unwrap().clone();
        (self.tally.done.load(Ordering::Relaxed), failed)
    }
}

/// Asks all servers whether they are ready, as a load balancer does.
async fn probe(targets: Targets, tally: Arc<Tally>) {
    while !tally.stopped.load(Ordering::Relaxed) {
        let all = targets.lock().unwrap().clone();
        for target in all {
            let answer = reqwest::get(format!("{}/readyz", target.ops)).await;
            let ready = answer.is_ok_and(|answer| answer.status().is_success());
            target.ready.store(ready, Ordering::Relaxed);
        }
        pause(Duration::from_millis(50)).await;
    }
}

struct Worker {
    number: usize,
    /// The administrator's connection to each server.
    admins: HashMap<String, Admin>,
    credential: Credential,
    crm: Credential,
    targets: Targets,
    tally: Arc<Tally>,
}

impl Worker {
    async fn run(mut self) {
        let mut round = 0;
        while !self.tally.stopped.load(Ordering::Relaxed) {
            round += 1;
            let ready: Vec<_> = {
                let targets = self.targets.lock().unwrap();
                targets
                    .iter()
                    .filter(|target| target.ready.load(Ordering::Relaxed))
                    .cloned()
                    .collect()
            };
            if ready.is_empty() {
                self.tally.add("choose", Err::<(), _>("no server is ready"));
                pause(Duration::from_millis(50)).await;
                continue;
            }
            let target = &ready[(self.number + round) % ready.len()];
            self.calls(&target.grpc, round).await;
        }
    }

    /// An exchange on a new connection; checks, a creation and a revocation on a kept one.
    async fn calls(&mut self, grpc: &str, round: usize) {
        let mut admin = self.admin(grpc).await;
        let exchanged = self.crm.exchange(grpc, &["a"], &[]).await;
        let Some(issued) = self.tally.add("exchange", exchanged) else { return };
        let token = issued.access_token;
        let checked =
            admin.access.check_access(question(&token, &["a"])).await.and_then(|answer| {
                if answer.get_ref().allowed { Ok(()) } else { Err(Status::unknown("not allowed")) }
            });
        self.tally.add("check", checked);
        let application = pb::Application {
            display_name: "made".to_owned(),
            scopes: vec!["a".to_owned()],
            ..pb::Application::default()
        };
        let request = pb::CreateApplicationRequest {
            parent: "tenants/acme".to_owned(),
            application_id: format!("made-{}-{round}", self.number),
            application: Some(application),
            request_id: String::new(),
        };
        self.tally.add("create", admin.applications.create_application(request).await);
        let request = RevokeTokenRequest { token: token.clone() };
        self.tally.add("revoke", admin.tokens.revoke_token(request).await);
        let checked =
            admin.access.check_access(question(&token, &["a"])).await.and_then(|answer| {
                if answer.get_ref().allowed {
                    Err(Status::unknown("still allowed"))
                } else {
                    Ok(())
                }
            });
        self.tally.add("check of a revoked token", checked);
    }

    async fn admin(&mut self, grpc: &str) -> Admin {
        if let Some(admin) = self.admins.get(grpc) {
            return admin.clone();
        }
        let admin = Admin::new(grpc.to_owned(), &self.credential).await;
        self.admins.insert(grpc.to_owned(), admin.clone());
        admin
    }
}
