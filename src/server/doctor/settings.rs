//! Settings that do not fit together, or not to this machine.

use std::net::IpAddr;
use std::time::Duration;

use super::{Finding, Host};
use crate::config::Config;
use crate::server::descriptors;

/// About how long one hash of a secret takes on a core.
const HASH: Duration = Duration::from_millis(25);
/// The memory of one hash.
const HASH_MEMORY: u64 = 19 << 20;
/// The memory of an idle server.
const IDLE_MEMORY: u64 = 64 << 20;
/// About what an open connection needs.
const CONNECTION_MEMORY: u64 = 16 << 10;

pub(super) fn findings(config: &Config, host: Host) -> Vec<Finding> {
    vec![
        issuer(config),
        plaintext(config),
        operations(config),
        hash_queue(config, host),
        memory(config, host),
        open_files(config),
    ]
}

fn issuer(config: &Config) -> Finding {
    const CHECK: &str = "issuer";
    let Some(issuer) = &config.issuer else {
        return Finding::warning(
            CHECK,
            "issuer is not set, so tokens contain the address of the listener",
            "set issuer to the public URL before others depend on it; a change makes all tokens \
             invalid",
        );
    };
    let uri: http::Uri = issuer.parse().unwrap_or_default();
    let is_local = uri.host().is_some_and(is_local);
    if is_local && !config.listen.http.ip().is_loopback() {
        return Finding::warning(
            CHECK,
            format!(
                "issuer is {issuer}, which only this machine reaches, but http.listen is {}",
                config.listen.http
            ),
            "set issuer to the URL by which others reach this server",
        );
    }
    if !is_local && uri.scheme_str() == Some("http") {
        return Finding::warning(
            CHECK,
            format!("issuer is {issuer}, without TLS"),
            "use an https URL: verifiers read the keys from it",
        );
    }
    Finding::ok(CHECK, issuer.clone())
}

fn is_local(host: &str) -> bool {
    let host = host.trim_matches(['[', ']']);
    host == "localhost" || host.parse().is_ok_and(|ip: IpAddr| ip.is_loopback())
}

fn plaintext(config: &Config) -> Finding {
    const CHECK: &str = "plaintext";
    let faces = [
        ("grpc.listen", config.listen.grpc, &config.tls.grpc),
        ("http.listen", config.listen.http, &config.tls.http),
    ];
    let open: Vec<_> = faces
        .iter()
        .filter(|(_, address, tls)| tls.is_none() && !address.ip().is_loopback())
        .map(|(setting, address, _)| format!("{setting} ({address})"))
        .collect();
    if open.is_empty() {
        return Finding::ok(CHECK, "listeners use TLS, or only this machine reaches them");
    }
    Finding::warning(
        CHECK,
        format!("{} accept secrets without TLS from other machines", open.join(" and ")),
        "set tls.certificate and tls.key; or let only a proxy with TLS reach them",
    )
}

fn operations(config: &Config) -> Finding {
    const CHECK: &str = "operations";
    let address = config.listen.ops;
    if address.ip().is_loopback() {
        return Finding::ok(CHECK, "only this machine reads metrics and readiness");
    }
    Finding::warning(
        CHECK,
        format!("ops.listen ({address}) shows metrics and readiness to other machines"),
        "let only the monitoring reach it",
    )
}

fn hash_queue(config: &Config, host: Host) -> Finding {
    const CHECK: &str = "hash_queue";
    let queue = config.secrets.hash_queue;
    let length = u32::try_from(queue.length).unwrap_or(u32::MAX);
    let cores = u32::try_from(host.cores).unwrap_or(u32::MAX).max(1);
    let wait = HASH.saturating_mul(length) / cores;
    if wait <= queue.longest_wait {
        return Finding::ok(CHECK, format!("{length} hashes on {cores} cores: about {wait:.1?}"));
    }
    Finding::warning(
        CHECK,
        format!(
            "{length} queued hashes take about {wait:.1?} on {cores} cores, but callers wait at \
             most {:?}",
            queue.longest_wait
        ),
        "lower secrets.hash_queue, so that callers beyond it are refused at once",
    )
}

