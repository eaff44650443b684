//! Database URLs: PostgreSQL's connection URIs as libpq reads them, and paths of SQLite files.

use std::borrow::Cow;
use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use sqlx::postgres::PgConnectOptions;

use crate::domain::Fault;

/// The database in the settings: `sqlite:PATH` or `postgres://…`.
#[derive(Clone)]
pub enum Database {
    /// The path of a file.
    Sqlite(PathBuf),
    /// One server, or several of which one is the primary.
    Postgres(Box<PostgresServers>),
}

/// The PostgreSQL servers of a URL.
#[derive(Clone)]
pub struct PostgresServers {
    /// The connection options of each server. Never empty. They differ in host and port.
    pub(super) each: Vec<PgConnectOptions>,
    /// The timeout for a connection to one server, if the URL has one.
    pub(super) connect_timeout: Option<Duration>,
    /// Whether the URL leads to a pooler in transaction mode.
    pub(super) pooled: bool,
}

/// The pooler between Keyward and its database.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pooler {
    /// No pooler, or one in session mode, which gives each client its own connection.
    None,
    /// A pooler that gives each transaction another connection, as `PgBouncer` does with
    /// `pool_mode = transaction`.
    Transaction,
}

impl Pooler {
    /// Parses `none` or `transaction`.
    pub fn parse(text: &str) -> Result<Self, Fault> {
        match text {
            "none" => Ok(Self::None),
            "transaction" => Ok(Self::Transaction),
            _ => Err(Fault::new("must be none or transaction")),
        }
    }
}

impl Database {
    /// Parses a database URL.
    pub fn parse(url: &str) -> Result<Self, Fault> {
        if let Some(path) = url.strip_prefix("sqlite:") {
            let path = path.strip_prefix("//").unwrap_or(path);
            if path.is_empty() || path.contains('?') || path == ":memory:" {
                return Err(Fault::new("must name a file, as sqlite:PATH"));
            }
            return Ok(Self::Sqlite(path.into()));
        }
        let scheme = ["postgres://", "postgresql://"].iter().find_map(|s| url.strip_prefix(s));
        let rest = scheme.ok_or_else(|| Fault::new("must begin with sqlite: or postgres://"))?;
        PostgresServers::parse(rest).map(Box::new).map(Self::Postgres)
    }

    /// The same database through this pooler.
    #[must_use]
    pub fn behind(mut self, pooler: Pooler) -> Self {
        if let Self::Postgres(servers) = &mut self {
            servers.pooled = pooler == Pooler::Transaction;
        }
        self
    }
}

/// The parts of a URL: `[USER[:PASSWORD]@]HOST[:PORT][,…][/NAME][?PARAMETERS]`.
struct UrlParts<'a> {
    user: &'a str,
    hosts: Vec<Cow<'a, str>>,
    path: &'a str,
    parameters: Vec<(String, String)>,
}

impl PostgresServers {
    fn parse(rest: &str) -> Result<Self, Fault> {
        let mut parts = UrlParts::of(rest)?;
        let mut kept = form_urlencoded::Serializer::new(String::new());
        let (mut connect_timeout, mut application_name) = (None, Cow::Borrowed("keyward"));
        for (name, value) in std::mem::take(&mut parts.parameters) {
            match (name.as_str(), value.as_str()) {
                ("application_name" | "fallback_application_name", _) => {
                    application_name = Cow::Owned(value);
                }
                ("connect_timeout", _) => {
                    let seconds: i64 = value.parse().map_err(|_| {
                        Fault::new("has a connect_timeout that is not a number of seconds")
                    })?;
                    // As in libpq, zero and negative values mean no timeout.
                    connect_timeout =
                        u64::try_from(seconds).ok().filter(|s| *s > 0).map(Duration::from_secs);
                }
                (name, value) => {
                    if let Parameter::Forwarded = check_parameter(name, value)? {
                        kept.append_pair(name, value);
                    }
                }
            }
        }
        let kept = kept.finish();
        let each = parts.hosts.iter().map(|host| {
            let url = format!("postgres://{}{host}{}?{kept}", parts.user, parts.path);
            // The driver's error text could contain the password.
            let options = PgConnectOptions::from_str(&url)
                .map_err(|_| Fault::new("is not a well-formed postgres:// URL"))?;
            // Poolers refuse startup parameters that they do not know, such as extra_float_digits.
            // Keyward does not need it, because no column has a float.
            Ok(options.application_name(&application_name).extra_float_digits(None))
        });
        Ok(Self { each: each.collect::<Result<_, Fault>>()?, connect_timeout, pooled: false })
    }
}

