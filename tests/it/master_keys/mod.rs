//! A change of the master key while servers run.

mod audit;
mod command;
mod hashes;
mod procedure;
mod rewrap;
mod servers;

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use keyward::internals::secrets::MasterKey;
use keyward::internals::store::{Database, PoolOptions, Store};
use keyward::proto::admin as pb;
use tempfile::TempDir;

use crate::harness::{Admin, Backend, Credential, Keyward, mask};

const OLD: u8 = 1;
const NEW: u8 = 2;
const CRM: &str = "tenants/acme/applications/crm";

fn text(key: u8) -> String {
    STANDARD.encode([key; 32])
}

fn id(key: u8) -> String {
    MasterKey::parse(&text(key)).unwrap().id().unwrap()
}

/// Master keys in files.
struct KeyFiles(TempDir);

impl KeyFiles {
    fn new() -> Self {
        let folder = TempDir::new().unwrap();
        for key in [OLD, NEW, 3] {
            let path = folder.path().join(key.to_string());
            fs::write(&path, text(key)).unwrap();
            fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
        }
        Self(folder)
    }

    /// The settings of a server with these keys.
    fn settings(&self, primary: u8, additional: Option<u8>) -> Vec<(&'static str, String)> {
        let file = |key: u8| self.0.path().join(key.to_string()).display().to_string();
        let mut settings = vec![("master_key_file", file(primary))];
        settings.extend(additional.map(|key| ("additional_master_key_file", file(key))));
        settings
    }

    async fn start(&self, backend: Backend, primary: u8, additional: Option<u8>) -> Keyward {
        let settings = self.settings(primary, additional);
        backend.start_with(&borrowed(&settings)).await
    }
}

fn borrowed<'a>(settings: &'a [(&'static str, String)]) -> Vec<(&'static str, &'a str)> {
    settings.iter().map(|(key, value)| (*key, value.as_str())).collect()
}

/// The server's database.
async fn store(kw: &Keyward) -> Store {
    let database = match kw.database_url() {
        None => Database::Sqlite(kw.folder().join("keyward.db")),
        Some(url) => Database::parse(url).unwrap(),
    };
    let options =
        PoolOptions { max_connections: 8, acquire_timeout: std::time::Duration::from_mins(2) };
    Store::open(&database, options).await.unwrap()
}

/// The tenant `acme`, whose policy shows secrets again, and a credential.
async fn viewable_acme(admin: &mut Admin) -> (pb::Credential, Credential) {
    admin.tenant("acme", &["a", "b", "c"]).await;
    let policy = pb::Policy { secrets_viewable: true, ..Default::default() };
    let tenant =
        pb::Tenant { name: "tenants/acme".to_owned(), policy: Some(policy), ..Default::default() };
    let update_mask = mask(&["policy"]);
    let request = pb::UpdateTenantRequest { tenant: Some(tenant), update_mask };
    admin.tenants.update_tenant(request).await.unwrap();
    admin.application("acme", "crm", &["a", "b"]).await;
    admin.credential(CRM, pb::credential::Kind::ClientSecret).await
}

async fn reveal(admin: &mut Admin, name: &str) -> Result<String, tonic::Status> {
    let request = pb::RevealCredentialRequest { name: name.to_owned() };
    Ok(admin.credentials.reveal_credential(request).await?.into_inner().secret)
}

async fn status(admin: &mut Admin) -> pb::GetMasterKeyStatusResponse {
    let request = pb::GetMasterKeyStatusRequest {};
    admin.master_keys.get_master_key_status(request).await.unwrap().into_inner()
}

/// What needs a key.
async fn uses(admin: &mut Admin, key: u8) -> pb::MasterKey {
    let keys = status(admin).await.master_keys;
    keys.into_iter().find(|found| found.id == id(key)).unwrap_or_default()
}

/// Goes once through everything. Returns how many values moved and how many were left.
async fn rewrap(admin: &mut Admin) -> Result<(i64, i64), tonic::Status> {
    let (mut moved, mut left, mut page_token) = (0, 0, String::new());
    loop {
        let request = pb::RewrapValuesRequest { page_token };
        let part = admin.master_keys.rewrap_values(request).await?.into_inner();
        moved += part.rewrapped;
        left += part.skipped;
        if part.next_page_token.is_empty() {
            return Ok((moved, left));
        }
        page_token = part.next_page_token;
    }
}

/// Rewraps until nothing is left.
async fn rewrap_all(admin: &mut Admin) {
    while rewrap(admin).await.unwrap().1 > 0 {}
}
