//! The tables of signing keys: `signing_keys` with the private keys that sign or will sign, and
//! `signing_key_history` with a row for each key that ever was.

use jiff::Timestamp;
use sqlx::FromRow;

use super::{Session, Tx, execute, list_rows};
use crate::clock::from_microsecond;
use crate::error::Result;

/// A sealed signing key. Only the module `keys` can unseal it.
#[derive(Clone, Debug)]
pub struct SealedSigningKey {
    /// The generation: 1, 2, 3 …
    pub generation: i64,
    /// The key id (`kid`).
    pub id: String,
    /// The name of its JWS algorithm.
    pub algorithm: String,
    /// The private key, sealed.
    pub sealed_private_key: String,
    /// The time at which the key was created.
    pub created_at: Timestamp,
    /// The time from which the key signs tokens, until a newer key is active.
    pub activates_at: Timestamp,
}

/// What is stored of a signing key, in either table.
#[derive(Clone, Debug)]
pub struct StoredSigningKey {
    pub generation: i64,
    /// The key id (`kid`).
    pub id: String,
    /// The name of its JWS algorithm.
    pub algorithm: String,
    pub created_at: Timestamp,
    pub activates_at: Timestamp,
    /// When it was withdrawn before it signed.
    pub retired_at: Option<Timestamp>,
    pub revoked_at: Option<Timestamp>,
    /// `None`: it was erased.
    pub sealed_private_key: Option<String>,
    /// `None`: it is no longer published, or has no row in the history yet.
    pub sealed_public_key: Option<String>,
    /// Whether it has a row in the history. A server of an older version writes none.
    pub is_recorded: bool,
}

#[derive(FromRow)]
struct StoredSigningKeyRow {
    generation: i64,
    id: String,
    algorithm: String,
    created_at: i64,
    activates_at: i64,
    retired_at: Option<i64>,
    revoked_at: Option<i64>,
    sealed_private_key: Option<String>,
    sealed_public_key: Option<String>,
    recorded_id: Option<String>,
}

impl From<StoredSigningKeyRow> for StoredSigningKey {
    fn from(row: StoredSigningKeyRow) -> Self {
        Self {
            generation: row.generation,
            id: row.id,
            algorithm: row.algorithm,
            created_at: from_microsecond(row.created_at),
            activates_at: from_microsecond(row.activates_at),
            retired_at: row.retired_at.map(from_microsecond),
            revoked_at: row.revoked_at.map(from_microsecond),
            sealed_private_key: row.sealed_private_key,
            sealed_public_key: row.sealed_public_key,
            is_recorded: row.recorded_id.is_some(),
        }
    }
}

/// Both tables in one statement, so that they belong to one moment.
macro_rules! stored_keys {
    ($condition:literal) => {
        concat!(
            "select coalesce(h.generation, k.generation) as generation, \
             coalesce(h.id, k.id) as id, coalesce(h.algorithm, k.algorithm) as algorithm, \
             coalesce(h.created_at, k.created_at) as created_at, \
             coalesce(k.activates_at, h.activates_at) as activates_at, h.retired_at, h.revoked_at, \
             k.sealed_private_key, h.sealed_public_key, h.id as recorded_id \
             from signing_key_history h full join signing_keys k on k.id = h.id",
            $condition,
            " order by 1, 4"
        )
    };
}

#[derive(FromRow)]
struct SigningKeyRow {
    generation: i64,
    id: String,
    algorithm: String,
    sealed_private_key: String,
    created_at: i64,
    activates_at: i64,
}

impl From<SigningKeyRow> for SealedSigningKey {
    fn from(row: SigningKeyRow) -> Self {
        Self {
            generation: row.generation,
            id: row.id,
            algorithm: row.algorithm,
            sealed_private_key: row.sealed_private_key,
            created_at: from_microsecond(row.created_at),
            activates_at: from_microsecond(row.activates_at),
        }
    }
}

impl Session {
    /// All signing keys, oldest first.
    pub async fn list_signing_keys(&mut self) -> Result<Vec<SealedSigningKey>> {
        const SQL: &str = "select generation, id, algorithm, sealed_private_key, created_at, \
            activates_at from signing_keys order by generation";
        let rows: Vec<SigningKeyRow> = list_rows!(self, SQL)?;
        Ok(rows.into_iter().map(Into::into).collect())
    }
}

