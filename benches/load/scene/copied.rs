//! Keyward with any number of applications: one is created normally, with its credential, and
//! copied by SQL while the server is stopped. All copies have the same secret, which is possible
//! because a client secret does not contain its credential.
//!
//! Real hashes would only slow the first uses down here, so the copied hash is a cheap one of the
//! same secret with the same pepper.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use argon2::{Algorithm, Argon2, KeyId, ParamsBuilder, PasswordHasher, Version};
use futures_util::{StreamExt, stream};
use keyward::internals::clock::Stopwatch;
use keyward::internals::secrets::MasterKey;
use keyward::proto::access::CheckAccessRequest;
use keyward::proto::access::access_service_client::AccessServiceClient;
use keyward::proto::admin::credential::Kind as CredentialKind;

use super::{CLIENTS, SCOPES, application, first_uses};
use crate::callers::{AsksForTokens, Checks};
use crate::database::Database;
use crate::harness::{Credential, bearer};
use crate::keyward::Keyward;
use crate::load::Shape;

pub(crate) struct Copied {
    pub(crate) keyward: Keyward,
    /// The URL of its database; `None`: SQLite in its folder.
    url: Option<String>,
    original: Credential,
    /// A caller that may check tokens.
    gateway: Credential,
    size: u32,
}

/// The number of checks at once when each is asked for the first time.
const FIRST_CHECKS: usize = 4;

