//! Redis URLs: a single server, a primary found by sentinels, or a cluster. Neither the displayed
//! form nor an error contains a user or password.

use std::fmt;
use std::path::PathBuf;

use percent_encoding::percent_decode_str;

use crate::domain::Fault;

/// A URL of Redis or Valkey. `rediss` instead of `redis` enables TLS in all forms:
///
/// - `redis://[[USER]:PASSWORD@]HOST[:PORT][/DB]`
/// - `redis-sentinel://[[USER]:PASSWORD@]HOST[:PORT],…/NAME[/DB]`: the credentials are for the
///   servers; `?sentinel_user=…&sentinel_password=…` are for the sentinels
/// - `redis-cluster://[[USER]:PASSWORD@]HOST[:PORT],…`
///
/// With TLS, `?ca_file=PATH` is a PEM file of certificates to trust instead of the system's.
#[derive(Clone, PartialEq, Eq)]
pub struct RedisUrl {
    pub(super) layout: Layout,
    pub(super) tls: bool,
    pub(super) ca_file: Option<PathBuf>,
    pub(super) login: RedisLogin,
    pub(super) db: i64,
}

/// The servers that a URL names.
#[derive(Clone, PartialEq, Eq)]
pub(super) enum Layout {
    Single(Address),
    /// Servers whose primary is found by asking sentinels for a name.
    Sentinel {
        sentinels: Vec<Address>,
        primary: String,
        login: RedisLogin,
    },
    /// The nodes to ask for the rest of the cluster.
    Cluster(Vec<Address>),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Address {
    pub(super) host: String,
    pub(super) port: u16,
}

/// Credentials, which are never displayed.
#[derive(Clone, Default, PartialEq, Eq)]
pub(super) struct RedisLogin {
    pub(super) user: Option<String>,
    pub(super) password: Option<String>,
}

const PORT: u16 = 6379;
const SENTINEL_PORT: u16 = 26379;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Scheme {
    Single,
    Sentinel,
    Cluster,
}

/// The query parameters of a URL.
#[derive(Default)]
struct Parameters {
    sentinel: RedisLogin,
    ca_file: Option<PathBuf>,
}

impl RedisUrl {
    pub fn parse(url: &str) -> Result<Self, Fault> {
        let (scheme, rest) = url.split_once("://").ok_or_else(unknown_scheme)?;
        let (scheme, tls) = match scheme {
            "redis" => (Scheme::Single, false),
            "rediss" => (Scheme::Single, true),
            "redis-sentinel" => (Scheme::Sentinel, false),
            "rediss-sentinel" => (Scheme::Sentinel, true),
            "redis-cluster" => (Scheme::Cluster, false),
            "rediss-cluster" => (Scheme::Cluster, true),
            _ => return Err(unknown_scheme()),
        };
        let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
        let (authority, after) = rest.split_at(end);
        // A password with one of these characters would be displayed as part of the rest.
        if after.contains(['@', '#']) {
            return Err(Fault::new("must have / ? # @ percent-encoded in a user or password"));
        }
        let (path, query) = after.split_once('?').unwrap_or((after, ""));
        let (login, hosts) = match authority.rsplit_once('@') {
            Some((login, hosts)) => (RedisLogin::parse(login)?, hosts),
            None => (RedisLogin::default(), authority),
        };
        let Parameters { sentinel, ca_file } = Parameters::parse(query, scheme, tls)?;
        let port = if scheme == Scheme::Sentinel { SENTINEL_PORT } else { PORT };
        let mut addresses = hosts
            .split(',')
            .map(|text| Address::parse(text, port))
            .collect::<Result<Vec<_>, _>>()?;
        let mut segments = path.split('/').skip(1).filter(|segment| !segment.is_empty());
        let layout = match scheme {
            Scheme::Single => {
                let one = addresses.pop().filter(|_| addresses.is_empty());
                Layout::Single(one.ok_or_else(|| {
                    Fault::new(
                        "must name one host; redis-sentinel:// and redis-cluster:// take several",
                    )
                })?)
            }
            Scheme::Sentinel => {
                let name = segments.next().map(decoded).transpose()?;
                let primary = name.ok_or_else(|| {
                    Fault::new("must end with the name of the primary, as the sentinels know it")
                })?;
                Layout::Sentinel { sentinels: addresses, primary, login: sentinel }
            }
            Scheme::Cluster => Layout::Cluster(addresses),
        };
        let db = segments.next().map(|text| database(text, scheme)).transpose()?;
        if segments.next().is_some() {
            return Err(Fault::new("must end after the database"));
        }
        Ok(Self { layout, tls, ca_file, login, db: db.unwrap_or_default() })
    }

