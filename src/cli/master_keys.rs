//! `keyward keys status` and `keyward keys rewrap`

use serde_json::json;

use super::client::Authorized;
use super::output::{Column, Tabular, listed};
use super::print::note;
use super::{Failure, ServerConnection};
use crate::proto::admin as pb;
use crate::proto::admin::master_key_service_client::MasterKeyServiceClient;

/// How often values that others were changing are tried again.
const PASSES: usize = 3;

/// A master key, and the servers that have it.
struct KeyRow {
    key: pb::MasterKey,
    written_by: Vec<String>,
    opened_by: Vec<String>,
}

impl KeyRow {
    fn role(&self) -> &'static str {
        match (self.key.primary, self.key.held) {
            (true, _) => "primary",
            (false, true) => "additional",
            (false, false) => "missing",
        }
    }
}

impl Tabular for KeyRow {
    const COLUMNS: &'static [Column<Self>] = &[
        listed(1, "master_key", |row| json!(row.key.id)),
        listed(2, "role", |row| json!(row.role())),
        listed(4, "sealed_values", |row| json!(row.key.sealed_values)),
        listed(5, "secret_hashes", |row| json!(row.key.secret_hashes)),
        listed(6, "audit_signatures", |row| json!(row.key.audit_signatures)),
        listed(3, "removable", |row| json!(row.key.removable)),
        listed(7, "written_by", |row| json!(row.written_by)),
        listed(8, "opened_by", |row| json!(row.opened_by)),
    ];
}

/// The result of `keys rewrap`.
struct RewrapReport {
    rewrapped: i64,
    skipped: i64,
    remaining_values: i64,
    remaining_hashes: i64,
}

impl Tabular for RewrapReport {
    const COLUMNS: &'static [Column<Self>] = &[
        listed(1, "rewrapped", |report| json!(report.rewrapped)),
        listed(2, "skipped", |report| json!(report.skipped)),
        listed(3, "remaining_values", |report| json!(report.remaining_values)),
        listed(4, "remaining_hashes", |report| json!(report.remaining_hashes)),
    ];
}

async fn read(connection: &ServerConnection) -> Result<Vec<KeyRow>, Failure> {
    let work = async |channel: Authorized| {
        let mut client = MasterKeyServiceClient::new(channel);
        let request = pb::GetMasterKeyStatusRequest {};
        Ok(client.get_master_key_status(request).await?.into_inner())
    };
    let pb::GetMasterKeyStatusResponse { master_keys, servers } =
        connection.call(None, work).await?;
    let row = |key: pb::MasterKey| {
        let those = |has: fn(&pb::ServerMasterKeys) -> &String| {
            let servers = servers.iter().filter(|server| *has(server) == key.id);
            servers.map(|server| server.server.clone()).collect()
        };
        KeyRow {
            written_by: those(|server| &server.primary_key_id),
            opened_by: those(|server| &server.additional_key_id),
            key,
        }
    };
    Ok(master_keys.into_iter().map(row).collect())
}

/// What keys other than the primary one are still needed for.
fn remaining(rows: &[KeyRow]) -> (i64, i64) {
    let others = || rows.iter().filter(|row| !row.key.primary);
    let values = |row: &KeyRow| row.key.sealed_values + row.key.audit_signatures;
    (others().map(values).sum(), others().map(|row| row.key.secret_hashes).sum())
}

/// What to do next.
fn advice(rows: &[KeyRow]) -> String {
    let (values, hashes) = remaining(rows);
    if rows.iter().any(|row| !row.key.primary && !row.written_by.is_empty()) {
        return "servers write with different keys: give all of them the same master_key"
            .to_owned();
    }
    if values > 0 {
        return format!("{values} values need another key than the primary one: run keys rewrap");
    }
    if hashes > 0 {
        return format!(
            "{hashes} secrets were not used since the change: their hashes move when they are \
             used; rotate or delete the others before you remove the old key"
        );
    }
    match rows.iter().find(|row| row.key.held && !row.key.primary) {
        Some(row) => format!("nothing needs master key {}: it can be removed", row.key.id),
        None => "everything is stored with the primary key".to_owned(),
    }
}

/// `keyward keys status`
pub(super) async fn status(connection: &ServerConnection) -> Result<(), Failure> {
    let rows = read(connection).await?;
    connection.output.many(&rows)?;
    connection.output.done(&advice(&rows));
    Ok(())
}

/// `keyward keys rewrap`
pub(super) async fn rewrap(connection: &ServerConnection) -> Result<(), Failure> {
    let (mut rewrapped, mut skipped) = (0, 0);
    for _ in 0..PASSES {
        let (moved, left) = pass(connection, rewrapped).await?;
        rewrapped += moved;
        skipped = left;
        if left == 0 {
            break;
        }
    }
    let rows = read(connection).await?;
    let (remaining_values, remaining_hashes) = remaining(&rows);
    let report = RewrapReport { rewrapped, skipped, remaining_values, remaining_hashes };
    connection.output.one(&report)?;
    if remaining_values > 0 {
        return Err(Failure::new(format!(
            "{remaining_values} values still need another master key: repeat the command; if they \
             stay, the log of the server names those that cannot be opened"
        )));
    }
    connection.output.done(&advice(&rows));
    Ok(())
}

/// Goes once through everything. Returns how many values moved and how many were left.
async fn pass(connection: &ServerConnection, before: i64) -> Result<(i64, i64), Failure> {
    let (mut moved, mut left, mut page_token) = (0, 0, String::new());
    loop {
        let work = async |channel: Authorized| {
            let mut client = MasterKeyServiceClient::new(channel);
            let request = pb::RewrapValuesRequest { page_token: page_token.clone() };
            Ok(client.rewrap_values(request).await?.into_inner())
        };
        let part = connection.call(None, work).await?;
        moved += part.rewrapped;
        left += part.skipped;
        if part.next_page_token.is_empty() {
            return Ok((moved, left));
        }
        page_token = part.next_page_token;
        note(&format!("{} values moved", before + moved));
    }
}
