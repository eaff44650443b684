//! File descriptors: as many as the machine gives, and a share of them for each listener, so
//! that connections of strangers never take those of the database or of operations.

use crate::admission::ConnectionLimits;
use crate::config::Config;
use crate::store::Database;

/// Connections to the listener for operations: the others never take these.
const OPERATIONS: ConnectionLimits =
    ConnectionLimits { most: 64, of_source: 32, opening_of_source: 16 };
/// Standard streams, the runtime's own, listeners, files that are opened for a moment, traces.
const OWN: usize = 48;
/// The pool for requests is not the only one.
const OTHER_DATABASE_CONNECTIONS: usize = 8;
/// A SQLite connection: the file, its write-ahead log, the log's index, a temporary file.
const FOR_SQLITE: usize = 4;
/// Links to one server, its replicas, or the nodes of a cluster.
const REDIS: usize = 32;
/// With fewer connections a listener is of no use, whatever the limit is.
const MIN_CONNECTIONS: usize = 16;

/// The places of the listeners.
#[derive(Clone, Copy, Debug)]
pub(super) struct Places {
    /// Of the gRPC listener and of the HTTP listener, each.
    pub(super) public: ConnectionLimits,
    /// Of the listener for operations.
    pub(super) operations: ConnectionLimits,
}

impl Places {
    /// The places that the configuration asks for, as far as the process may open files. Where
    /// that is less, it is logged.
    pub(super) fn of(config: &Config) -> Self {
        let wanted = config.limits.max_connections;
        let places = Self::within(config, limit());
        let most = places.public.most;
        if most < wanted {
            let needed = needed(config) + 2 * public_limits(config, wanted).descriptors();
            tracing::warn!(
                limit = limit(),
                needed,
                connections = most,
                wanted,
                "the limit of open files (ulimit -n) is too low for limits.max_connections: the gRPC \
                 and the HTTP listener hold fewer connections each; raise the hard limit, or lower \
                 the setting"
            );
        }
        places
    }

    fn within(config: &Config, limit: Option<usize>) -> Self {
        let wanted = config.limits.max_connections;
        let most = limit.map_or(wanted, |limit| {
            let closing = public_limits(config, 0).descriptors();
            let each = limit.saturating_sub(needed(config)) / 2;
            wanted.min(each.saturating_sub(closing).max(MIN_CONNECTIONS))
        });
        Self { public: public_limits(config, most), operations: OPERATIONS }
    }
}

fn public_limits(config: &Config, most: usize) -> ConnectionLimits {
    let of_source = config.limits.source_connections.min((most / 2).max(1));
    // Many clients may come back at once, and from one address: after a restart, say.
    ConnectionLimits { most, of_source, opening_of_source: (of_source / 2).max(1) }
}

/// How many descriptors everything but gRPC and HTTP needs.
fn needed(config: &Config) -> usize {
    let pool = config.database.pool.max_connections as usize + OTHER_DATABASE_CONNECTIONS;
    let database = match config.database.url {
        Database::Sqlite(_) => pool * FOR_SQLITE,
        Database::Postgres(_) => pool,
    };
    let redis = if config.redis.url.is_some() { REDIS } else { 0 };
    OWN + database + redis + OPERATIONS.descriptors()
}

/// How many files the process may have open; `None`: any number.
fn limit() -> Option<usize> {
    #[cfg(target_os = "linux")]
    {
        use rustix::process::{Resource, getrlimit};
        getrlimit(Resource::Nofile).current.and_then(|limit| usize::try_from(limit).ok())
    }
    #[cfg(not(target_os = "linux"))]
    None
}

/// Raises the process's own limit of open files as far as it may. The soft limit is low for the
/// sake of programs that use `select`, which this one does not.
pub fn raise_limit() {
    #[cfg(target_os = "linux")]
    {
        use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
        let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
        if current != maximum
            && let Err(error) = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum })
        {
            tracing::warn!(%error, "the limit of open files stays as it is");
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
    fn places_fit_into_the_limit() {
        let postgres = ("database.url", "postgres://keyward@db/keyward");
        for settings in [&[][..], &[postgres], &[postgres, ("redis.url", "redis://r")]] {
            let config = config(settings);
            for limit in [1024, 4096, 20_000] {
                let Places { public, .. } = Places::within(&config, Some(limit));
                assert!(
                    needed(&config) + 2 * public.descriptors() <= limit,
                    "{settings:?} {limit}"
                );
                assert!(public.of_source <= public.most / 2);
                assert!(public.most >= 300, "{settings:?} {limit}: {public:?}");
            }
        }
    }

    #[test]
    fn settings_hold_where_the_limit_allows_it() {
        for limit in [None, Some(1 << 20)] {
            let Places { public, .. } = Places::within(&config(&[]), limit);
            assert_eq!((public.most, public.of_source), (4096, 1024));
        }
    }

    #[test]
    fn server_with_hardly_any_descriptors_still_listens() {
        assert_eq!(Places::within(&config(&[]), Some(40)).public.most, MIN_CONNECTIONS);
    }
}