    /// Whether it is a cluster, in which keys are on several nodes.
    pub(super) fn is_clustered(&self) -> bool {
        matches!(self.layout, Layout::Cluster(_))
    }
}

fn unknown_scheme() -> Fault {
    Fault::new(
        "must begin with redis://, redis-sentinel:// or redis-cluster://, or the same with rediss",
    )
}

fn database(text: &str, scheme: Scheme) -> Result<i64, Fault> {
    let number: Option<u16> = text.parse().ok();
    match number {
        Some(number) if scheme != Scheme::Cluster || number == 0 => Ok(number.into()),
        Some(_) => Err(Fault::new("must not name a database: a cluster has only database 0")),
        None => Err(Fault::new("must have a database number after its last /")),
    }
}

fn decoded(text: &str) -> Result<String, Fault> {
    percent_decode_str(text)
        .decode_utf8()
        .map(std::borrow::Cow::into_owned)
        .map_err(|_| Fault::new("has percent-encoded bytes that are not UTF-8"))
}

impl RedisLogin {
    fn parse(text: &str) -> Result<Self, Fault> {
        let (user, password) = text.split_once(':').unwrap_or((text, ""));
        if password.is_empty() {
            return Err(Fault::new("must have a password: USER:PASSWORD@ or :PASSWORD@"));
        }
        let user = Some(decoded(user)?).filter(|user| !user.is_empty());
        Ok(Self { user, password: Some(decoded(password)?) })
    }
}

impl Address {
    fn parse(text: &str, default_port: u16) -> Result<Self, Fault> {
        let wrong = || Fault::new("must name each host as HOST or HOST:PORT, IPv6 as [::1]:6379");
        let (host, port) = match text.strip_prefix('[') {
            Some(rest) => {
                let (host, after) = rest.split_once(']').ok_or_else(wrong)?;
                host.parse::<std::net::Ipv6Addr>().map_err(|_| wrong())?;
                let port = match after {
                    "" => None,
                    after => Some(after.strip_prefix(':').ok_or_else(wrong)?),
                };
                (host, port)
            }
            None => match text.split_once(':') {
                Some((host, port)) => (host, Some(port)),
                None => (text, None),
            },
        };
        let well_formed = !host.is_empty()
            && host.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._:".contains(&b));
        let port = port.map_or(Some(default_port), |port| port.parse().ok().filter(|p| *p != 0));
        match port {
            Some(port) if well_formed => Ok(Self { host: host.to_owned(), port }),
            _ => Err(wrong()),
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

impl Parameters {
    fn parse(query: &str, scheme: Scheme, tls: bool) -> Result<Self, Fault> {
        let mut found = Self::default();
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let value = decoded(value)?;
            match name {
                "sentinel_user" if scheme == Scheme::Sentinel => found.sentinel.user = Some(value),
                "sentinel_password" if scheme == Scheme::Sentinel => {
                    found.sentinel.password = Some(value);
                }
                "ca_file" if tls => found.ca_file = Some(value.into()),
                // The name of an unknown parameter is not displayed: it could be the end of a
                // password.
                _ => {
                    return Err(Fault::new(
                        "has a parameter that is none of ca_file (with rediss alone), \
                         sentinel_user and sentinel_password (with sentinels alone)",
                    ));
                }
            }
        }
        if found.sentinel.user.is_some() && found.sentinel.password.is_none() {
            return Err(Fault::new("must have a sentinel_password with its sentinel_user"));
        }
        Ok(found)
    }
}

impl fmt::Display for RedisUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let s = if self.tls { "s" } else { "" };
        match &self.layout {
            Layout::Single(address) => write!(f, "redis{s}://{address}")?,
            Layout::Sentinel { sentinels, primary, .. } => {
                write!(f, "redis{s}-sentinel://{}/{primary}", listed(sentinels))?;
            }
            Layout::Cluster(nodes) => write!(f, "redis{s}-cluster://{}", listed(nodes))?,
        }
        if self.db != 0 {
            write!(f, "/{}", self.db)?;
        }
        Ok(())
    }
}

fn listed(addresses: &[Address]) -> String {
    addresses.iter().map(ToString::to_string).collect::<Vec<_>>().join(",")
}

impl fmt::Debug for RedisUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_is_parsed_and_displayed_without_credentials() {
        for (url, shown) in [
            ("redis://localhost", "redis://localhost:6379"),
            ("redis://kim:hush@10.0.0.1:7000/3", "redis://10.0.0.1:7000/3"),
            ("rediss://:hush@[::1]/", "rediss://[::1]:6379"),
            (
                "redis-sentinel://kim:hush@a,b:26380/main/2?sentinel_user=s&sentinel_password=hush",
                "redis-sentinel://a:26379,b:26380/main/2",
            ),
            ("rediss-sentinel://a/main?ca_file=/etc/ca.pem", "rediss-sentinel://a:26379/main"),
            ("redis-cluster://a,b:7001,c", "redis-cluster://a:6379,b:7001,c:6379"),
            ("rediss-cluster://:hush@a", "rediss-cluster://a:6379"),
        ] {
            let parsed = RedisUrl::parse(url).unwrap();
            assert_eq!(parsed.to_string(), shown);
            assert_eq!(format!("{parsed:?}"), shown);
        }
    }

