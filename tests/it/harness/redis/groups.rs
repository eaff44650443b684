//! Servers that belong together: a primary and its replica under a sentinel, and a cluster.

use super::super::process::free_port;
use super::{RedisServer, wait_until};

/// A primary called `main`, its replica, and a sentinel that makes one of the other.
pub(crate) struct Watched {
    pub(crate) primary: RedisServer,
    pub(crate) replica: RedisServer,
    pub(crate) sentinel: RedisServer,
}

impl Watched {
    /// All of them, in agreement. The sentinel takes half a second of silence for death.
    pub(crate) fn start() -> Self {
        let primary = RedisServer::start_with(&["--repl-diskless-sync-delay", "0"]);
        let port = primary.port.to_string();
        let replica = RedisServer::start_with(&["--replicaof", "127.0.0.1", &port]);
        let config = format!(
            "sentinel monitor main 127.0.0.1 {port} 1\n\
             sentinel down-after-milliseconds main 500\n\
             sentinel failover-timeout main 3000\n"
        );
        let sentinel = RedisServer::start_configured(Some(config), &["--sentinel"]);
        let agreed = wait_until(|| {
            let replicas = sentinel.cli(&["sentinel", "replicas", "main"]);
            let seen = replicas.contains(&replica.port.to_string());
            let synced = replica.cli(&["info", "replication"]).contains("master_link_status:up");
            seen && synced && !replicas.contains("s_down") && !replicas.contains("disconnected")
        });
        assert!(agreed, "the sentinel does not find the replica:\n{}", sentinel.log());
        Self { primary, replica, sentinel }
    }

    /// Waits until the replica has all that the primary has.
    pub(crate) fn replicate(&self) {
        let offset = |server: &RedisServer| {
            let info = server.cli(&["info", "replication"]);
            let line = info.lines().find(|line| line.starts_with("master_repl_offset:"));
            line.unwrap().trim().to_owned()
        };
        assert!(wait_until(|| offset(&self.primary) == offset(&self.replica)));
    }

    pub(crate) fn url(&self) -> String {
        format!("redis-sentinel://127.0.0.1:{}/main", self.sentinel.port)
    }
}

/// A cluster of three nodes without replicas.
pub(crate) struct RedisCluster {
    pub(crate) nodes: Vec<RedisServer>,
}

impl RedisCluster {
    pub(crate) fn start() -> Self {
        const SLOTS: [(&str, &str); 3] = [("0", "5460"), ("5461", "10922"), ("10923", "16383")];
        let node = |(epoch, (first, last)): (usize, (&str, &str))| {
            let bus = free_port().to_string();
            let node = RedisServer::start_with(&[
                "--cluster-enabled",
                "yes",
                "--cluster-port",
                &bus,
                "--cluster-node-timeout",
                "1000",
            ]);
            node.cli(&["cluster", "set-config-epoch", &(epoch + 1).to_string()]);
            node.cli(&["cluster", "addslotsrange", first, last]);
            (node, bus)
        };
        let nodes: Vec<_> = SLOTS.into_iter().enumerate().map(node).collect();
        let (first, bus) = &nodes[0];
        for (node, _) in &nodes[1..] {
            node.cli(&["cluster", "meet", "127.0.0.1", &first.port.to_string(), bus]);
        }
        let nodes: Vec<_> = nodes.into_iter().map(|(node, _)| node).collect();
        let cluster = Self { nodes };
        assert!(wait_until(|| cluster.is_whole()), "the cluster does not meet");
        cluster
    }

    /// Whether every node knows of all slots.
    pub(crate) fn is_whole(&self) -> bool {
        self.nodes.iter().all(|node| {
            let info = node.cli(&["cluster", "info"]);
            let three = info.contains("cluster_size:3") && info.contains("cluster_known_nodes:3");
            three && info.contains("cluster_state:ok")
        })
    }

    /// The URL of some of its nodes: the others are found by asking.
    pub(crate) fn url(&self) -> String {
        let [first, second, _] = &self.nodes[..] else { panic!("three nodes") };
        format!("redis-cluster://127.0.0.1:{},127.0.0.1:{}", first.port, second.port)
    }
}