impl<'a> UrlParts<'a> {
    fn of(rest: &'a str) -> Result<Self, Fault> {
        let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
        let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        let (user, hosts) = authority.split_at(authority.rfind('@').map_or(0, |at| at + 1));
        let mut parameters: Vec<_> =
            form_urlencoded::parse(query.as_bytes()).into_owned().collect();
        let mut hosts: Vec<Cow<'a, str>> = hosts.split(',').map(Cow::Borrowed).collect();
        // Lists of hosts and ports can also be parameters. The last one of a name counts.
        let mut list = |name: &str| {
            let at = parameters.iter().rposition(|(n, v)| n == name && v.contains(','))?;
            let list = parameters.remove(at).1;
            parameters.retain(|(n, _)| n != name);
            Some(list.split(',').map(str::to_owned).collect::<Vec<_>>())
        };
        let (named, ports) = (list("host"), list("port"));
        if let Some(named) = named {
            hosts = named.into_iter().map(Cow::Owned).collect();
        }
        if let Some(ports) = ports {
            if ports.len() != hosts.len() {
                return Err(Fault::new("has a different number of hosts and ports"));
            }
            let pairs = hosts.iter().zip(ports);
            hosts = pairs.map(|(host, port)| Cow::Owned(format!("{host}:{port}"))).collect();
        }
        Ok(Self { user, hosts, path, parameters })
    }
}

/// The treatment of a URL parameter.
enum Parameter {
    /// The driver gets the parameter.
    Forwarded,
    /// The driver does not know the parameter, and already does what it asks for.
    Ignored,
}

/// Each parameter that libpq documents (PostgreSQL, section 34.1.2) works, or is refused with
/// advice. The driver ignores unknown parameters, but a misspelled `sslmode` must not lead to an
/// unprotected connection.
fn check_parameter(name: &str, value: &str) -> Result<Parameter, Fault> {
    let instead = |what: &str| Err(Fault::new(format!("has {name}={value}: {what}")));
    match (name, value) {
        (
            "sslmode"
            | "sslrootcert"
            | "sslcert"
            | "sslkey"
            | "statement-cache-capacity"
            | "host"
            | "hostaddr"
            | "port"
            | "dbname"
            | "user"
            | "password"
            | "options",
            _,
        ) => Ok(Parameter::Forwarded),
        (name, _) if name.starts_with("options[") => Ok(Parameter::Forwarded),
        ("target_session_attrs", "any" | "read-write" | "primary")
        | ("channel_binding" | "gssencmode", "prefer" | "disable")
        | ("sslcompression", "0")
        | ("sslnegotiation", "postgres")
        | ("sslsni", "1")
        | ("ssl_min_protocol_version", "" | "TLSv1" | "TLSv1.1" | "TLSv1.2")
        | ("client_encoding", "auto" | "UTF8" | "utf8" | "UTF-8" | "utf-8")
        | ("load_balance_hosts", _) => Ok(Parameter::Ignored),
        ("target_session_attrs", _) => {
            instead("Keyward writes, so use target_session_attrs=read-write")
        }
        ("channel_binding", _) => {
            instead("leave channel_binding out, and use sslmode=verify-full to verify the server")
        }
        ("gssencmode", _) => instead("leave it out, and use sslmode=verify-full"),
        ("ssl_min_protocol_version" | "ssl_max_protocol_version", _) => {
            instead("leave it out; Keyward uses TLS 1.2 or 1.3, and the server can require 1.3")
        }
        (
            "keepalives"
            | "keepalives_idle"
            | "keepalives_interval"
            | "keepalives_count"
            | "tcp_user_timeout",
            _,
        ) => {
            instead("leave it out; database.acquire_timeout detects a server that does not answer")
        }
        ("passfile", _) => instead("leave it out, and name the file in PGPASSFILE"),
        ("pgbouncer", _) => instead("leave it out, and set database.pooler = \"transaction\""),
        // The value may be a secret, so the error does not contain it.
        ("sslpassword", _) => Err(Fault::new("has sslpassword: use a key that is not encrypted")),
        _ => Err(Fault::new(format!(
            "has the parameter {name:?}, which is not one of sslmode, sslrootcert, sslcert, sslkey, \
             host, hostaddr, port, dbname, user, password, options, application_name, \
             connect_timeout, target_session_attrs, statement-cache-capacity"
        ))),
    }
}

