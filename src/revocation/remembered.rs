//! Reads the list of revocations that Redis has. It can have revocations that a restored database
//! lacks.

use super::Cursor;
use super::projection::Projection;
use crate::domain::Revocation;
use crate::error::Result;
use crate::redis::Redis;
use crate::secrets::{Authenticator, MasterKeys};

/// The purpose of the key for authentication codes in Redis.
pub(super) const CODES: &str = "list of revocations in Redis";

/// A list of revocations outside the database.
#[derive(Clone, Debug, Default)]
pub struct RememberedList {
    feed: String,
    rows: Vec<Revocation>,
}

impl RememberedList {
    /// Reads the list from Redis. It is empty if Redis has no authentic list.
    pub async fn read(redis: Redis, master_keys: &MasterKeys) -> Result<Self> {
        let codes = Authenticator::new(master_keys, CODES)?;
        let found = Projection::new(redis, codes).everything().await?;
        Ok(found.map(|(feed, rows)| Self { feed, rows }).unwrap_or_default())
    }

    /// The revocations, if the list began in the same database as the list `feed`.
    pub fn of_database(&self, feed: &str) -> &[Revocation] {
        let place = |feed: &str| Cursor { feed: feed.to_owned(), number: 0 };
        let same = place(&self.feed).compare(&place(feed)).is_some();
        if same { &self.rows } else { &[] }
    }
}
