//! The table of endpoint rules.

use sqlx::FromRow;

use super::row::{RowRef, limits, limits_text};
use super::{FoundResources, Session, Tx, execute, list_rows, list_values, one_value};
use crate::domain::{
    Endpoint, HttpMethod, NeededScopes, Page, PageRequest, PathTemplate, ScopeId, ScopeSet,
    TenantId,
};
use crate::error::{Error, Result};

#[derive(FromRow)]
struct EndpointRow {
    method: String,
    path: String,
    all_of: String,
    any_of: String,
    limits: Option<String>,
    description: String,
}

/// Statements name their columns, because a replica of the previous version may run on a schema
/// with more columns.
macro_rules! select {
    ($rest:literal) => {
        concat!(
            "select method, path, all_of, any_of, limits, description from endpoints \
             where tenant_id = $1 ",
            $rest
        )
    };
}

/// The rules that need a scope: removing it from their list of scopes changes the list.
macro_rules! rules_with_scope {
    () => {
        "from endpoints where tenant_id = $1 and ' ' || all_of || ' ' || any_of || ' ' \
         <> replace(' ' || all_of || ' ' || any_of || ' ', ' ' || $2 || ' ', '')"
    };
}

impl EndpointRow {
    fn endpoint(self) -> Result<Endpoint> {
        let key = format!("{} {}", self.method, self.path);
        let at = RowRef { table: "endpoints", key: &key };
        Ok(Endpoint {
            method: at.column("method", HttpMethod::parse(&self.method))?,
            path: at.column("path", PathTemplate::parse(&self.path))?,
            needs: NeededScopes {
                all_of: at.column("all_of", ScopeSet::parse(&self.all_of))?,
                any_of: at.column("any_of", ScopeSet::parse(&self.any_of))?,
            },
            limits: limits(at, "limits", self.limits.as_deref())?,
            description: self.description,
        })
    }
}

impl Session {
    /// All rules of a tenant, by path and then method. Each change of them also changes the
    /// tenant's revision.
    pub async fn endpoints(&mut self, tenant: &TenantId) -> Result<Vec<Endpoint>> {
        const SQL: &str = select!("order by path, method");
        let rows: Vec<EndpointRow> = list_rows!(self, SQL, tenant.as_str())?;
        rows.into_iter().map(EndpointRow::endpoint).collect()
    }

    /// A page of a tenant's rules, by path and then method.
    pub async fn list_endpoints(
        &mut self,
        tenant: &TenantId,
        page: &PageRequest,
    ) -> Result<Page<Endpoint>> {
        const SQL: &str = select!("and (path, method) > ($2, $3) order by path, method limit $4");
        // The key is "METHOD PATH". A method has no spaces.
        let after = page.after.as_deref().map_or(Some(("", "")), |key| key.split_once(' '));
        let (method, path) = after.ok_or(Error::InvalidPageToken)?;
        let rows: Vec<EndpointRow> =
            list_rows!(self, SQL, tenant.as_str(), path, method, page.limit())?;
        let endpoints = rows.into_iter().map(EndpointRow::endpoint).collect::<Result<_>>()?;
        Ok(page.page(endpoints, |rule: &Endpoint| format!("{} {}", rule.method, rule.path)))
    }

    /// The rules that need a scope.
    pub async fn endpoints_with_scope(&mut self, scope: &ScopeId) -> Result<FoundResources> {
        const COUNT: &str = concat!("select count(*) ", rules_with_scope!());
        const FIRST: &str = concat!(
            "select 'tenants/' || tenant_id || '/endpoints/' || method || ' ' || path ",
            rules_with_scope!(),
            " order by path, method limit 10"
        );
        let (tenant, scope) = (scope.tenant.as_str(), scope.scope.as_str());
        Ok(FoundResources {
            count: one_value!(self, COUNT, tenant, scope)?,
            first: list_values!(self, FIRST, tenant, scope)?,
        })
    }
}

impl Tx {
    /// Adds a rule, or replaces the one with the same method and path.
    pub async fn write_endpoint(&mut self, tenant: &TenantId, rule: &Endpoint) -> Result<()> {
        const SQL: &str = "insert into endpoints (tenant_id, method, path, all_of, any_of, \
            limits, description) values ($1, $2, $3, $4, $5, $6, $7) \
            on conflict (tenant_id, path, method) do update set all_of = $4, any_of = $5, \
            limits = $6, description = $7";
        execute!(
            self,
            SQL,
            tenant.as_str(),
            rule.method.as_str(),
            rule.path.as_str(),
            rule.needs.all_of.to_string(),
            rule.needs.any_of.to_string(),
            limits_text(rule.limits),
            &rule.description
        )
        .map(drop)
    }

    pub async fn delete_endpoint(&mut self, tenant: &TenantId, rule: &Endpoint) -> Result<()> {
        const SQL: &str =
            "delete from endpoints where tenant_id = $1 and method = $2 and path = $3";
        execute!(self, SQL, tenant.as_str(), rule.method.as_str(), rule.path.as_str()).map(drop)
    }
}