impl fmt::Display for Database {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sqlite(path) => write!(f, "sqlite:{}", path.display()),
            Self::Postgres(servers) => {
                let hosts: Vec<_> = servers.each.iter().map(host).collect();
                let name = servers.each.first().and_then(PgConnectOptions::get_database);
                write!(f, "postgres://{}/{}", hosts.join(","), name.unwrap_or_default())
            }
        }
    }
}

impl fmt::Debug for Database {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Debug for PostgresServers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.each.iter().map(host)).finish()
    }
}

/// The host and port of a server.
pub(super) fn host(options: &PgConnectOptions) -> String {
    format!("{}:{}", options.get_host(), options.get_port())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn servers(url: &str) -> PostgresServers {
        match Database::parse(url).unwrap() {
            Database::Postgres(servers) => *servers,
            Database::Sqlite(_) => panic!("{url}"),
        }
    }

    fn shown(url: &str) -> String {
        Database::parse(url).unwrap().to_string()
    }

    #[test]
    fn provider_urls_are_accepted() {
        assert_eq!(
            shown("postgres://u:p@a:1,b:2,[::1]:3/db?target_session_attrs=read-write"),
            "postgres://a:1,b:2,[::1]:3/db"
        );
        assert_eq!(shown("postgresql:///db?host=a,b&port=1,2"), "postgres://a:1,b:2/db");
        assert_eq!(shown("postgres://u@a/db?channel_binding=prefer"), "postgres://a:5432/db");
        let one =
            servers("postgres://u@a/db?connect_timeout=3&options=endpoint%3Dx&sslmode=require");
        assert_eq!(one.connect_timeout, Some(Duration::from_secs(3)));
        assert_eq!(one.each[0].get_options(), Some("endpoint=x"));
        assert_eq!(one.each[0].get_application_name(), Some("keyward"));
        let named = servers("postgres://u@a/db?application_name=us&connect_timeout=0");
        assert_eq!(named.each[0].get_application_name(), Some("us"));
        assert_eq!(named.connect_timeout, None);
        assert!(servers("postgres://u:p%40ss@a,b/db").each.iter().all(|s| s.get_username() == "u"));
    }

    #[test]
    fn unsupported_parameter_is_refused_with_advice() {
        for (parameter, advice) in [
            ("channel_binding=require", "sslmode=verify-full"),
            ("target_session_attrs=standby", "read-write"),
            ("keepalives_idle=30", "database.acquire_timeout"),
            ("passfile=/x", "PGPASSFILE"),
            ("pgbouncer=true", "database.pooler"),
            ("sslmod=require", "sslmode"),
            ("connect_timeout=soon", "connect_timeout"),
        ] {
            let fault = Database::parse(&format!("postgres://u:secret@a/db?{parameter}"));
            let Fault(words) = fault.unwrap_err();
            assert!(words.contains(advice) && !words.contains("secret"), "{parameter}: {words}");
        }
        assert!(Database::parse("postgres:///db?host=a,b&port=1,2,3").is_err());
    }
}
