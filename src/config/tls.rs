//! TLS of the listeners. Settings in `[tls]` are the defaults of the same settings of each
//! listener.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use super::Listen;
use super::layers::Reader;
use super::values::{path, positive, switch};
use crate::domain::Fault;

/// The TLS settings of the listeners. `None`: the listener does not use TLS.
#[derive(Clone, Debug)]
pub struct TlsConfig {
    pub grpc: Option<TlsFiles>,
    pub http: Option<TlsFiles>,
    pub ops: Option<TlsFiles>,
    /// How often the files are read again.
    pub reload_interval: Duration,
}

/// The files of a listener with TLS.
#[derive(Clone, Debug)]
pub struct TlsFiles {
    pub certificate: SettingFile,
    pub key: SettingFile,
    pub clients: ClientCertificates,
}

/// Which certificates a listener takes from its clients. In each case, a client that sends one
/// proves that it has the key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ClientCertificates {
    /// Clients are not asked for a certificate.
    NotAsked,
    /// Those of the authorities in this file.
    Verified(SettingFile, ClientAuth),
    /// Any, or none. Whose certificate it is, each credential decides.
    Any,
}

/// A file, and the setting that names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SettingFile {
    pub setting: &'static str,
    pub path: PathBuf,
}

/// Whether a client must have a certificate. A certificate that cannot be verified is refused in
/// either case.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClientAuth {
    Required,
    Optional,
}

/// The value of a `client_auth` setting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ClientAuthSetting {
    Ask(ClientAuth),
    /// Clients can have any certificate, even if there are authorities.
    Any,
    /// Clients are not asked, even if there are authorities.
    Off,
}

/// The keys of one group of settings.
struct TlsKeys {
    certificate: &'static str,
    key: &'static str,
    client_ca: &'static str,
    client_auth: &'static str,
}

/// The keys of one listener.
struct ListenerKeys {
    listen: &'static str,
    plaintext: &'static str,
    tls: TlsKeys,
}

macro_rules! keys {
    ($prefix:literal) => {
        TlsKeys {
            certificate: concat!($prefix, "tls.certificate"),
            key: concat!($prefix, "tls.key"),
            client_ca: concat!($prefix, "tls.client_ca"),
            client_auth: concat!($prefix, "tls.client_auth"),
        }
    };
}

macro_rules! listener_keys {
    ($prefix:literal) => {
        ListenerKeys {
            listen: concat!($prefix, "listen"),
            plaintext: concat!($prefix, "plaintext"),
            tls: keys!($prefix),
        }
    };
}

/// The values of one group of settings.
struct Group {
    /// The certificate and its key.
    pair: Option<(SettingFile, SettingFile)>,
    client_ca: Option<SettingFile>,
    client_auth: Option<(&'static str, ClientAuthSetting)>,
}

impl TlsConfig {
    /// Reads the settings of all listeners. A listener that other machines can reach needs TLS,
    /// because clients send secrets to it, or an explicit permission.
    pub(super) fn read(r: &mut Reader, listen: &Listen) -> Self {
        let shared = Group::read(r, &keys!(""));
        let reload_interval = r.get("tls.reload_interval", "5s", positive);
        let mut listener = |keys: &ListenerKeys, address: SocketAddr| {
            let own = Group::read(r, &keys.tls);
            let files = own.or(&shared).resolve(r, &keys.tls);
            let plaintext = r.get(keys.plaintext, "false", switch);
            if files.is_none() && !plaintext && !is_loopback(address) {
                let advice = format!(
                    "is {address}, which other machines can reach, and this listener has no TLS: \
                     set {} and {}, or, if TLS ends at a proxy in front of it, {} = true",
                    keys.tls.certificate, keys.tls.key, keys.plaintext
                );
                r.fault(keys.listen, &advice);
            }
            files
        };
        Self {
            grpc: listener(&listener_keys!("grpc."), listen.grpc),
            http: listener(&listener_keys!("http."), listen.http),
            ops: listener(&listener_keys!("ops."), listen.ops),
            reload_interval,
        }
    }
}

impl TlsConfig {
    /// The ways to authenticate with a certificate that the HTTP listener makes possible, as in
    /// metadata (RFC 8705, section 2). A listener that verifies certificates against the operator's
    /// authorities takes no self-signed ones.
    pub fn http_methods(&self) -> &'static [&'static str] {
        match self.http.as_ref().map(|files| &files.clients) {
            None | Some(ClientCertificates::NotAsked) => &[],
            Some(ClientCertificates::Verified(..)) => &["tls_client_auth"],
            Some(ClientCertificates::Any) => &["tls_client_auth", "self_signed_tls_client_auth"],
        }
    }
}

