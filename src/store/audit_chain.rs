//! The hash chains of audit logs: the tables `audit_chain`, `audit_heads`, `audit_checkpoints` and
//! `audit_unsealed`.

use sqlx::{AssertSqlSafe, FromRow};

use super::row::RowRef;
use super::{Session, Tx, execute, find_row, list_rows, one_value};
use crate::clock::from_microsecond;
use crate::domain::{
    AuditLog, ChainHash, Fault, Page, PageRequest, PlaceKind, SignedPlace, StoredEvent, TenantId,
};
use crate::error::Result;

/// An event with its stored hash.
#[derive(Debug)]
pub struct ChainedEvent {
    pub event: StoredEvent,
    /// `None`: the event has no hash, or not one of 32 bytes.
    pub hash: Option<ChainHash>,
}

#[derive(FromRow)]
struct ChainedEventRow {
    tenant_id: String,
    number: i64,
    at: i64,
    service: String,
    user_name: Option<String>,
    source_address: Option<String>,
    action: String,
    resource: String,
    refused: bool,
    detail: String,
    changes: String,
    hash: Option<Vec<u8>>,
}

impl ChainedEventRow {
    fn chained(self) -> ChainedEvent {
        ChainedEvent {
            hash: self.hash.as_deref().and_then(ChainHash::from_bytes),
            event: StoredEvent {
                tenant: self.tenant_id,
                number: self.number,
                at: self.at,
                service: self.service,
                user: self.user_name,
                address: self.source_address,
                action: self.action,
                resource: self.resource,
                refused: self.refused,
                detail: self.detail,
                changes: self.changes,
            },
        }
    }
}

/// A row of `audit_heads` or `audit_checkpoints`.
#[derive(FromRow)]
struct PlaceRow {
    number: i64,
    hash: Vec<u8>,
    signed_at: i64,
    public_key: Vec<u8>,
    signature: Vec<u8>,
}

impl PlaceRow {
    fn place(self, kind: PlaceKind, tenant: &TenantId) -> Result<SignedPlace> {
        let at = RowRef { table: table(kind), key: tenant.as_str() };
        let hash = ChainHash::from_bytes(&self.hash).ok_or(Fault::new("must have 32 bytes"));
        Ok(SignedPlace {
            kind,
            tenant: tenant.clone(),
            number: self.number,
            hash: at.column("hash", hash)?,
            at: from_microsecond(self.signed_at),
            public_key: self.public_key,
            signature: self.signature,
        })
    }
}

fn table(kind: PlaceKind) -> &'static str {
    match kind {
        PlaceKind::Head => "audit_heads",
        PlaceKind::Checkpoint => "audit_checkpoints",
    }
}

/// The name of an event's resource without its last collection and id; empty if it has one alone.
/// `rtrim` with all characters except the slash removes the last part. Written so that both databases
/// understand it.
const PARENT: &str = "rtrim(rtrim(rtrim(rtrim(resource, replace(resource, '/', '')), '/'), \
    replace(resource, '/', '')), '/')";

impl Session {
    /// Up to `max` events with numbers above `after` and up to `through`.
    pub async fn chained_events(
        &mut self,
        tenant: &TenantId,
        after: i64,
        through: i64,
        max: i64,
    ) -> Result<Vec<ChainedEvent>> {
        // Not a join: without statistics about a chain that grows fast, PostgreSQL would read all of
        // it for each batch.
        const SQL: &str = "select e.tenant_id, e.number, e.at, e.service, e.user_name, \
            e.source_address, e.action, e.resource, e.refused, e.detail, e.changes, \
            (select hash from audit_chain c \
              where c.tenant_id = e.tenant_id and c.number = e.number) as hash \
            from audit_events e \
            where e.tenant_id = $1 and e.number > $2 and e.number <= $3 \
            order by e.number limit $4";
        let rows: Vec<ChainedEventRow> =
            list_rows!(self, SQL, tenant.as_str(), after, through, max)?;
        Ok(rows.into_iter().map(ChainedEventRow::chained).collect())
    }

    /// The hash of an event, if it is in the chain.
    pub async fn chain_hash(
        &mut self,
        tenant: &TenantId,
        number: i64,
    ) -> Result<Option<ChainHash>> {
        const SQL: &str = "select hash from audit_chain where tenant_id = $1 and number = $2";
        let row: Option<(Vec<u8>,)> = find_row!(self, SQL, tenant.as_str(), number)?;
        Ok(row.and_then(|(hash,)| ChainHash::from_bytes(&hash)))
    }

