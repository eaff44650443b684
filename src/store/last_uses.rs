//! Copies of last uses beside the names of applications, where searches sort by them. Triggers copy
//! each use. What was used before they existed is copied in batches, after the migration.

use std::collections::BTreeSet;

use super::row::RowRef;
use super::{Session, Tx, execute, find_row, list_rows, one_value};
use crate::domain::TenantId;
use crate::error::Result;

impl Session {
    /// How many applications may have a last use that is not copied, up to `max`.
    pub async fn count_uncopied_last_uses(&mut self, max: i64) -> Result<i64> {
        const SQL: &str = "select count(*) from (select 1 from copied_last_uses c \
            cross join application_names n where c.finished = $2 \
              and (n.tenant_id, n.application_id) > (c.tenant_id, c.application_id) limit $1) x";
        one_value!(self, SQL, max, false)
    }
}

impl Tx {
    /// Copies the last uses of up to `max` more applications. Returns how many they are; 0 if none
    /// is left, or another server copies them.
    pub async fn copy_last_uses(&mut self, max: i64) -> Result<usize> {
        const NEXT: &str = "select tenant_id, application_id from application_names \
            where (tenant_id, application_id) > ($1, $2) \
            order by tenant_id, application_id limit $3";
        const COPY: &str = "update application_names set last_used_at = \
              (select l.last_used_at from application_uses l \
                where l.tenant_id = application_names.tenant_id \
                  and l.application_id = application_names.application_id) \
            where last_used_at is null and (tenant_id, application_id) > ($1, $2) \
              and (tenant_id, application_id) <= ($3, $4)";
        const ADVANCE: &str = "update copied_last_uses \
            set tenant_id = $1, application_id = $2, finished = $3";
        let place = if self.is_postgres() {
            "select tenant_id, application_id from copied_last_uses where finished = $1 \
             for update skip locked"
        } else {
            "select tenant_id, application_id from copied_last_uses where finished = $1"
        };
        let place: Option<(String, String)> = find_row!(self, place, false)?;
        let Some((tenant, application)) = place else { return Ok(0) };
        let next: Vec<(String, String)> = list_rows!(self, NEXT, tenant, application, max)?;
        let Some((last_tenant, last)) = next.last() else { return Ok(0) };
        // Uses are written under the locks of their tenants. Without these, their triggers and this
        // update could lock the same rows in a different order.
        let at = RowRef { table: "application_names", key: last };
        let tenants: BTreeSet<_> = next.iter().map(|(tenant, _)| tenant.as_str()).collect();
        let tenants: Vec<_> = tenants
            .into_iter()
            .map(|tenant| at.column("tenant_id", TenantId::parse(tenant)))
            .collect::<Result<_>>()?;
        self.lock_tenants(&tenants.iter().collect()).await?;
        execute!(self, COPY, tenant, application, last_tenant, last)?;
        // Those that are created from now on have theirs.
        let is_end = i64::try_from(next.len()).is_ok_and(|count| count < max);
        execute!(self, ADVANCE, last_tenant, last, is_end)?;
        Ok(next.len())
    }
}