    #[test]
    fn users_and_passwords_are_percent_decoded() {
        let url = RedisUrl::parse("redis://k%40m:p%2Fw+%3a@h").unwrap();
        assert_eq!(url.login.user.as_deref(), Some("k@m"));
        assert_eq!(url.login.password.as_deref(), Some("p/w+:"));
        let url = RedisUrl::parse("redis-sentinel://:a@h/m?sentinel_password=b%26").unwrap();
        let Layout::Sentinel { login, .. } = url.layout else { panic!("not of sentinels") };
        assert_eq!((login.user, login.password.as_deref()), (None, Some("b&")));
    }

    #[test]
    fn invalid_url_error_does_not_contain_the_password() {
        for url in [
            "hush",
            "http://:hush@h",
            "redis://",
            "redis://:hush@",
            "redis://hush@h",
            "redis://user:@h",
            "redis://:hush@h:port",
            "redis://:hush@h:0",
            "redis://:hush@h/zero",
            "redis://:hush@h/0/1",
            "redis://:hush@h/70000",
            "redis://:hush@h,i",
            "redis://:hush@h?hush=1",
            "redis://:hush@h?ca_file=/a",
            "redis://:hush@h?sentinel_password=hush",
            "redis://:hu/hush@h",
            "redis://:hu?hush@h",
            "redis://:hu#hush@h",
            "redis://:hush%ff@h",
            "redis://:hush@[::1",
            "redis://:hush@[::1]6379",
            "redis-sentinel://:hush@h",
            "redis-sentinel://:hush@h/m/x",
            "redis-sentinel://:hush@h/m?sentinel_user=u",
            "redis-cluster://:hush@h/1",
            "redis-cluster://:hush@h,",
        ] {
            let fault = RedisUrl::parse(url).expect_err(url);
            assert!(!fault.0.contains("hush"), "{url}: {}", fault.0);
        }
    }
}
