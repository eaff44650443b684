//! The values that are sealed or hashed with a master key, across all tables.

use base64::Engine;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use sqlx::{AssertSqlSafe, FromRow};
use strum::VariantArray;

use super::row::RowRef;
use super::{Session, Tx, execute, find_row, list_rows};
use crate::domain::{ApplicationId, ApplicationName, CredentialId, CredentialName, TenantId};
use crate::error::Result;

/// Every column with sealed values. A test compares this list with the schema and with what a server
/// stores.
#[derive(Clone, Copy, Debug, PartialEq, Eq, VariantArray)]
pub enum SealedColumn {
    /// Secrets that can be viewed again.
    Secrets,
    /// Private signing keys.
    SigningKeys,
    /// Published public keys.
    PublicKeys,
}

/// What a sealed value belongs to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SealedItem {
    /// This version of a credential's secret.
    Secret(CredentialName, i64),
    /// The private key with this `kid`.
    SigningKey(String),
    /// The public key with this `kid`.
    PublicKey(String),
}

/// A sealed value as it was read.
#[derive(Clone, Debug)]
pub struct SealedValue {
    pub item: SealedItem,
    pub sealed: String,
}

#[derive(FromRow)]
struct SealedRow {
    key: String,
    version: i64,
    sealed: String,
    tenant_id: String,
    application_id: String,
}

/// How many values name a key.
#[derive(Clone, Debug, FromRow, PartialEq, Eq)]
pub struct KeyUse {
    /// The id of the master key.
    pub key: String,
    pub values: i64,
}

impl SealedColumn {
    /// The table and the column.
    pub fn place(self) -> (&'static str, &'static str) {
        match self {
            Self::Secrets => ("secrets", "sealed"),
            Self::SigningKeys => ("signing_keys", "sealed_private_key"),
            Self::PublicKeys => ("signing_key_history", "sealed_public_key"),
        }
    }

    /// The columns that identify a row: an id and a version, or an id and 0.
    fn key(self) -> (&'static str, &'static str) {
        match self {
            Self::Secrets => ("credential_id", "version"),
            Self::SigningKeys | Self::PublicKeys => ("id", "0"),
        }
    }

    fn item(self, row: &SealedRow) -> Result<SealedItem> {
        Ok(match self {
            Self::Secrets => {
                let at = RowRef { table: "credentials", key: &row.key };
                let application =
                    at.column("application_id", ApplicationId::parse(&row.application_id))?;
                let name = CredentialName {
                    application: ApplicationName {
                        tenant: at.column("tenant_id", TenantId::parse(&row.tenant_id))?,
                        application,
                    },
                    credential: at.column("id", CredentialId::parse(&row.key))?,
                };
                SealedItem::Secret(name, row.version)
            }
            Self::SigningKeys => SealedItem::SigningKey(row.key.clone()),
            Self::PublicKeys => SealedItem::PublicKey(row.key.clone()),
        })
    }
}

impl SealedItem {
    pub fn column(&self) -> SealedColumn {
        match self {
            Self::Secret(..) => SealedColumn::Secrets,
            Self::SigningKey(_) => SealedColumn::SigningKeys,
            Self::PublicKey(_) => SealedColumn::PublicKeys,
        }
    }

    /// The id and version that identify the row.
    pub fn key(&self) -> (&str, i64) {
        match self {
            Self::Secret(name, version) => (name.credential.as_str(), *version),
            Self::SigningKey(kid) | Self::PublicKey(kid) => (kid, 0),
        }
    }
}

/// The id of a master key as PHC strings have it (`keyid`): in base64.
pub(super) fn key_id_of_hash(text: &str) -> Option<String> {
    let id = STANDARD_NO_PAD.decode(text).ok().filter(|id| !id.is_empty())?;
    String::from_utf8(id).ok()
}