/// A table, the condition for copied rows, and the columns that differ in the copies.
type Copy = (&'static str, &'static str, &'static [(&'static str, &'static str)]);

/// The words in names: of most copies, and of some later ones by name.
macro_rules! named {
    ($before:literal, $after:literal) => {
        concat!(
            $before,
            "case when n % 100 = 7 then 'Webchat' when n % 50 = 0 then 'Telephony' \
             when n % 30 = 1 then 'Omnichannel' else 'Integration' end || ' ' || ",
            seven_digits!(),
            $after
        )
    };
}

/// SQL for a number with this many digits, for SQLite and PostgreSQL.
macro_rules! digits {
    ($zeros:literal) => {
        concat!("substr('", $zeros, "', length(cast(n as text)) + 1) || n")
    };
}
macro_rules! seven_digits {
    () => {
        digits!("0000000")
    };
}
const APPLICATION: &str = concat!("'app-' || ", seven_digits!());
const CREDENTIAL: &str = digits!("00000000000000000000000000000000");

/// In the order of references. `n` is the number of the copy.
const COPIES: [Copy; 4] = [
    (
        "applications",
        "tenant_id = 'acme' and id = 'original'",
        &[
            ("id", APPLICATION),
            ("display_name", named!("", "")),
            ("search_name", named!("lower(", ")")),
            (
                "created_at",
                "created_at + n + case when n % 100 = 7 then 30000000 when n % 50 = 0 then 20000000 \
                 when n % 30 = 1 then 10000000 else 0 end",
            ),
        ],
    ),
    (
        "application_scopes",
        "tenant_id = 'acme' and application_id = 'original'",
        &[("application_id", APPLICATION)],
    ),
    (
        "credentials",
        "tenant_id = 'acme' and application_id = 'original'",
        &[("id", CREDENTIAL), ("application_id", APPLICATION)],
    ),
    (
        "secrets",
        "credential_id = (select id from credentials where application_id = 'original')",
        &[("credential_id", CREDENTIAL)],
    ),
];

const TENANT: &str = concat!("'t-' || ", seven_digits!());
/// The same for whole tenants.
const TENANTS: [Copy; 7] = [
    // A trigger sets the number.
    ("tenants", "id = 'acme'", &[("id", TENANT), ("number", "null")]),
    ("scopes", "tenant_id = 'acme'", &[("tenant_id", TENANT)]),
    // Each tenant has the change of its creation.
    ("tenant_changes", "tenant_id = 'acme' and number = 1", &[("tenant_id", TENANT)]),
    ("applications", "tenant_id = 'acme' and id = 'original'", &[("tenant_id", TENANT)]),
    (
        "application_scopes",
        "tenant_id = 'acme' and application_id = 'original'",
        &[("tenant_id", TENANT)],
    ),
    (
        "credentials",
        "tenant_id = 'acme' and application_id = 'original'",
        &[("id", CREDENTIAL), ("tenant_id", TENANT)],
    ),
    (
        "secrets",
        "credential_id = (select id from credentials \
         where tenant_id = 'acme' and application_id = 'original')",
        &[("credential_id", CREDENTIAL)],
    ),
];

/// Gives all copies a last use, in the order of their creation.
const USES: &str = "update application_uses set last_used_at = \
    (select n.created_at from application_names n \
      where n.tenant_id = application_uses.tenant_id \
        and n.application_id = application_uses.application_id) \
    where tenant_id = 'acme' and last_used_at = 0";

impl Copied {
    /// A server with the original and no copies, with SQLite or with the given PostgreSQL.
    pub(crate) async fn start(url: Option<String>) -> Self {
        let settings = url.as_deref().map(|url| ("KEYWARD_DATABASE_URL", url));
        let mut keyward = Keyward::start(settings.as_slice()).await;
        let mut admin = keyward.admin().await;
        admin.tenant("acme", &SCOPES).await;
        let name = application(&mut admin, "original", None).await;
        let (_, original) = admin.credential(&name, CredentialKind::ClientSecret).await;
        let system = admin.application("system", "gateway", &["keyward.verify"]).await.name;
        let (_, gateway) = admin.credential(&system, CredentialKind::ClientSecret).await;
        keyward.stop();
        let hash = cheap_hash(keyward.folder(), &original.secret);
        let id = &original.client_id;
        let cheaper = format!("update secrets set hash = '{hash}' where credential_id = '{id}'");
        let mut copied = Self { keyward, url, original, gateway, size: 0 };
        assert_eq!(copied.database().await.execute(cheaper).await, 1);
        copied.keyward.start_again().await;
        copied
    }

    /// Creates copies up to this number. Returns how long that took.
    pub(crate) async fn grow_to(&mut self, size: u32) -> Duration {
        let watch = Stopwatch::start();
        self.keyward.stop();
        let mut database = self.database().await;
        for (table, original, own) in COPIES {
            database.copy(table, original, own, self.size + 1..=size).await;
        }
        database.execute(USES.to_owned()).await;
        database.tidy().await;
        drop(database);
        self.size = size;
        self.keyward.start_again().await;
        watch.elapsed()
    }

    /// Creates tenants up to this number, each with a copy of the original.
    pub(crate) async fn grow_to_tenants(&mut self, size: u32) {
        self.keyward.stop();
        let mut database = self.database().await;
        for (table, original, own) in TENANTS {
            database.copy(table, original, own, self.size + 1..=size).await;
        }
        database.tidy().await;
        drop(database);
        self.size = size;
        self.keyward.start_again().await;
    }

    /// A token of each of these clients, which are used for the first time.
    pub(crate) async fn tokens(&self, clients: &[Credential]) -> Vec<String> {
        let grpc = self.keyward.grpc();
        first_uses(&grpc, clients, CLIENTS).await;
        let one = Shape { connections: 1, in_flight: 1 };
        let mut asks = AsksForTokens::connect(&grpc, one, clients).await;
        let mut tokens = Vec::with_capacity(clients.len());
        for _ in clients {
            tokens.push(asks[0].ask().await.unwrap().access_token);
        }
        tokens
    }

    /// Callers that ask these questions, after each was asked once: what the server reads for the
    /// first answer is not measured.
    pub(crate) async fn checks(&self, questions: &Arc<[CheckAccessRequest]>) -> Vec<Checks> {
        let grpc = self.keyward.grpc();
        let verifier = self.gateway.exchange(&grpc, &[], &["keyward"]).await.unwrap().access_token;
        let client = AccessServiceClient::new(bearer(&grpc, &verifier).await);
        stream::iter(questions.iter().cloned())
            .for_each_concurrent(FIRST_CHECKS, |question| {
                let mut client = client.clone();
                async move {
                    let answer = client.check_access(question).await.unwrap().into_inner();
                    assert!(answer.allowed, "what is good is allowed: {answer:?}");
                }
            })
            .await;
        Checks::connect(&grpc, &verifier, Shape::MANY, questions, false).await
    }

    pub(crate) async fn database(&self) -> Database {
        Database::open(self.keyward.folder(), self.url.as_deref()).await
    }

    /// The first copy.
    pub(crate) fn clients(&self, max: u32) -> Vec<Credential> {
        let client = |n: u32| Credential {
            client_id: format!("{n:032}"),
            secret: self.original.secret.clone(),
        };
        (1..=max.min(self.size)).map(client).collect()
    }
}

/// A hash that the server accepts because it uses the server's pepper.
fn cheap_hash(folder: &Path, secret: &str) -> String {
    let master = MasterKey::from_file(&folder.join("master.key")).unwrap();
    let id = KeyId::new(master.id().unwrap().as_bytes()).unwrap();
    let params = ParamsBuilder::new().m_cost(8).t_cost(1).p_cost(1).keyid(id).build().unwrap();
    let pepper = master.derive("pepper").unwrap();
    let argon2 =
        Argon2::new_with_secret(&*pepper, Algorithm::Argon2id, Version::V0x13, params).unwrap();
    let hash = argon2.hash_password_with_salt(secret.as_bytes(), &[7; 16]).unwrap();
    hash.to_string()
}
