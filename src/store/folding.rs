//! Names in tables as they are searched: folded by servers, since SQL has no folding.

use super::{Session, Tx, execute, list_rows, one_value};
use crate::domain::folding::fold;
use crate::error::Result;

/// The form in which display names are searched and put in order.
pub(super) fn search_name(display_name: &str) -> String {
    fold(display_name)
}

/// What is written down as that which a search name was folded from. All ASCII needs no note:
/// every version folds it alike.
pub(super) fn folded_from(display_name: &str) -> Option<&str> {
    (!display_name.is_ascii()).then_some(display_name)
}

/// The rows that a version without the folding has written, as the index has them.
const SQLITE: &str = "length(display_name) <> length(cast(display_name as blob)) \
    and folded_from is not display_name";
const POSTGRES: &str = "char_length(display_name) <> octet_length(display_name) \
    and folded_from is distinct from display_name";

impl Session {
    /// Whether there are names that are not folded.
    pub async fn has_unfolded_names(&mut self) -> Result<bool> {
        let unfolded = if self.is_postgres() { POSTGRES } else { SQLITE };
        let sql =
            format!("select count(*) from (select 1 from applications where {unfolded} limit 1) x");
        let count: i64 = one_value!(self, sqlx::AssertSqlSafe(sql))?;
        Ok(count > 0)
    }
}

impl Tx {
    /// Folds names that are not, so many at most; how many. What another server is writing or
    /// folding is left to it, so that none waits for the other.
    pub async fn fold_names(&mut self, most: i64) -> Result<usize> {
        const UPDATE: &str = "update applications set search_name = $1, folded_from = $2 \
            where tenant_id = $3 and id = $4 and display_name = $2";
        let (unfolded, locked) =
            if self.is_postgres() { (POSTGRES, "for update skip locked") } else { (SQLITE, "") };
        let sql = format!(
            "select tenant_id, id, display_name from applications where {unfolded} \
             order by tenant_id, id limit $1 {locked}"
        );
        let rows: Vec<(String, String, String)> = list_rows!(self, sqlx::AssertSqlSafe(sql), most)?;
        for (tenant, id, name) in &rows {
            execute!(self, UPDATE, search_name(name), name, tenant, id)?;
        }
        Ok(rows.len())
    }
}
