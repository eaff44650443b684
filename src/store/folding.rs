//! The folded form of display names, which is searched. Servers fold the names, because SQL has no
//! Unicode case folding.

use super::{Session, Tx, execute, list_rows, one_value};
use crate::domain::folding::fold;
use crate::error::Result;

/// The form in which display names are searched and sorted.
pub(super) fn search_name(display_name: &str) -> String {
    fold(display_name)
}

/// The column `folded_from`: the display name that was folded. Null for ASCII names, which every
/// version folds in the same way.
pub(super) fn folded_from(display_name: &str) -> Option<&str> {
    (!display_name.is_ascii()).then_some(display_name)
}

/// The rows that were written by a version without folding. An index has the same condition.
const SQLITE: &str = "length(display_name) <> length(cast(display_name as blob)) \
    and folded_from is not display_name";
const POSTGRES: &str = "char_length(display_name) <> octet_length(display_name) \
    and folded_from is distinct from display_name";

impl Session {
    /// Whether an application has a name that is not folded.
    pub async fn has_unfolded_names(&mut self) -> Result<bool> {
        Ok(self.count_unfolded_names(1).await? > 0)
    }

    /// How many applications have a name that is not folded, up to `max`.
    pub async fn count_unfolded_names(&mut self, max: i64) -> Result<i64> {
        let unfolded = if self.is_postgres() { POSTGRES } else { SQLITE };
        let sql = format!(
            "select count(*) from (select 1 from applications where {unfolded} limit $1) x"
        );
        one_value!(self, sqlx::AssertSqlSafe(sql), max)
    }
}

impl Tx {
    /// Folds up to `max` names that are not folded, and returns how many. Skips rows that another
    /// server is writing or folding, so that servers do not wait for each other.
    pub async fn fold_names(&mut self, max: i64) -> Result<usize> {
        const UPDATE: &str = "update applications set search_name = $1, folded_from = $2 \
            where tenant_id = $3 and id = $4 and display_name = $2";
        let (unfolded, locked) =
            if self.is_postgres() { (POSTGRES, "for update skip locked") } else { (SQLITE, "") };
        let sql = format!(
            "select tenant_id, id, display_name from applications where {unfolded} \
             order by tenant_id, id limit $1 {locked}"
        );
        let rows: Vec<(String, String, String)> = list_rows!(self, sqlx::AssertSqlSafe(sql), max)?;
        for (tenant, id, name) in &rows {
            execute!(self, UPDATE, search_name(name), name, tenant, id)?;
        }
        Ok(rows.len())
    }
}