    /// The signed head or checkpoint of a tenant.
    pub async fn signed_place(
        &mut self,
        kind: PlaceKind,
        tenant: &TenantId,
    ) -> Result<Option<SignedPlace>> {
        let sql = format!(
            "select number, hash, signed_at, public_key, signature from {} where tenant_id = $1",
            table(kind)
        );
        let row: Option<PlaceRow> = find_row!(self, AssertSqlSafe(sql), tenant.as_str())?;
        row.map(|row| row.place(kind, tenant)).transpose()
    }

    /// The state of a tenant's log.
    pub async fn audit_log(&mut self, tenant: &TenantId) -> Result<AuditLog> {
        const SQL: &str = "select (select count(*) from tenants where id = $1), \
            (select coalesce(max(number), 0) from audit_events where tenant_id = $1)";
        let row: Option<(i64, i64)> = find_row!(self, SQL, tenant.as_str())?;
        let (tenants, last_number) = row.unwrap_or_default();
        Ok(AuditLog {
            tenant: tenant.clone(),
            tenant_exists: tenants > 0,
            last_number,
            head: self.signed_place(PlaceKind::Head, tenant).await?,
            checkpoint: self.signed_place(PlaceKind::Checkpoint, tenant).await?,
        })
    }

    /// A page of the logs of all tenants, by tenant id. Tenants are counted from their own table
    /// too, so that a deleted log is found.
    pub async fn list_audit_logs(&mut self, page: &PageRequest) -> Result<Page<AuditLog>> {
        const SQL: &str = "select id from (select id from tenants where id > $1 \
            union select tenant_id from audit_heads where tenant_id > $1 \
            union select tenant_id from audit_unsealed where tenant_id > $1) x \
            order by id limit $2";
        let after = page.after.as_deref().unwrap_or_default();
        let ids: Vec<(String,)> = list_rows!(self, SQL, after, page.limit())?;
        let mut logs = Vec::with_capacity(ids.len());
        for (id,) in ids {
            let at = RowRef { table: "audit_heads", key: &id };
            let tenant = at.column("tenant_id", TenantId::parse(&id))?;
            logs.push(self.audit_log(&tenant).await?);
        }
        Ok(page.page(logs, |log| log.tenant.to_string()))
    }

    /// Up to `max` tenants after this id that have events that are not in the chain.
    pub async fn unsealed_tenants(&mut self, after: &str, max: i64) -> Result<Vec<TenantId>> {
        const SQL: &str =
            "select tenant_id from audit_unsealed where tenant_id > $1 order by tenant_id limit $2";
        let ids: Vec<(String,)> = list_rows!(self, SQL, after, max)?;
        let tenant = |(id,): (String,)| {
            let at = RowRef { table: "audit_unsealed", key: &id };
            at.column("tenant_id", TenantId::parse(&id))
        };
        ids.into_iter().map(tenant).collect()
    }

    /// Up to `max` tenants after this id whose head or checkpoint is signed with another key.
    pub async fn tenants_signed_by_others(
        &mut self,
        key: &[u8],
        after: &str,
        max: i64,
    ) -> Result<Vec<TenantId>> {
        const SQL: &str = "select tenant_id from (\
              select tenant_id from audit_heads where public_key <> $1 and tenant_id > $2 \
              union select tenant_id from audit_checkpoints \
                where public_key <> $1 and tenant_id > $2) x \
            order by tenant_id limit $3";
        let ids: Vec<(String,)> = list_rows!(self, SQL, key, after, max)?;
        let tenant = |(id,): (String,)| {
            let at = RowRef { table: "audit_heads", key: &id };
            at.column("tenant_id", TenantId::parse(&id))
        };
        ids.into_iter().map(tenant).collect()
    }

    /// How many heads and checkpoints each public key signed.
    pub async fn count_signed_places(&mut self) -> Result<Vec<(Vec<u8>, i64)>> {
        const SQL: &str = "select public_key, count(*) from (\
              select public_key from audit_heads \
              union all select public_key from audit_checkpoints) x group by 1";
        list_rows!(self, SQL)
    }

    /// The time in microseconds of the oldest event that is not in a chain; `None`: all are.
    pub async fn unsealed_since(&mut self) -> Result<Option<i64>> {
        one_value!(self, "select min(since) from audit_unsealed")
    }