fn is_loopback(address: SocketAddr) -> bool {
    address.ip().to_canonical().is_loopback()
}

impl Group {
    fn read(r: &mut Reader, keys: &TlsKeys) -> Self {
        let mut file =
            |setting| r.optional(setting, path).map(|path| SettingFile { setting, path });
        let (certificate, key) = (file(keys.certificate), file(keys.key));
        let client_ca = file(keys.client_ca);
        let client_auth = r.optional(keys.client_auth, client_auth);
        let pair = match (certificate, key) {
            (Some(certificate), Some(key)) => Some((certificate, key)),
            (Some(_), None) => {
                r.fault(keys.certificate, &format!("is set without {}", keys.key));
                None
            }
            (None, Some(_)) => {
                r.fault(keys.key, &format!("is set without {}", keys.certificate));
                None
            }
            (None, None) => None,
        };
        Self { pair, client_ca, client_auth: client_auth.map(|auth| (keys.client_auth, auth)) }
    }

    /// These values, and where there are none, the shared ones.
    fn or(self, shared: &Self) -> Self {
        Self {
            pair: self.pair.or_else(|| shared.pair.clone()),
            client_ca: self.client_ca.or_else(|| shared.client_ca.clone()),
            client_auth: self.client_auth.or(shared.client_auth),
        }
    }

    fn resolve(self, r: &mut Reader, keys: &TlsKeys) -> Option<TlsFiles> {
        let Self { pair, client_ca, client_auth } = self;
        let asks = client_auth.filter(|(_, auth)| *auth != ClientAuthSetting::Off);
        let Some((certificate, key)) = pair else {
            let unused = client_ca.map(|file| file.setting).or(asks.map(|(setting, _)| setting));
            if let Some(setting) = unused {
                let (certificate, key) = (keys.certificate, keys.key);
                r.fault(setting, &format!("needs a certificate: set {certificate} and {key}"));
            }
            return None;
        };
        let clients = match (client_ca, client_auth) {
            (_, Some((_, ClientAuthSetting::Any))) => ClientCertificates::Any,
            (_, Some((_, ClientAuthSetting::Off))) | (None, None) => ClientCertificates::NotAsked,
            (Some(file), Some((_, ClientAuthSetting::Ask(auth)))) => {
                ClientCertificates::Verified(file, auth)
            }
            (Some(file), None) => ClientCertificates::Verified(file, ClientAuth::Required),
            (None, Some((setting, ClientAuthSetting::Ask(_)))) => {
                r.fault(setting, &format!("needs the authorities: set {}", keys.client_ca));
                ClientCertificates::NotAsked
            }
        };
        Some(TlsFiles { certificate, key, clients })
    }
}

fn client_auth(value: &str) -> Result<ClientAuthSetting, Fault> {
    match value {
        "required" => Ok(ClientAuthSetting::Ask(ClientAuth::Required)),
        "optional" => Ok(ClientAuthSetting::Ask(ClientAuth::Optional)),
        "any" => Ok(ClientAuthSetting::Any),
        "none" => Ok(ClientAuthSetting::Off),
        _ => Err(Fault::new("must be required, optional, any or none")),
    }
}

#[cfg(test)]
mod tests {
    use crate::config::{Config, Layers};

