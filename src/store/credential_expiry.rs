//! Counts credentials by when they expire.

use jiff::Timestamp;

use super::{Session, one_value};
use crate::error::Result;

impl Session {
    /// The number of enabled credentials that expire in this time, and at most `max`. The index
    /// `credentials_by_end` has exactly these rows.
    pub async fn count_expiring(
        &mut self,
        from: Timestamp,
        to: Timestamp,
        max: i64,
    ) -> Result<i64> {
        const SQL: &str = "select count(*) from (select 1 from credentials \
            where expires_at is not null and not disabled \
            and expires_at >= $1 and expires_at < $2 limit $3) counted";
        one_value!(self, SQL, from.as_microsecond(), to.as_microsecond(), max)
    }
}
