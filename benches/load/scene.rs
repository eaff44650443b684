//! The set-up of most parts: Keyward with a tenant, applications and known clients, and baselines
//! that send the same answers.

pub(crate) mod copied;

use std::path::Path;
use std::time::Duration;

use futures_util::{StreamExt, stream};
use keyward::internals::clock::Stopwatch;
use keyward::proto::access::GetJwksRequest;
use keyward::proto::access::key_service_client::KeyServiceClient;
use keyward::proto::admin as pb;
use keyward::proto::admin::credential::Kind as CredentialKind;
use keyward::proto::token::token_service_client::TokenServiceClient;
use tempfile::TempDir;

use crate::baseline::{Baseline, CLIENT_KEY, Kind, Templates};
use crate::callers::issue_request;
use crate::harness::{Admin, Credential, connect, question};
use crate::keyward::Keyward;

/// The number of known clients.
pub(crate) const CLIENTS: usize = 64;
/// The average number of scopes of an integration.
pub(crate) const SCOPES: [&str; 4] =
    ["campaigns.read", "campaigns.write", "calls.read", "users.read"];
/// The number of concurrent requests that need a hash.
pub(crate) const HASHES: usize = 4;

pub(crate) struct Scene {
    pub(crate) keyward: Keyward,
    pub(crate) admin: Admin,
    /// Each belongs to its own application, and was used once.
    pub(crate) clients: Vec<Credential>,
    /// A caller that may check tokens.
    gateway: Credential,
    templates: TempDir,
}

impl Scene {
    pub(crate) async fn new(settings: &[(&'static str, &str)]) -> Self {
        Self::with(Keyward::start(settings).await).await
    }

    /// The same, of another build of Keyward.
    pub(crate) async fn of(binary: &Path, settings: &[(&'static str, &str)]) -> Self {
        Self::with(Keyward::start_build(binary, settings).await).await
    }

    async fn with(keyward: Keyward) -> Self {
        let mut admin = keyward.admin().await;
        admin.tenant("acme", &SCOPES).await;
        let clients = clients(&admin, "warm", None).await;
        first_uses(&keyward.grpc(), &clients, HASHES).await;
        let system = admin.application("system", "gateway", &["keyward.verify"]).await.name;
        let (_, gateway) = admin.credential(&system, CredentialKind::ClientSecret).await;
        let templates = tempfile::Builder::new().prefix("keyward-templates-").tempdir().unwrap();
        let scene = Self { keyward, admin, clients, gateway, templates };
        scene.templates().await.write(scene.templates.path());
        scene
    }

    /// The answers of Keyward.
    async fn templates(&self) -> Templates {
        let grpc = self.keyward.grpc();
        let issued = self.clients[0].exchange(&grpc, &[], &[]).await.unwrap();
        let question = question(&issued.access_token, &SCOPES[..1]);
        let checked = self.admin.access.clone().check_access(question).await.unwrap().into_inner();
        let mut keys = KeyServiceClient::new(connect(&grpc).await);
        let jwks = keys.get_jwks(GetJwksRequest {}).await.unwrap().into_inner().jwks;
        Templates::new(issued, checked, &serde_json::from_str(&jwks).unwrap())
    }

    /// An access token of a caller that may check tokens.
    pub(crate) async fn verifier(&self) -> String {
        let grpc = self.keyward.grpc();
        self.gateway.exchange(&grpc, &[], &["keyward"]).await.unwrap().access_token
    }

    pub(crate) fn baseline(&self, kind: Kind) -> Baseline {
        Baseline::start(kind, self.templates.path(), None)
    }

    /// A baseline that verifies assertions of clients with this key, an uncompressed point.
    pub(crate) fn verifying_baseline(&self, kind: Kind, key: impl AsRef<[u8]>) -> Baseline {
        std::fs::write(self.templates.path().join(CLIENT_KEY), key).unwrap();
        self.baseline(kind)
    }

    /// `sign` with a Redis script per token.
    pub(crate) fn counting_baseline(&self, redis: &str) -> Baseline {
        Baseline::start(Kind::Sign, self.templates.path(), Some(redis))
    }

    /// Tokens that were not used before: `count`, or as many as can be created in the time.
    pub(crate) async fn tokens(&self, max: usize, within: Duration) -> Vec<String> {
        const AT_ONCE: usize = 64;
        let client = TokenServiceClient::new(connect(&self.keyward.grpc()).await);
        let watch = Stopwatch::start();
        let asked = stream::iter(0..max).map(|n| {
            let (mut client, request) =
                (client.clone(), issue_request(&self.clients[n % self.clients.len()]));
            async move { client.issue_token(request).await.unwrap().into_inner().access_token }
        });
        let in_time = |_: &String| std::future::ready(watch.elapsed() < within);
        asked.buffer_unordered(AT_ONCE).take_while(in_time).collect().await
    }
}

/// Creates an application of the tenant. Returns its name.
pub(crate) async fn application(admin: &mut Admin, id: &str, limits: Option<pb::Limits>) -> String {
    let application = pb::Application {
        display_name: format!("Integration {id}"),
        scopes: SCOPES.map(str::to_owned).to_vec(),
        limits,
        ..Default::default()
    };
    let request = pb::CreateApplicationRequest {
        parent: "tenants/acme".to_owned(),
        application_id: id.to_owned(),
        application: Some(application),
        request_id: String::new(),
    };
    let made = admin.applications.create_application(request).await.unwrap().into_inner();
    made.application.unwrap().name
}

/// All clients of a scene, each with its own application and these limits.
pub(crate) async fn clients(
    admin: &Admin,
    prefix: &str,
    limits: Option<pb::Limits>,
) -> Vec<Credential> {
    let made = stream::iter(0..CLIENTS).map(|n| {
        let mut admin = admin.clone();
        async move {
            let application = application(&mut admin, &format!("{prefix}-{n}"), limits).await;
            admin.credential(&application, CredentialKind::ClientSecret).await.1
        }
    });
    made.buffered(HASHES).collect().await
}

/// Uses each credential once, which needs a hash. Returns how long that took.
pub(crate) async fn first_uses(grpc: &str, clients: &[Credential], at_once: usize) -> Duration {
    let issuing = TokenServiceClient::new(connect(grpc).await);
    let watch = Stopwatch::start();
    stream::iter(clients)
        .for_each_concurrent(at_once, |client| {
            let mut issuing = issuing.clone();
            async move {
                issuing.issue_token(issue_request(client)).await.unwrap();
            }
        })
        .await;
    watch.elapsed()
}