    use super::*;

    fn read(settings: &[(&'static str, &str)]) -> Result<Config, String> {
        let layers = settings.iter().fold(Layers::default(), |layers, (key, value)| {
            layers.with_flag(key, "test", Some(value))
        });
        Config::read(layers).map_err(|faults| faults.to_string())
    }

    const PAIR: [(&str, &str); 2] = [("tls.certificate", "c.pem"), ("tls.key", "k.pem")];

    #[test]
    fn plaintext_beyond_loopback_is_refused_unless_permitted() {
        for (listen, plaintext) in [
            ("grpc.listen", "grpc.plaintext"),
            ("http.listen", "http.plaintext"),
            ("ops.listen", "ops.plaintext"),
        ] {
            for address in ["0.0.0.0:1", "[::]:1", "192.0.2.1:1", "[::ffff:192.0.2.1]:1"] {
                let refused = read(&[(listen, address)]).unwrap_err();
                assert!(refused.contains(listen) && refused.contains(plaintext), "{refused}");
                assert!(refused.contains(".tls.certificate"), "{refused}");
                assert!(read(&[(listen, address), (plaintext, "true")]).is_ok());
                assert!(read(&[&[(listen, address)], &PAIR[..]].concat()).is_ok());
            }
            for address in ["127.0.0.1:1", "127.8.0.1:1", "[::1]:1", "[::ffff:127.0.0.1]:1"] {
                assert!(read(&[(listen, address)]).is_ok(), "{address}");
            }
        }
    }

    #[test]
    fn listener_settings_override_shared_ones() {
        let own = [
            ("tls.client_ca", "ca.pem"),
            ("grpc.tls.certificate", "grpc.pem"),
            ("grpc.tls.key", "grpc.key"),
            ("http.tls.client_auth", "optional"),
            ("ops.tls.client_auth", "none"),
        ];
        let tls = read(&[&PAIR[..], &own].concat()).unwrap().tls;
        let (grpc, http, ops) = (tls.grpc.unwrap(), tls.http.unwrap(), tls.ops.unwrap());
        assert_eq!(grpc.certificate.path, PathBuf::from("grpc.pem"));
        assert_eq!(http.certificate.path, PathBuf::from("c.pem"));
        let verified = |auth| {
            let (setting, path) = ("tls.client_ca", PathBuf::from("ca.pem"));
            ClientCertificates::Verified(SettingFile { setting, path }, auth)
        };
        assert_eq!(grpc.clients, verified(ClientAuth::Required));
        assert_eq!(http.clients, verified(ClientAuth::Optional));
        assert_eq!(ops.clients, ClientCertificates::NotAsked);
    }

    #[test]
    fn any_certificate_needs_no_authorities() {
        for authorities in [&[][..], &[("tls.client_ca", "ca.pem")]] {
            let any = [("http.tls.client_auth", "any")];
            let tls = read(&[&PAIR[..], authorities, &any].concat()).unwrap().tls;
            assert_eq!(tls.http.unwrap().clients, ClientCertificates::Any);
            assert_ne!(tls.grpc.unwrap().clients, ClientCertificates::Any);
        }
    }

    #[test]
    fn incomplete_settings_are_refused_by_name() {
        for (key, value) in [
            ("grpc.tls.certificate", "c.pem"),
            ("http.tls.key", "k.pem"),
            ("ops.tls.client_ca", "ca.pem"),
            ("tls.certificate", "c.pem"),
            ("tls.client_ca", "ca.pem"),
            ("tls.client_auth", "required"),
            ("tls.client_auth", "any"),
            ("tls.client_auth", "maybe"),
        ] {
            let refused = read(&[(key, value)]).unwrap_err();
            assert!(refused.contains(key), "{key}: {refused}");
        }
        let refused = read(&[&PAIR[..], &[("grpc.tls.client_auth", "required")]].concat());
        assert!(refused.unwrap_err().contains("grpc.tls.client_ca"));
    }
}
