//! The schema of the database: which versions of Keyward can use it, how it is migrated, and how a
//! server waits for that. The rules for migrations are in `migrations/README.md`.

mod postgres;
mod progress;
mod sqlite;
mod state;
mod wait;

use std::time::Duration;

use sqlx::migrate::{Migration, Migrator};

pub(super) use postgres::PostgresMigrator;
pub use progress::SchemaProgress;
pub(super) use sqlite::SqliteMigrator;
pub(super) use state::{Applied, newest};
pub use state::{SchemaReport, SchemaState};

use crate::domain::Fault;
use crate::error::{Error, Result};

static SQLITE: Migrator = sqlx::migrate!("migrations/sqlite");
static POSTGRES: Migrator = sqlx::migrate!("migrations/postgres");

/// The migrations of this version of Keyward, in order.
pub(super) fn sqlite_migrations() -> &'static [Migration] {
    &SQLITE.migrations
}

pub(super) fn postgres_migrations() -> &'static [Migration] {
    &POSTGRES.migrations
}

/// Who migrates the schema.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MigrationMode {
    /// Each process that opens the database, one at a time.
    Auto,
    /// `keyward migrate`. A server waits until it has.
    Wait,
}

impl MigrationMode {
    /// Parses `auto` or `wait`.
    pub fn parse(text: &str) -> Result<Self, Fault> {
        match text {
            "auto" => Ok(Self::Auto),
            "wait" => Ok(Self::Wait),
            _ => Err(Fault::new("must be auto or wait")),
        }
    }
}

/// How the schema is brought up to date.
#[derive(Clone, Copy, Debug)]
pub struct SchemaOptions {
    pub mode: MigrationMode,
    /// How long to wait without progress: for another process that migrates, or for a lock.
    pub max_wait: Duration,
}

/// This version of Keyward cannot use the schema. A retry does not help.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{0}")]
pub struct UnsupportedSchema(String);

impl SchemaState {
    /// Whether migrations are missing. It is an error if this version cannot use the schema.
    pub(super) fn needs_migration(self) -> Result<bool> {
        match self {
            Self::Current(_) | Self::Ahead { .. } => Ok(false),
            Self::Empty | Self::Behind { .. } => Ok(true),
            Self::TooNew { .. } | Self::Different(_) => {
                let refusal = format!("{self}; nothing was changed");
                Err(Error::Internal(Box::new(UnsupportedSchema(refusal))))
            }
        }
    }
}