impl Session {
    /// The keys that are needed: they sign, will sign, are published or were revoked. Oldest first.
    pub async fn list_needed_signing_keys(&mut self) -> Result<Vec<StoredSigningKey>> {
        const SQL: &str = stored_keys!(
            " where k.id is not null or h.sealed_public_key is not null or h.revoked_at is not null"
        );
        let rows: Vec<StoredSigningKeyRow> = list_rows!(self, SQL)?;
        Ok(rows.into_iter().map(Into::into).collect())
    }

    /// Every key that ever was, oldest first.
    pub async fn list_stored_signing_keys(&mut self) -> Result<Vec<StoredSigningKey>> {
        const SQL: &str = stored_keys!("");
        let rows: Vec<StoredSigningKeyRow> = list_rows!(self, SQL)?;
        Ok(rows.into_iter().map(Into::into).collect())
    }
}

impl Tx {
    /// Adds a key's row to the history; `false` if it has one.
    pub async fn record_signing_key(&mut self, key: &StoredSigningKey) -> Result<bool> {
        const SQL: &str = "insert into signing_key_history (id, generation, algorithm, \
            sealed_public_key, created_at, activates_at) values ($1, $2, $3, $4, $5, $6) \
            on conflict do nothing";
        execute!(
            self,
            SQL,
            &key.id,
            key.generation,
            &key.algorithm,
            &key.sealed_public_key,
            key.created_at.as_microsecond(),
            key.activates_at.as_microsecond()
        )
        .map(|rows| rows == 1)
    }

    /// Changes when a key activates; `false` if it is another time than was read, or the private
    /// key is gone.
    pub async fn move_signing_key(
        &mut self,
        id: &str,
        from: Timestamp,
        to: Timestamp,
    ) -> Result<bool> {
        const KEY: &str =
            "update signing_keys set activates_at = $3 where id = $1 and activates_at = $2";
        const RECORD: &str = "update signing_key_history set activates_at = $2 where id = $1";
        let moved = execute!(self, KEY, id, from.as_microsecond(), to.as_microsecond())? == 1;
        if moved {
            execute!(self, RECORD, id, to.as_microsecond())?;
        }
        Ok(moved)
    }

    /// Withdraws a key that has not signed.
    pub async fn retire_signing_key(&mut self, id: &str, at: Timestamp) -> Result<()> {
        const SQL: &str = "update signing_key_history set retired_at = $2 where id = $1";
        execute!(self, SQL, id, at.as_microsecond()).map(drop)
    }

    /// Revokes a key, and erases it.
    pub async fn revoke_signing_key(&mut self, id: &str, at: Timestamp) -> Result<()> {
        const SQL: &str = "update signing_key_history set revoked_at = $2, \
            sealed_public_key = null where id = $1";
        execute!(self, SQL, id, at.as_microsecond())?;
        self.erase_signing_key(id).await.map(drop)
    }

    /// Erases a private key; `false` if there was none.
    pub async fn erase_signing_key(&mut self, id: &str) -> Result<bool> {
        const SQL: &str = "delete from signing_keys where id = $1";
        execute!(self, SQL, id).map(|rows| rows == 1)
    }

    /// Removes a public key that is no longer published; `false` if there was none.
    pub async fn unpublish_signing_key(&mut self, id: &str) -> Result<bool> {
        const SQL: &str = "update signing_key_history set sealed_public_key = null \
            where id = $1 and sealed_public_key is not null";
        execute!(self, SQL, id).map(|rows| rows == 1)
    }

    /// Adds a signing key; `false` if another replica has already added this generation.
    pub async fn insert_signing_key(&mut self, key: &SealedSigningKey) -> Result<bool> {
        const SQL: &str = "insert into signing_keys (generation, id, algorithm, \
            sealed_private_key, created_at, activates_at) values ($1, $2, $3, $4, $5, $6) \
            on conflict do nothing";
        execute!(
            self,
            SQL,
            key.generation,
            &key.id,
            &key.algorithm,
            &key.sealed_private_key,
            key.created_at.as_microsecond(),
            key.activates_at.as_microsecond()
        )
        .map(|rows| rows == 1)
    }
}
