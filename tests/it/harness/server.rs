//! A server for one test.

use std::time::Duration;

use jiff::Timestamp;
use keyward::internals::clock::Clock;
use keyward::internals::config::{Config, Layers};
use keyward::internals::server::{Server, ServerError};
use sqlx::{Connection, PgConnection, SqliteConnection};
use tempfile::TempDir;
use tonic::transport::Channel;

use super::{Admin, Credential, fresh_database, until_some};

/// The database of a test.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Backend {
    Sqlite,
    Postgres,
}

/// A server with its own database, and a clock that the test moves.
pub(crate) struct Keyward {
    server: Option<Server>,
    clock: Clock,
    folder: TempDir,
    database: Option<String>,
    admin: Credential,
    settings: Vec<(&'static str, String)>,
}

impl Backend {
    /// A server with default settings on this kind of database.
    pub(crate) async fn start(self) -> Keyward {
        self.start_with(&[]).await
    }

    /// A server on this kind of database with changed settings.
    pub(crate) async fn start_with(self, settings: &[(&'static str, &str)]) -> Keyward {
        let database = match self {
            Self::Sqlite => None,
            Self::Postgres => Some(fresh_database().await),
        };
        Box::pin(Keyward::start(database, settings)).await
    }
}

/// The configuration of a test server: free ports, data in `folder`.
fn config(
    folder: &std::path::Path,
    database: Option<&str>,
    settings: &[(&'static str, String)],
) -> Config {
    let mut layers = Layers::default()
        .with_flag("grpc.listen", "test", Some("127.0.0.1:0"))
        .with_flag("http.listen", "test", Some("127.0.0.1:0"))
        .with_flag("ops.listen", "test", Some("127.0.0.1:0"))
        .with_flag("issuer", "test", Some("https://keyward.test"))
        .with_flag("limits.drain_time", "test", Some("0s"))
        // Tests move the clock by years.
        .with_flag("secrets.admin_credential_lifetime", "test", Some("never"))
        .with_flag("data_dir", "test", Some(folder.display()))
        .with_flag("database.url", "test", database);
    for (key, value) in settings {
        layers = layers.with_flag(key, "test", Some(value));
    }
    Config::read(layers).unwrap()
}

/// Starts a server. Tests of faults have a `database.acquire_timeout` of a second, in which a machine
/// that runs many tests may not open the first connection: then it is tried again.
async fn started(config: &Config, clock: &Clock) -> Result<Server, ServerError> {
    until_some("a server starts", async || {
        match Box::pin(Server::start(config, clock.clone())).await {
            Err(error) if error.to_string().contains("pool timed out") => None,
            outcome => Some(outcome),
        }
    })
    .await
}

impl Keyward {
    /// A server on the database of this URL, or on SQLite.
    pub(crate) async fn start(database: Option<String>, settings: &[(&'static str, &str)]) -> Self {
        let folder = TempDir::new().unwrap();
        let clock = Clock::manual("2026-06-01T12:00:00Z".parse().unwrap());
        let settings: Vec<_> =
            settings.iter().map(|(key, value)| (*key, (*value).to_owned())).collect();
        let config = config(folder.path(), database.as_deref(), &settings);
        let server = started(&config, &clock).await.unwrap();
        let first = server.first_credential.clone().unwrap();
        Self {
            server: Some(server),
            clock,
            folder,
            database,
            admin: Credential {
                client_id: first.client_id,
                secret: first.client_secret.expose().to_owned(),
            },
            settings,
        }
    }

    /// The error of a server that does not start with these settings, on SQLite in this folder.
    pub(crate) async fn refused(
        folder: &std::path::Path,
        settings: &[(&'static str, &str)],
    ) -> ServerError {
        let settings: Vec<_> =
            settings.iter().map(|(key, value)| (*key, (*value).to_owned())).collect();
        let config = config(folder, None, &settings);
        match Server::start(&config, Clock::system()).await {
            Ok(_) => panic!("it starts"),
            Err(error) => error,
        }
    }

    /// Several servers on one PostgreSQL, and on one Redis if given.
    pub(crate) async fn replicas<const N: usize>(
        redis: Option<&str>,
        settings: &[(&'static str, &str)],
    ) -> [Self; N] {
        Self::replicas_on(fresh_database().await, redis, settings).await
    }

    /// Like [`replicas`](Self::replicas), on this database.
    pub(crate) async fn replicas_on<const N: usize>(
        database: String,
        redis: Option<&str>,
        settings: &[(&'static str, &str)],
    ) -> [Self; N] {
        let mut settings = settings.to_vec();
        settings.extend(redis.map(|url| ("redis.url", url)));
        let first = Self::start(Some(database), &settings).await;
        let mut servers = Vec::with_capacity(N);
        for _ in 1..N {
            servers.push(first.join().await);
        }
        servers.insert(0, first);
        servers.try_into().ok().unwrap()
    }

    /// Another server on the same database, with the same keys, time and settings.
    pub(crate) async fn join(&self) -> Self {
        self.join_with(&[]).await
    }

    /// Like [`join`](Self::join), with changed settings.
    pub(crate) async fn join_with(&self, own: &[(&'static str, &str)]) -> Self {
        self.try_join(own, self.clock.clone()).await.unwrap()
    }

    /// Like [`join`](Self::join), with another clock.
    pub(crate) async fn join_at(&self, clock: Clock) -> Self {
        self.try_join(&[], clock).await.unwrap()
    }

    /// The error of another server that does not start.
    pub(crate) async fn refused_to_join(&self) -> ServerError {
        match self.try_join(&[], self.clock.clone()).await {
            Ok(_) => panic!("it starts"),
            Err(error) => error,
        }
    }

    /// Like [`refused_to_join`](Self::refused_to_join), with changed settings.
    pub(crate) async fn refused_to_join_with(&self, own: &[(&'static str, &str)]) -> ServerError {
        match self.try_join(own, self.clock.clone()).await {
            Ok(_) => panic!("it starts"),
            Err(error) => error,
        }
    }

    async fn try_join(
        &self,
        own: &[(&'static str, &str)],
        clock: Clock,
    ) -> Result<Self, ServerError> {
        let folder = TempDir::new().unwrap();
        let key = self.folder.path().join("master.key");
        let mut settings = self.settings.clone();
        settings.push(("master_key_file", key.to_str().unwrap().to_owned()));
        settings.extend(own.iter().map(|(key, value)| (*key, (*value).to_owned())));
        let config = config(folder.path(), self.database.as_deref(), &settings);
        Ok(Self {
            server: Some(started(&config, &clock).await?),
            clock,
            folder,
            database: self.database.clone(),
            admin: self.admin.clone(),
            settings,
        })
    }

    pub(crate) fn server(&self) -> &Server {
        self.server.as_ref().unwrap()
    }

    /// The URL of its PostgreSQL database, unless it runs on SQLite.
    pub(crate) fn database_url(&self) -> Option<&str> {
        self.database.as_deref()
    }

    /// The data folder.
    pub(crate) fn folder(&self) -> &std::path::Path {
        self.folder.path()
    }

    /// The gRPC address, as a URL.
    pub(crate) fn grpc(&self) -> String {
        format!("http://{}", self.server().grpc)
    }

    /// A URL of the HTTP interface.
    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.server().http)
    }

    /// The administrator, newly authenticated.
    pub(crate) async fn admin(&self) -> Admin {
        Admin::new(self.grpc(), &self.admin).await
    }

    /// The administrator on this connection.
    pub(crate) async fn admin_on(&self, channel: Channel) -> Admin {
        Admin::over(&channel, &self.admin).await
    }

    /// The administrator's own credential.
    pub(crate) fn admin_credential(&self) -> &Credential {
        &self.admin
    }

    /// Applies a shipped profile with the command line.
    pub(crate) async fn apply(&self, profile: &str) {
        let file = format!("deploy/profiles/{profile}.toml");
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_keyward"));
        command
            .args(["apply", &file, "--server", &self.grpc()])
            .env("KEYWARD_CLIENT_ID", &self.admin.client_id)
            .env("KEYWARD_CLIENT_SECRET", &self.admin.secret)
            .current_dir(env!("CARGO_MANIFEST_DIR"));
        let output = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{file}: {errors}");
    }

    /// Its clock, for others that share it.
    pub(crate) fn clock(&self) -> Clock {
        self.clock.clone()
    }

    /// Moves time forward.
    pub(crate) fn advance(&self, seconds: u64) {
        self.clock.advance(Duration::from_secs(seconds));
    }

    /// The server's time.
    pub(crate) fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// Stops the server.
    pub(crate) async fn stop(mut self) {
        self.server.take().unwrap().shutdown().await;
    }

    /// Stops the server and starts it again with the same data.
    pub(crate) async fn restart(&mut self) {
        let settings = self.settings.clone();
        self.restart_with(&settings).await;
    }

    /// Like [`restart`](Self::restart), with changed settings.
    pub(crate) async fn restart_with(&mut self, settings: &[(&'static str, String)]) {
        self.server.take().unwrap().shutdown().await;
        let config = config(self.folder.path(), self.database.as_deref(), settings);
        self.server = Some(started(&config, &self.clock).await.unwrap());
    }
}

impl Keyward {
    /// Runs SQL in the server's database, as the user of `url` or as the owner.
    pub(crate) async fn sql(&self, sql: &'static str, url: Option<&str>) -> sqlx::Result<()> {
        if let Some(url) = url.or(self.database.as_deref()) {
            let mut connection = PgConnection::connect(url).await?;
            return sqlx::raw_sql(sql).execute(&mut connection).await.map(drop);
        }
        let file = self.folder.path().join("keyward.db");
        let mut connection = SqliteConnection::connect(file.to_str().unwrap()).await?;
        sqlx::raw_sql(sql).execute(&mut connection).await.map(drop)
    }

    /// The URL of its PostgreSQL for another user.
    pub(crate) fn database_as(&self, user: &str) -> String {
        let url = self.database.as_ref().expect("this one is on PostgreSQL");
        url.replacen("//keyward@", &format!("//{user}@"), 1)
    }

    /// All stored bytes: SQLite's files, or all rows of PostgreSQL.
    pub(crate) async fn stored_bytes(&self) -> Vec<u8> {
        let Some(url) = &self.database else {
            let mut bytes = Vec::new();
            for file in ["keyward.db", "keyward.db-wal"] {
                bytes.extend(std::fs::read(self.folder.path().join(file)).unwrap_or_default());
            }
            return bytes;
        };
        let mut connection = PgConnection::connect(url).await.unwrap();
        let tables: Vec<String> = sqlx::query_scalar(
            "select table_name::text from information_schema.tables where table_schema = 'public'",
        )
        .fetch_all(&mut connection)
        .await
        .unwrap();
        let mut bytes = Vec::new();
        for table in tables {
            let rows = sqlx::AssertSqlSafe(format!("select t::text from {table} t"));
            let rows: Vec<String> =
                sqlx::query_scalar(rows).fetch_all(&mut connection).await.unwrap();
            bytes.extend(rows.concat().into_bytes());
        }
        bytes
    }
}

/// Fails if a text contains a secret.
pub(crate) fn secret_free(text: &str) {
    for prefix in ["kws_", "kwk_", "eyJ"] {
        assert!(!text.contains(prefix), "a secret stands in: {text}");
    }
}