    /// Up to `max` tenants after this id whose oldest event is before `end`, microseconds, and has
    /// newer sealed ones after it.
    pub async fn tenants_with_old_events(
        &mut self,
        after: &str,
        end: i64,
        max: i64,
    ) -> Result<Vec<TenantId>> {
        const SQL: &str = "select h.tenant_id from audit_heads h join audit_events e \
            on e.tenant_id = h.tenant_id and e.number = (select min(o.number) \
              from audit_events o where o.tenant_id = h.tenant_id) \
            where h.tenant_id > $1 and e.at < $2 and e.number < h.number \
            order by h.tenant_id limit $3";
        let ids: Vec<(String,)> = list_rows!(self, SQL, after, end, max)?;
        let tenant = |(id,): (String,)| {
            let at = RowRef { table: "audit_heads", key: &id };
            at.column("tenant_id", TenantId::parse(&id))
        };
        ids.into_iter().map(tenant).collect()
    }
}

impl Tx {
    /// Locks the chain of a tenant until the end of the transaction; `false` if another server has
    /// it. Writers of events do not wait for it.
    pub async fn lock_chain(&mut self, tenant: &TenantId) -> Result<bool> {
        // The first number is arbitrary. Only these locks use it.
        const SQL: &str = "select pg_try_advisory_xact_lock(1635083369, hashtext($1))";
        if !self.is_postgres() {
            // SQLite has one writer at a time, so this transaction is the only one.
            return Ok(true);
        }
        one_value!(self, SQL, tenant.as_str())
    }

    /// Adds the hashes of events with consecutive numbers to the chain, the first of which is
    /// `first`.
    pub async fn insert_chain(
        &mut self,
        tenant: &TenantId,
        first: i64,
        hashes: &[ChainHash],
    ) -> Result<()> {
        let hex: String = hashes.iter().map(ToString::to_string).collect();
        let last = first.saturating_add(i64::try_from(hashes.len()).unwrap_or(i64::MAX)) - 1;
        let place = "substr($4, cast((number - $2) * 64 + 1 as integer), 64)";
        let hash = if self.is_postgres() {
            format!("decode({place}, 'hex')")
        } else {
            format!("unhex({place})")
        };
        let sql = format!(
            "insert into audit_chain (tenant_id, number, hash, parent, action) \
             select tenant_id, number, {hash}, {PARENT}, action from audit_events \
             where tenant_id = $1 and number >= $2 and number <= $3 on conflict do nothing"
        );
        execute!(self, AssertSqlSafe(sql), tenant.as_str(), first, last, hex).map(drop)
    }

    /// Sets the head or the checkpoint of a tenant.
    pub async fn set_signed_place(&mut self, place: &SignedPlace) -> Result<()> {
        let sql = format!(
            "insert into {} (tenant_id, number, hash, signed_at, public_key, signature) \
             values ($1, $2, $3, $4, $5, $6) on conflict (tenant_id) do update \
             set number = excluded.number, hash = excluded.hash, \
               signed_at = excluded.signed_at, public_key = excluded.public_key, \
               signature = excluded.signature",
            table(place.kind)
        );
        execute!(
            self,
            AssertSqlSafe(sql),
            place.tenant.as_str(),
            place.number,
            &place.hash.0[..],
            place.at.as_microsecond(),
            &place.public_key[..],
            &place.signature[..]
        )
        .map(drop)
    }

    /// Records that the chain of a tenant has all events up to this number. Waits for transactions
    /// that write events of the tenant, so that none of them is overlooked.
    pub async fn mark_sealed(&mut self, tenant: &TenantId, through: i64) -> Result<()> {
        const DONE: &str = "delete from audit_unsealed where tenant_id = $1 and number <= $2";
        const MORE: &str = "update audit_unsealed set since = coalesce((select at \
            from audit_events where tenant_id = $1 and number > $2 order by number limit 1), since) \
            where tenant_id = $1";
        if execute!(self, DONE, tenant.as_str(), through)? == 0 {
            execute!(self, MORE, tenant.as_str(), through)?;
        }
        Ok(())
    }

    /// Deletes a tenant's events and their hashes up to its checkpoint.
    pub async fn delete_audit_events(&mut self, tenant: &TenantId, through: i64) -> Result<u64> {
        const EVENTS: &str = "delete from audit_events where tenant_id = $1 and number <= $2";
        const CHAIN: &str = "delete from audit_chain where tenant_id = $1 and number <= $2";
        let deleted = execute!(self, EVENTS, tenant.as_str(), through)?;
        execute!(self, CHAIN, tenant.as_str(), through)?;
        Ok(deleted)
    }
}