fn memory(config: &Config, host: Host) -> Finding {
    const CHECK: &str = "memory";
    let bytes = |count: usize| u64::try_from(count).unwrap_or(u64::MAX);
    let hashes = bytes(host.cores).saturating_mul(HASH_MEMORY);
    let connections = bytes(config.limits.max_connections).saturating_mul(2 * CONNECTION_MEMORY);
    let needed = [bytes(config.limits.request_memory), hashes, connections]
        .into_iter()
        .fold(IDLE_MEMORY, u64::saturating_add);
    let Some(memory) = host.memory else {
        return Finding::ok(CHECK, format!("{} at most; this machine's is unknown", mib(needed)));
    };
    let found = format!("up to {} of {}", mib(needed), mib(memory));
    if needed <= memory / 10 * 8 {
        return Finding::ok(CHECK, found);
    }
    Finding::warning(
        CHECK,
        format!("under full load the server needs {found}"),
        "lower limits.request_memory or limits.max_connections, or add memory",
    )
}

fn mib(bytes: u64) -> String {
    format!("{} MiB", bytes >> 20)
}

fn open_files(config: &Config) -> Finding {
    const CHECK: &str = "open_files";
    match descriptors::shortage(config) {
        None => Finding::ok(CHECK, "enough for limits.max_connections"),
        Some(shortage) => Finding::warning(
            CHECK,
            format!(
                "the limit of open files is {}, and limits.max_connections ({}) needs {}: gRPC and \
                 HTTP hold {} connections each",
                shortage.limit, config.limits.max_connections, shortage.needed, shortage.max
            ),
            "raise the limit (ulimit -n, systemd LimitNOFILE), or lower limits.max_connections",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Layers;
    use crate::server::doctor::Level;

    fn found(settings: &[(&'static str, &str)], check: &str) -> Finding {
        let mut layers = Layers::default();
        for (key, value) in settings {
            layers = layers.with_flag(key, "test", Some(value));
        }
        let host = Host { cores: 2, memory: Some(2 << 30) };
        let all = findings(&Config::read(layers).unwrap(), host);
        all.into_iter().find(|finding| finding.check == check).unwrap()
    }

    #[test]
    fn default_settings_fit_two_cores_and_2_gib() {
        for check in ["plaintext", "operations", "hash_queue", "memory"] {
            assert_eq!(found(&[], check).level, Level::Ok, "{check}");
        }
    }

    #[test]
    fn settings_that_do_not_fit_are_warnings() {
        let (open, permitted) = (("http.listen", "0.0.0.0:8080"), ("http.plaintext", "true"));
        for (settings, check) in [
            (&[][..], "issuer"),
            (&[("issuer", "http://keyward.example")], "issuer"),
            (&[("issuer", "http://localhost:8080"), open, permitted], "issuer"),
            (&[("issuer", "https://[::1]"), open, permitted], "issuer"),
            (&[open, permitted], "plaintext"),
            (&[("ops.listen", "[::]:9464"), ("ops.plaintext", "true")], "operations"),
            (&[("secrets.hash_queue", "5000")], "hash_queue"),
            (&[("secrets.hash_wait", "1s")], "hash_queue"),
            (&[("limits.request_memory", "2000000000")], "memory"),
            (&[("limits.max_connections", "1000000")], "memory"),
        ] {
            let finding = found(settings, check);
            assert_eq!(finding.level, Level::Warning, "{settings:?}: {finding:?}");
            assert!(!finding.advice.is_empty());
        }
        for issuer in ["https://keyward.example/auth", "http://127.0.0.1:8080"] {
            assert_eq!(found(&[("issuer", issuer)], "issuer").level, Level::Ok, "{issuer}");
        }
    }
}
