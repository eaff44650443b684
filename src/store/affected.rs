//! Resources that lose rights because another resource changes: applications, whose tokens are
//! revoked, users and roles. One statement changes all of them. Another adds an audit event for
//! each.

use jiff::Timestamp;

use super::audit::changes_column;
use super::{Tx, execute};
use crate::domain::{AuditEvent, NewRevocation, Outcome, RoleName, ScopeId, UserName};
use crate::error::Result;

/// Resources that lose rights because another resource changes.
#[derive(Clone, Copy, Debug)]
pub enum Affected<'a> {
    /// The applications that have a scope, directly or through a role.
    ApplicationsWithScope(&'a ScopeId),
    /// The applications that have a role, or whose owner has it.
    ApplicationsWithRole(&'a RoleName),
    /// The applications that a user owns.
    ApplicationsOf(&'a UserName),
    /// The roles that allow a scope.
    RolesWithScope(&'a ScopeId),
    /// The users who have a role.
    UsersWithRole(&'a RoleName),
}

macro_rules! applications_with_scope {
    () => {
        "applications as x where x.tenant_id = $1 and (x.id in (select application_id \
           from application_scopes where tenant_id = $1 and scope = $2) \
         or x.id in (select h.application_id from application_roles h \
           join roles r on r.tenant_id = h.tenant_id and r.id = h.role_id \
           where h.tenant_id = $1 and (r.all_scopes or exists (select 1 from role_scopes g \
             where g.tenant_id = $1 and g.role_id = r.id and g.scope = $2))))"
    };
}

macro_rules! applications_with_role {
    () => {
        "applications as x where x.tenant_id = $1 and (x.owner_user_id in (select user_id \
           from user_roles where tenant_id = $1 and role_id = $2) \
         or x.id in (select application_id from application_roles \
           where tenant_id = $1 and role_id = $2))"
    };
}

macro_rules! applications_of {
    () => {
        "applications as x where x.tenant_id = $1 and x.owner_user_id = $2"
    };
}

macro_rules! roles_with_scope {
    () => {
        "roles as x where x.tenant_id = $1 and x.id in \
         (select role_id from role_scopes where tenant_id = $1 and scope = $2)"
    };
}

macro_rules! users_with_role {
    () => {
        "users as x where x.tenant_id = $1 and x.id in \
         (select user_id from user_roles where tenant_id = $1 and role_id = $2)"
    };
}

/// An audit event for each row, with the next numbers.
macro_rules! audit_each {
    ($collection:literal, $rows:expr) => {
        concat!(
            "insert into audit_events (tenant_id, number, at, service, user_name, source_address, \
             action, refused, detail, changes, resource) select $1, \
             (select coalesce(max(number), 0) from audit_events where tenant_id = $1) \
               + row_number() over (order by x.id), $3, $4, $5, $6, $7, $8, $9, $10, \
             'tenants/' || x.tenant_id || '/",
            $collection,
            "/' || x.id from ",
            $rows
        )
    };
}

impl<'a> Affected<'a> {
    /// The tenant, and the key that the rows are found by.
    fn key(self) -> (&'a str, &'a str) {
        match self {
            Self::ApplicationsWithScope(id) | Self::RolesWithScope(id) => {
                (id.tenant.as_str(), id.scope.as_str())
            }
            Self::ApplicationsWithRole(name) | Self::UsersWithRole(name) => {
                (name.tenant.as_str(), name.role.as_str())
            }
            Self::ApplicationsOf(name) => (name.tenant.as_str(), name.user.as_str()),
        }
    }
}

/// A new revision of each row. `$first` sets other columns.
macro_rules! change_each {
    ($table:literal, $first:literal, $rows:expr) => {
        concat!(
            "update ",
            $table,
            " set ",
            $first,
            "revision = revision + 1, updated_at = $3 where tenant_id = $1 and id in (select x.id \
             from ",
            $rows,
            ")"
        )
    };
}

/// A revocation for each row, with the next numbers. `$1` and `$2` find the rows.
macro_rules! revoke_each {
    ($rows:expr) => {
        concat!(
            "insert into revocations (number, kind, subject, epoch, revoked_at, expires_at) \
             select (select last_number from revocation_feed) \
               + row_number() over (order by x.id), 'application', \
             'tenants/' || x.tenant_id || '/applications/' || x.id, x.epoch + 1, $3, $4 from ",
            $rows
        )
    };
}

impl Tx {
    /// Adds a revocation for each affected application, and returns how many. Call it before
    /// [`Tx::change_affected`].
    pub async fn revoke_affected(&mut self, affected: Affected<'_>, now: Timestamp) -> Result<u64> {
        let sql = match affected {
            Affected::ApplicationsWithScope(_) => revoke_each!(applications_with_scope!()),
            Affected::ApplicationsWithRole(_) => revoke_each!(applications_with_role!()),
            Affected::ApplicationsOf(_) => revoke_each!(applications_of!()),
            Affected::RolesWithScope(_) | Affected::UsersWithRole(_) => return Ok(0),
        };
        // This locks the feed, so that the statement below can use the next numbers.
        self.reserve_revocation_numbers(0).await?;
        let (tenant, key) = affected.key();
        let end = NewRevocation::end(now).max(self.last_token_expiry(now).await?);
        let count = execute!(self, sql, tenant, key, now.as_microsecond(), end.as_microsecond())?;
        self.reserve_revocation_numbers(i64::try_from(count).unwrap_or(i64::MAX)).await?;
        Ok(count)
    }

    /// Gives each resource a new revision, and raises the epochs of applications.
    pub async fn change_affected(&mut self, affected: Affected<'_>, now: Timestamp) -> Result<()> {
        let sql = match affected {
            Affected::ApplicationsWithScope(_) => {
                change_each!("applications", "epoch = epoch + 1, ", applications_with_scope!())
            }
            Affected::ApplicationsWithRole(_) => {
                change_each!("applications", "epoch = epoch + 1, ", applications_with_role!())
            }
            Affected::ApplicationsOf(_) => {
                change_each!("applications", "epoch = epoch + 1, ", applications_of!())
            }
            Affected::RolesWithScope(_) => change_each!("roles", "", roles_with_scope!()),
            Affected::UsersWithRole(_) => change_each!("users", "", users_with_role!()),
        };
        let (tenant, key) = affected.key();
        execute!(self, sql, tenant, key, now.as_microsecond()).map(drop)
    }

    /// Adds an audit event for each resource, with the resource's own name.
    pub async fn audit_affected(
        &mut self,
        affected: Affected<'_>,
        event: &AuditEvent,
    ) -> Result<()> {
        let sql = match affected {
            Affected::ApplicationsWithScope(_) => {
                audit_each!("applications", applications_with_scope!())
            }
            Affected::ApplicationsWithRole(_) => {
                audit_each!("applications", applications_with_role!())
            }
            Affected::ApplicationsOf(_) => audit_each!("applications", applications_of!()),
            Affected::RolesWithScope(_) => audit_each!("roles", roles_with_scope!()),
            Affected::UsersWithRole(_) => audit_each!("users", users_with_role!()),
        };
        let (tenant, key) = affected.key();
        execute!(
            self,
            sql,
            tenant,
            key,
            event.at.as_microsecond(),
            &event.actor.service,
            event.actor.user.as_ref().map(ToString::to_string),
            event.actor.address.as_deref(),
            &event.action,
            event.outcome == Outcome::Refused,
            &event.detail,
            changes_column(event)?
        )
        .map(drop)
    }
}
