//! Lists of applications: searched, filtered, ordered, page by page.

use jiff::Timestamp;
use sqlx::AssertSqlSafe;

use super::applications::{Row, search_name, select};
use super::row::micros;
use super::{Session, list_rows, list_values, one_value};
use crate::domain::{
    Application, ApplicationFilter, ApplicationKey, ApplicationName, Owners, Page, PageRequest,
    State, TenantId, UserId,
};
use crate::error::{Error, Result};

/// The conditions, as far as they are made; what stands for a condition that is not made
/// is empty or null. A list goes on behind a key and an id.
const CONDITIONS: &str = select!(
    "a.tenant_id = $2 \
     and ((a.owner_user_id is null and $3) or (a.owner_user_id is not null and $4) \
       or a.owner_user_id = $5) \
     and ($6 = '' or a.search_name like $6 escape '\\') \
     and ($7 is null or a.expires_at < $7) \
     and ($8 = '' or $8 = case \
         when a.disabled or (select u.disabled from users u \
           where u.tenant_id = a.tenant_id and u.id = a.owner_user_id) then 'disabled' \
         when a.expires_at <= $9 then 'expired' \
         else 'active' end) "
);

/// The column that an order goes by.
fn column(key: ApplicationKey) -> &'static str {
    match key {
        ApplicationKey::Name => "a.id",
        ApplicationKey::DisplayName => "a.search_name",
        ApplicationKey::CreateTime => "a.created_at",
        ApplicationKey::LastUseTime => "a.last_used_at",
    }
}

/// Where a page ends: the key of its last row (nothing when the order is by id) and its id.
struct Cursor {
    key: String,
    id: String,
}

impl Cursor {
    fn parse(cursor: &str) -> Result<Self> {
        let (id, key) = cursor.split_once(' ').ok_or(Error::InvalidPageToken)?;
        Ok(Self { key: key.to_owned(), id: id.to_owned() })
    }
}

impl Session {
    /// A page of a tenant's applications.
    pub async fn list_applications(
        &mut self,
        tenant: &TenantId,
        filter: &ApplicationFilter,
        page: &PageRequest,
        now: Timestamp,
    ) -> Result<Page<Application>> {
        let column = column(filter.order.key);
        let (beyond, direction) =
            if filter.order.descending { ("<", "desc") } else { (">", "asc") };
        let cursor = page.after.as_deref().map(Cursor::parse).transpose()?;
        let on = match (&cursor, filter.order.key) {
            (None, _) => "$10 = $10 and $11 = $11".to_owned(),
            (Some(_), ApplicationKey::Name) => format!("$10 = $10 and a.id {beyond} $11"),
            (Some(_), _) => format!("({column}, a.id) {beyond} ($10, $11)"),
        };
        let sql = format!(
            "{CONDITIONS} and {on} order by {column} {direction}, a.id {direction} limit $12"
        );
        let Owners { account, users, user } = &filter.owners;
        let state = filter.state.map_or("", |state| match state {
            State::Active => "active",
            State::Disabled => "disabled",
            State::Expired => "expired",
        });
        let cursor = cursor.unwrap_or(Cursor { key: String::new(), id: String::new() });
        // A key is bound as what its column is.
        let number = cursor.key.parse::<i64>().unwrap_or_default();
        macro_rules! rows {
            ($key:expr) => {
                list_rows!(
                    self,
                    AssertSqlSafe(sql),
                    false,
                    tenant.as_str(),
                    *account,
                    *users,
                    user.as_ref().map_or("", UserId::as_str),
                    pattern(&filter.search),
                    micros(filter.expire_before),
                    state,
                    now.as_microsecond(),
                    $key,
                    cursor.id.as_str(),
                    page.limit()
                )
            };
        }
        let rows: Vec<Row> = match filter.order.key {
            ApplicationKey::Name | ApplicationKey::DisplayName => rows!(cursor.key.as_str())?,
            ApplicationKey::CreateTime | ApplicationKey::LastUseTime => rows!(number)?,
        };
        let rows = page.page(rows, |row| row.cursor(filter.order.key));
        let items = rows.items.into_iter().map(Row::application).collect::<Result<_>>()?;
        Ok(Page { items, next: rows.next })
    }

    /// How many applications and credentials a user has, and the first of each by name.
    pub async fn owned_by(&mut self, tenant: &TenantId, owner: &UserId) -> Result<Owned> {
        const APPLICATIONS: &str =
            "select count(*) from applications where tenant_id = $1 and owner_user_id = $2";
        const CREDENTIALS: &str = "select count(*) from credentials c \
            join applications a on a.tenant_id = c.tenant_id and a.id = c.application_id \
            where a.tenant_id = $1 and a.owner_user_id = $2";
        const FIRST_APPLICATIONS: &str = "select 'tenants/' || tenant_id || '/applications/' || id \
            from applications where tenant_id = $1 and owner_user_id = $2 order by id limit 100";
        const FIRST_CREDENTIALS: &str = "select 'tenants/' || a.tenant_id || '/applications/' \
                || a.id || '/credentials/' || c.id \
            from applications a \
            join credentials c on a.tenant_id = c.tenant_id and a.id = c.application_id \
            where a.tenant_id = $1 and a.owner_user_id = $2 order by a.id, c.id limit 100";
        let (tenant, owner) = (tenant.as_str(), owner.as_str());
        Ok(Owned {
            application_count: one_value!(self, APPLICATIONS, tenant, owner)?,
            credential_count: one_value!(self, CREDENTIALS, tenant, owner)?,
            applications: list_values!(self, FIRST_APPLICATIONS, tenant, owner)?,
            credentials: list_values!(self, FIRST_CREDENTIALS, tenant, owner)?,
        })
    }

    /// All applications of a user.
    pub async fn applications_of(
        &mut self,
        tenant: &TenantId,
        owner: &UserId,
    ) -> Result<Vec<ApplicationName>> {
        const SQL: &str =
            "select id from applications where tenant_id = $1 and owner_user_id = $2 order by id";
        let ids: Vec<String> = list_values!(self, SQL, tenant.as_str(), owner.as_str())?;
        let names = ids.iter().map(|id| {
            let name = format!("{}/applications/{id}", tenant.name());
            ApplicationName::parse(&name).map_err(|fault| Error::internal(fault.0))
        });
        names.collect()
    }
}

/// What a user owns.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Owned {
    /// How many applications.
    pub application_count: i64,
    /// How many credentials.
    pub credential_count: i64,
    /// The names of the first applications.
    pub applications: Vec<String>,
    /// The names of the first credentials.
    pub credentials: Vec<String>,
}

/// The pattern for any part; empty for none.
fn pattern(search: &str) -> String {
    if search.is_empty() {
        return String::new();
    }
    let mut pattern = "%".to_owned();
    for c in search_name(search).chars() {
        if matches!(c, '%' | '_' | '\\') {
            pattern.push('\\');
        }
        pattern.push(c);
    }
    pattern.push('%');
    pattern
}
