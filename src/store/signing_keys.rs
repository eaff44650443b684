//! The table of sealed signing keys.

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

impl Tx {
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