impl Session {
    /// Up to `max` values of a column that are sealed with another key than this one, after the row
    /// with this id and version, in their order.
    pub async fn list_sealed(
        &mut self,
        column: SealedColumn,
        not_by: &str,
        (id, version): (&str, i64),
        max: i64,
    ) -> Result<Vec<SealedValue>> {
        let (table, sealed) = column.place();
        let (id_column, version_column) = column.key();
        let (names, join) = match column {
            SealedColumn::Secrets => {
                ("c.tenant_id, c.application_id", "join credentials c on c.id = v.credential_id")
            }
            _ => ("'' as tenant_id, '' as application_id", ""),
        };
        let version_of = if version_column == "0" { "0" } else { "v.version" };
        let sql = format!(
            "select v.{id_column} as key, cast({version_of} as bigint) as version, \
             v.{sealed} as sealed, {names} from {table} v {join} \
             where v.{sealed} is not null and substr(v.{sealed}, 1, 9) <> $1 \
               and (v.{id_column} > $2 or (v.{id_column} = $2 and {version_of} > $3)) \
             order by 1, 2 limit $4"
        );
        let prefix = format!("{not_by}.");
        let rows: Vec<SealedRow> = list_rows!(self, AssertSqlSafe(sql), prefix, id, version, max)?;
        let value =
            |row: SealedRow| Ok(SealedValue { item: column.item(&row)?, sealed: row.sealed });
        rows.into_iter().map(value).collect()
    }

    /// How many values of a column each master key sealed.
    pub async fn count_sealed(&mut self, column: SealedColumn) -> Result<Vec<KeyUse>> {
        let (table, sealed) = column.place();
        let sql = format!(
            "select substr({sealed}, 1, 8) as key, count(*) as \"values\" from {table} \
             where {sealed} is not null group by 1 order by 1"
        );
        list_rows!(self, AssertSqlSafe(sql))
    }

    /// How many hashes of secrets that have not expired have the pepper of each master key. The key
    /// is empty for hashes that name none.
    pub async fn count_hashes(&mut self, now: jiff::Timestamp) -> Result<Vec<KeyUse>> {
        let position = if self.is_postgres() { "strpos" } else { "instr" };
        let sql = format!(
            "select case when {position}(hash, 'keyid=') = 0 then '' \
               else substr(hash, {position}(hash, 'keyid=') + 6, 11) end as key, \
             count(*) as \"values\" from secrets \
             where expires_at is null or expires_at > $1 group by 1 order by 1"
        );
        let found: Vec<KeyUse> = list_rows!(self, AssertSqlSafe(sql), now.as_microsecond())?;
        let named = |found: KeyUse| KeyUse {
            key: key_id_of_hash(&found.key).unwrap_or_default(),
            values: found.values,
        };
        Ok(found.into_iter().map(named).collect())
    }
}

impl Tx {
    /// Keeps a value from being changed by others until the end of the transaction. `false`: others
    /// are changing it. Never waits for them, so that no two can wait for each other.
    pub async fn lock_sealed(&mut self, item: &SealedItem) -> Result<bool> {
        if !self.is_postgres() {
            // SQLite has one writer at a time, so this transaction is the only one.
            return Ok(true);
        }
        let (table, _) = item.column().place();
        let (id_column, version_column) = item.column().key();
        let sql = format!(
            "select {id_column} from {table} where {id_column} = $1 and {version_column} = $2 \
             for update skip locked"
        );
        let (id, version) = item.key();
        let row: Option<(String,)> = find_row!(self, AssertSqlSafe(sql), id, version)?;
        Ok(row.is_some())
    }

    /// Replaces a sealed value, if it is still the one that was read; `false` if it is not.
    pub async fn replace_sealed(&mut self, value: &SealedValue, new: &str) -> Result<bool> {
        let (table, sealed) = value.item.column().place();
        let (id_column, version_column) = value.item.column().key();
        let sql = format!(
            "update {table} set {sealed} = $4 \
             where {id_column} = $1 and {version_column} = $2 and {sealed} = $3"
        );
        let (id, version) = value.item.key();
        execute!(self, AssertSqlSafe(sql), id, version, &value.sealed, new).map(|rows| rows == 1)
    }
}
