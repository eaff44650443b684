//! Groups of servers: a primary with a replica and a sentinel, and a cluster.

use super::super::process::free_port;
use super::RedisServer;
use crate::harness::{becomes_true, until_blocking};

/// A replica is synchronised immediately. By default, the primary waits five seconds for other
/// replicas.
const AT_ONCE: [&str; 2] = ["--repl-diskless-sync-delay", "0"];

fn replica_of(port: &str) -> [&str; 5] {
    let [delay, none] = AT_ONCE;
    [delay, none, "--replicaof", "127.0.0.1", port]
}

/// A primary called `main`, its replica, and a sentinel.
pub(crate) struct Watched {
    pub(crate) primary: RedisServer,
    pub(crate) replica: RedisServer,
    pub(crate) sentinel: RedisServer,
}

impl Watched {
    /// Starts all servers. The sentinel declares a server down after half a second.
    pub(crate) fn start() -> Self {
        let primary = RedisServer::start_with(&AT_ONCE);
        let port = primary.port.to_string();
        let replica = RedisServer::start_with(&replica_of(&port));
        let config = format!(
            "sentinel monitor main 127.0.0.1 {port} 1\n\
             sentinel down-after-milliseconds main 500\n\
             sentinel failover-timeout main 3000\n"
        );
        let sentinel = RedisServer::start_configured(Some(config), &["--sentinel"]);
        let mut group = Self { primary, replica, sentinel };
        group.agree();
        group
    }

    /// Like [`start`](Self::start), with a sentinel that checks more often and can fail over again
    /// soon.
    pub(crate) fn start_quick() -> Self {
        const QUICK: [&str; 14] = [
            "info-period",
            "100",
            "publish-period",
            "200",
            "min-link-reconnect-period",
            "100",
            "slave-reconf-timeout",
            "1000",
            "election-timeout",
            "2000",
            "default-failover-timeout",
            "1000",
            // Otherwise it does nothing for half a minute after it was not scheduled for two
            // seconds.
            "tilt-trigger",
            "60000",
        ];
        const SET: [&str; 7] = [
            "sentinel",
            "set",
            "main",
            "failover-timeout",
            "1000",
            // Machines that run many tests are slow.
            "down-after-milliseconds",
            "1000",
        ];
        let group = Self::start();
        group.sentinel.cli(&[&["sentinel", "debug"], &QUICK[..]].concat());
        group.sentinel.cli(&SET);
        group
    }

    /// Waits until the sentinel sees the replica in sync, and notes which server has which role.
    fn agree(&mut self) {
        let agreed = becomes_true(|| {
            if self.is_named(self.replica.port) {
                std::mem::swap(&mut self.primary, &mut self.replica);
            }
            let replicas = self.sentinel.cli(&["sentinel", "replicas", "main"]);
            let seen = self.is_named(self.primary.port)
                && replicas.contains(&self.replica.port.to_string());
            let reported = self.replica.try_cli(&["info", "replication"]).unwrap_or_default();
            let synced = reported.contains(&format!("master_port:{}", self.primary.port))
                && reported.contains("master_link_status:up");
            seen && synced && !replicas.contains("s_down") && !replicas.contains("disconnected")
        });
        assert!(agreed, "the sentinel does not find the replica:\n{}", self.sentinel.log());
    }

    fn is_named(&self, port: u16) -> bool {
        let named = self.sentinel.cli(&["sentinel", "get-master-addr-by-name", "main"]);
        named.lines().any(|line| line == port.to_string())
    }

    /// Crashes the primary. The sentinel promotes the replica.
    pub(crate) fn crash(&mut self) {
        self.primary.stop();
        let taken = becomes_true(|| self.is_named(self.replica.port));
        assert!(taken, "the replica does not take over:\n{}", self.sentinel.log());
        std::mem::swap(&mut self.primary, &mut self.replica);
    }

    /// Requests a failover from the sentinel. The old primary keeps running and becomes a replica.
    pub(crate) fn switch_over(&mut self) {
        let taken = becomes_true(|| {
            let reported = self.sentinel.cli(&["sentinel", "master", "main"]);
            let named = self.is_named(self.replica.port);
            if !named && !reported.contains("failover_in_progress") {
                // The sentinel refuses while the replica is not in sync, or aborts the failover.
                self.sentinel.try_cli(&["sentinel", "failover", "main"]);
            }
            named
        });
        assert!(taken, "the replica does not take over:\n{}", self.sentinel.log());
        std::mem::swap(&mut self.primary, &mut self.replica);
    }

    /// Waits until the former primary is the replica. If it has ended, it is started again, empty.
    pub(crate) fn rejoin(&mut self) {
        if self.replica.process.is_none() {
            let port = self.primary.port.to_string();
            self.replica.arguments = replica_of(&port).map(str::to_owned).into();
            self.replica.start_again();
        }
        self.agree();
    }

    /// Waits until the replica has all data of the primary.
    pub(crate) fn replicate(&self) {
        let offset = |server: &RedisServer| {
            let info = server.cli(&["info", "replication"]);
            let line = info.lines().find(|line| line.starts_with("master_repl_offset:"));
            line.unwrap().trim().to_owned()
        };
        until_blocking("the replica has all data", || {
            offset(&self.primary) == offset(&self.replica)
        });
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
        until_blocking("the cluster meets", || cluster.is_whole());
        cluster
    }

    /// Whether every node knows all slots.
    pub(crate) fn is_whole(&self) -> bool {
        self.nodes.iter().all(|node| {
            let info = node.cli(&["cluster", "info"]);
            let three = info.contains("cluster_size:3") && info.contains("cluster_known_nodes:3");
            three && info.contains("cluster_state:ok")
        })
    }

    /// The URL of some nodes. The client discovers the others.
    pub(crate) fn url(&self) -> String {
        let [first, second, _] = &self.nodes[..] else { panic!("three nodes") };
        format!("redis-cluster://127.0.0.1:{},127.0.0.1:{}", first.port, second.port)
    }
}
