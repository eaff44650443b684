//! The servers that `keyward login` saved, in a file that only the user can read.

use std::collections::BTreeMap;
use std::fs::{self, DirBuilder};
use std::io::ErrorKind;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::{Failure, suggest};
use crate::proto::token::ClientSecret;
use crate::proto::token::issue_token_request::Credential;
use crate::server::write_private;

/// Any permission of the group or of others.
const OTHERS: u32 = 0o077;

/// The file: `servers.toml`.
#[derive(Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(super) struct SavedServers {
    /// The name of the default server.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) default: Option<String>,
    #[serde(default)]
    pub(super) servers: BTreeMap<String, SavedServer>,
}

/// A server and its credential: a client id and secret, or an API key.
#[derive(Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(super) struct SavedServer {
    pub(super) url: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) client_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    client_secret: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    api_key: Option<String>,
    #[serde(flatten)]
    pub(super) tls: SavedTls,
}

/// How to connect to a saved server.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
pub(super) struct SavedTls {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) ca: Option<PathBuf>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) client_certificate: Option<PathBuf>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) client_key: Option<PathBuf>,
    /// Permits `http://` to another machine.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(super) plaintext: bool,
}

impl SavedServer {
    pub(super) fn new(url: String, credential: Credential, tls: SavedTls) -> Self {
        let (client_id, client_secret, api_key) = match credential {
            Credential::ClientSecret(ClientSecret { client_id, client_secret }) => {
                (Some(client_id), Some(client_secret), None)
            }
            Credential::ApiKey(key) => (None, None, Some(key)),
            // An assertion or a certificate is for one connection.
            Credential::ClientAssertion(_) | Credential::ClientCertificate(_) => (None, None, None),
        };
        Self { url, client_id, client_secret, api_key, tls }
    }

    pub(super) fn into_credential(self) -> Option<Credential> {
        if let Some(key) = self.api_key {
            return Some(Credential::ApiKey(key));
        }
        let (client_id, client_secret) = self.client_id.zip(self.client_secret)?;
        Some(Credential::ClientSecret(ClientSecret { client_id, client_secret }))
    }
}

impl SavedServers {
    /// Reads the file. A missing file means no servers. Refuses a file that others can read, as ssh
    /// does with keys.
    pub(super) fn read() -> Result<Self, Failure> {
        let Some(path) = path() else { return Ok(Self::default()) };
        let fault = |what: String| Failure::usage(format!("{}: {what}", path.display()));
        let metadata = match fs::metadata(&path) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Self::default()),
            metadata => metadata.map_err(|error| fault(error.to_string()))?,
        };
        if metadata.mode() & OTHERS != 0 {
            let mode = metadata.mode() & 0o777;
            return Err(fault(format!(
                "others can read or write this file (mode {mode:o}), and it has secrets: use \
                 chmod 600, and rotate the credentials in it"
            )));
        }
        let text = fs::read_to_string(&path).map_err(|error| fault(error.to_string()))?;
        // Omits the error's excerpt of the file, which can be a secret.
        toml::from_str(&text).map_err(|error| fault(error.message().to_owned()))
    }

    pub(super) fn write(&self) -> Result<(), Failure> {
        let path = path().ok_or_else(|| {
            Failure::usage("there is no directory to save it in: set HOME or XDG_CONFIG_HOME")
        })?;
        let fault = |error| Failure::new(format!("{}: {error}", path.display()));
        if let Some(folder) = path.parent() {
            DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(fault)?;
        }
        let text = toml::to_string(self).map_err(Failure::new)?;
        write_private(&path, &text).map_err(fault)
    }

    pub(super) fn get(&self, name: &str) -> Result<&SavedServer, Failure> {
        self.servers.get(name).ok_or_else(|| {
            let names: Vec<_> = self.servers.keys().cloned().collect();
            let hint = suggest::nearest(name, &names).map(suggest::did_you_mean);
            Failure::usage(format!(
                "no server {name} is saved: `keyward login {name} --server URL` saves one, and an \
                 address begins with http:// or https://{}",
                hint.unwrap_or_default()
            ))
        })
    }
}

pub(super) fn find(name: &str) -> Result<SavedServer, Failure> {
    SavedServers::read()?.get(name).cloned()
}

pub(super) fn default() -> Result<Option<SavedServer>, Failure> {
    let servers = SavedServers::read()?;
    servers.default.as_deref().map(|name| servers.get(name).cloned()).transpose()
}

/// `keyward/servers.toml` in the user's configuration directory (XDG Base Directory).
pub(super) fn path() -> Option<PathBuf> {
    let folder = |name: &str| {
        std::env::var_os(name).map(PathBuf::from).filter(|folder| folder.is_absolute())
    };
    let config = folder("XDG_CONFIG_HOME").or_else(|| Some(folder("HOME")?.join(".config")))?;
    Some(config.join("keyward").join("servers.toml"))
}
