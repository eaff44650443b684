//! Checks whether a Redis server is suitable. They use INFO, because managed services forbid
//! CONFIG.

use super::fault::LinkError;

/// The oldest supported version: its scripts and ACLs work as this crate needs them.
const OLDEST: (u32, u32) = (6, 2);

/// Checks one server, given the text of its INFO.
pub(super) fn check(info: &str) -> Result<(), LinkError> {
    let unfit = |words: String| Err(LinkError::Unfit(words));
    if field(info, "redis_mode") == Some("sentinel") {
        return unfit("it is a sentinel: use redis-sentinel://HOST:PORT/NAME".to_owned());
    }
    // Valkey reports a compatible Redis version. All Valkey versions are new enough.
    let version = field(info, "redis_version").unwrap_or("unknown");
    if field(info, "valkey_version").is_none() && parsed(version) < OLDEST {
        let (major, minor) = OLDEST;
        return unfit(format!("its version is {version}; it must be {major}.{minor} or newer"));
    }
    if field(info, "loading") == Some("1") {
        return Err(LinkError::Away("it is loading its data".into()));
    }
    if field(info, "role") != Some("master") {
        return unfit(
            "it is a replica: use the primary's address, or redis-sentinel://".to_owned(),
        );
    }
    let policy = field(info, "maxmemory_policy").unwrap_or("noeviction");
    if field(info, "maxmemory").is_some_and(|max| max != "0") && policy != "noeviction" {
        return unfit(format!(
            "its maxmemory-policy is {policy}, which can evict counters when memory is full: set \
             it to noeviction"
        ));
    }
    Ok(())
}

/// Checks that the server is in cluster mode if and only if the URL says so.
pub(super) fn check_mode(info: &str, clustered: bool) -> Result<(), LinkError> {
    match (clustered, field(info, "cluster_enabled") == Some("1")) {
        (false, true) => {
            Err(LinkError::Unfit("it belongs to a cluster: use redis-cluster://".into()))
        }
        (true, false) => Err(LinkError::Unfit("it is not in cluster mode: use redis://".into())),
        _ => Ok(()),
    }
}

/// The value of an INFO field.
pub(super) fn field<'a>(info: &'a str, name: &str) -> Option<&'a str> {
    info.lines()
        .filter_map(|line| line.split_once(':'))
        .find(|(found, _)| *found == name)
        .map(|(_, value)| value.trim())
}

fn parsed(version: &str) -> (u32, u32) {
    let mut parts = version.split('.').map(|part| part.parse().unwrap_or(0));
    (parts.next().unwrap_or(0), parts.next().unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn info(version: &str, more: &str) -> String {
        format!("# Server\r\nredis_version:{version}\r\nredis_mode:standalone\r\n{more}\r\n")
    }

    fn unfit(info: &str) -> String {
        match check(info) {
            Err(LinkError::Unfit(words)) => words,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn redis_from_6_2_and_every_valkey_are_accepted() {
        for version in ["6.2.0", "6.10.1", "7.0.15", "8.6.0", "10.0.0"] {
            check(&info(version, "role:master")).expect(version);
        }
        check(&info("6.0.1", "valkey_version:9.0.1\r\nrole:master")).unwrap();
        for version in ["6.0.16", "5.0.14", "unknown"] {
            let words = unfit(&info(version, "role:master"));
            assert!(words.contains(version) && words.contains("6.2"), "{words}");
        }
    }

    #[test]
    fn evicting_policy_is_accepted_only_without_a_memory_limit() {
        let info = |max, policy| {
            info("7.2.4", &format!("role:master\r\nmaxmemory:{max}\r\nmaxmemory_policy:{policy}"))
        };
        check(&info("0", "allkeys-lru")).unwrap();
        check(&info("1000000", "noeviction")).unwrap();
        let words = unfit(&info("1000000", "volatile-ttl"));
        assert!(words.contains("volatile-ttl") && words.contains("noeviction"), "{words}");
    }

    #[test]
    fn replica_and_sentinel_are_refused() {
        assert!(unfit(&info("7.2.4", "role:slave")).contains("replica"));
        let sentinel = "redis_version:7.0.15\r\nredis_mode:sentinel\r\n";
        assert!(unfit(sentinel).contains("redis-sentinel://"));
        check_mode("cluster_enabled:1\r\n", false).unwrap_err();
        check_mode("cluster_enabled:0\r\n", true).unwrap_err();
        check_mode("cluster_enabled:1\r\n", true).unwrap();
    }
}
