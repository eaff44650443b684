//! File descriptors: raises the limit, and gives each listener a share, so that connections of
//! anonymous clients never use the descriptors of the database or of the operations listener.

use crate::admission::ConnectionLimits;
use crate::config::Config;
use crate::store::Database;

/// Connections that are reserved for the operations listener.
const OPERATIONS: ConnectionLimits =
    ConnectionLimits { max: 64, of_source: 32, opening_of_source: 16 };
/// Standard streams, the runtime, listeners, temporary files, and the trace exporter.
const OWN: usize = 48;
/// Other connection pools besides the one for requests.
const OTHER_DATABASE_CONNECTIONS: usize = 8;
/// Per SQLite connection: the file, its write-ahead log, the log's index, a temporary file.
const FOR_SQLITE: usize = 4;
/// Connections to one Redis server, its replicas, or the nodes of a cluster.
const REDIS: usize = 32;
/// The minimum of connections per listener, whatever the limit of descriptors is.
const MIN_CONNECTIONS: usize = 16;

/// The connection limits of the listeners.
#[derive(Clone, Copy, Debug)]
pub(super) struct ListenerPlaces {
    /// For the gRPC listener and for the HTTP listener, each.
    pub(super) public: ConnectionLimits,
    /// For the operations listener.
    pub(super) operations: ConnectionLimits,
}

impl ListenerPlaces {
    /// The configured limits, reduced if the process may not open enough files. Logs a reduction.
    pub(super) fn of(config: &Config) -> Self {
        if let Some(Shortage { limit, needed, max }) = shortage(config) {
            tracing::warn!(
                limit,
                needed,
                connections = max,
                wanted = config.limits.max_connections,
                "the limit of open files (ulimit -n) is too low for limits.max_connections: the gRPC \
                 and the HTTP listener hold fewer connections each; raise the hard limit, or lower \
                 the setting"
            );
        }
        Self::within(config, limit())
    }

    fn within(config: &Config, limit: Option<usize>) -> Self {
        let wanted = config.limits.max_connections;
        let max = limit.map_or(wanted, |limit| {
            let closing = public_limits(config, 0).descriptors();
            let each = limit.saturating_sub(needed(config)) / 2;
            wanted.min(each.saturating_sub(closing).max(MIN_CONNECTIONS))
        });
        Self { public: public_limits(config, max), operations: OPERATIONS }
    }
}

/// Too few descriptors for the settings.
#[derive(Clone, Copy, Debug)]
pub(super) struct Shortage {
    pub(super) limit: usize,
    pub(super) needed: usize,
    /// How many connections a listener holds instead.
    pub(super) max: usize,
}

/// Whether the process may open too few files for the settings.
pub(super) fn shortage(config: &Config) -> Option<Shortage> {
    let (limit, wanted) = (limit()?, config.limits.max_connections);
    let max = ListenerPlaces::within(config, Some(limit)).public.max;
    let needed = needed(config) + 2 * public_limits(config, wanted).descriptors();
    (max < wanted).then_some(Shortage { limit, needed, max })
}

fn public_limits(config: &Config, max: usize) -> ConnectionLimits {
    let of_source = config.limits.source_connections.min((max / 2).max(1));
    // After a restart many clients may reconnect together, and from one address.
    ConnectionLimits { max, of_source, opening_of_source: (of_source / 2).max(1) }
}

/// The descriptors that everything except gRPC and HTTP connections needs.
fn needed(config: &Config) -> usize {
    let pool = config.database.pool.max_connections as usize + OTHER_DATABASE_CONNECTIONS;
    let database = match config.database.url {
        Database::Sqlite(_) => pool * FOR_SQLITE,
        Database::Postgres(_) => pool,
    };
    let redis = if config.redis.url.is_some() { REDIS } else { 0 };
    OWN + database + redis + OPERATIONS.descriptors()
}

/// The limit of open files. `None` means unlimited.
fn limit() -> Option<usize> {
    #[cfg(target_os = "linux")]
    {
        use rustix::process::{Resource, getrlimit};
        getrlimit(Resource::Nofile).current.and_then(|limit| usize::try_from(limit).ok())
    }
    #[cfg(not(target_os = "linux"))]
    None
}

/// Raises the soft limit of open files to the hard limit. The soft limit is low by default because
/// of programs that use `select`; Keyward does not.
pub fn raise_limit() {
    #[cfg(target_os = "linux")]
    {
        use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
        let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
        if current != maximum
            && let Err(error) = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum })
        {
            tracing::warn!(%error, "cannot raise the limit of open files");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Layers;

    fn config(settings: &[(&'static str, &str)]) -> Config {
        let mut layers = Layers::default();
        for (key, value) in settings {
            layers = layers.with_flag(key, "test", Some(value));
        }
        Config::read(layers).unwrap()
    }

    #[test]
    fn connection_limits_fit_descriptor_limit() {
        let postgres = ("database.url", "postgres://keyward@db/keyward");
        for settings in [&[][..], &[postgres], &[postgres, ("redis.url", "redis://r")]] {
            let config = config(settings);
            for limit in [1024, 4096, 20_000] {
                let ListenerPlaces { public, .. } = ListenerPlaces::within(&config, Some(limit));
                assert!(
                    needed(&config) + 2 * public.descriptors() <= limit,
                    "{settings:?} {limit}"
                );
                assert!(public.of_source <= public.max / 2);
                assert!(public.max >= 300, "{settings:?} {limit}: {public:?}");
            }
        }
    }

    #[test]
    fn configured_limits_apply_if_descriptors_suffice() {
        for limit in [None, Some(1 << 20)] {
            let ListenerPlaces { public, .. } = ListenerPlaces::within(&config(&[]), limit);
            assert_eq!((public.max, public.of_source), (4096, 1024));
        }
    }

    #[test]
    fn server_with_few_descriptors_still_listens() {
        assert_eq!(ListenerPlaces::within(&config(&[]), Some(40)).public.max, MIN_CONNECTIONS);
    }
}
