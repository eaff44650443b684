//! A primary and its synchronous standby, behind an address that can be moved from one to the
//! other, like a load balancer or a virtual IP address.

use std::mem;
use std::net::{Ipv4Addr, SocketAddr};

use sqlx::{Executor, PgConnection};
use tokio::task::block_in_place;

use super::{PostgresServer, Proxy};

/// Both servers. A commit on the primary waits until the standby has written it. (Tests disable
/// `fsync`.)
pub(crate) struct Pair {
    /// Dropped first, because a primary that shuts down waits for its standby.
    standby: Option<PostgresServer>,
    primary: PostgresServer,
    proxy: Proxy,
    leads_to_standby: bool,
    database: String,
}

impl Pair {
    /// Both servers with an empty database. The address leads to the primary.
    pub(crate) async fn start() -> Self {
        let start = || {
            let primary = PostgresServer::start();
            let standby = primary.standby();
            (primary, standby)
        };
        let (primary, standby) = tokio::task::spawn_blocking(start).await.unwrap();
        let proxy = Proxy::to(address(&primary)).await;
        let url = primary.fresh_database().await;
        let database = url.rsplit_once('/').unwrap().1.to_owned();
        let pair =
            Self { standby: Some(standby), primary, proxy, leads_to_standby: false, database };
        pair.synchronize().await;
        pair
    }

    /// The URL of the database at the movable address.
    pub(crate) fn url(&self) -> String {
        format!("postgres://keyward@{}/{}", self.proxy.address, self.database)
    }

    /// The URL of the database on the primary, regardless of the address.
    pub(crate) fn url_on_primary(&self) -> String {
        self.primary.url(&self.database)
    }

    /// A URL that names both servers.
    pub(crate) fn url_on_both(&self) -> String {
        let (one, other) = (self.primary.port, self.standby().port);
        format!("postgres://keyward@127.0.0.1:{one},127.0.0.1:{other}/{}", self.database)
    }

    /// A superuser connection to the primary.
    pub(crate) async fn admin(&self) -> PgConnection {
        self.primary.admin().await
    }

    /// Ends the primary like a crash.
    pub(crate) fn crash(&mut self) {
        block_in_place(|| self.primary.stop());
    }

    /// Ends the primary like an operator who wants the standby to take over.
    pub(crate) fn shut_down(&mut self) {
        block_in_place(|| self.primary.shut_down());
    }

    /// Suspends the primary. Its connections stay open.
    pub(crate) fn hang(&self) {
        self.primary.pause();
    }

    /// Ends the standby.
    pub(crate) fn stop_standby(&mut self) {
        block_in_place(|| self.standby.as_mut().expect("there is a standby").stop());
    }

    /// Starts the standby again. It catches up by itself.
    pub(crate) fn start_standby(&mut self) {
        block_in_place(|| self.standby.as_mut().expect("there is a standby").start_again());
    }

    /// Lets the standby receive changes without applying them, so that it lags behind.
    pub(crate) async fn pause_replay(&self) {
        const PAUSED: &str = "select pg_get_wal_replay_pause_state() = 'paused'";
        let mut standby = self.standby().admin().await;
        standby.execute("select pg_wal_replay_pause()").await.unwrap();
        until(&mut standby, PAUSED, "the replay pauses").await;
    }

    pub(crate) async fn resume_replay(&self) {
        self.standby().admin().await.execute("select pg_wal_replay_resume()").await.unwrap();
    }

    /// Moves the address to the standby. Connections to the primary end.
    pub(crate) async fn lead_to_standby(&mut self) {
        self.proxy.lead_to(address(self.standby())).await;
        self.leads_to_standby = true;
    }

    /// Moves the address to the primary. Connections to the standby end.
    pub(crate) async fn lead_to_primary(&mut self) {
        self.proxy.lead_to(address(&self.primary)).await;
        self.leads_to_standby = false;
    }

    /// Promotes the standby, and moves the address to it if necessary. The old primary is ended if
    /// it still runs. Until the new primary has a standby, its commits do not wait.
    pub(crate) async fn promote(&mut self) {
        let promoted = self.standby.take().expect("there is a standby");
        let mut admin = promoted.admin().await;
        admin.execute("select pg_promote(wait => false)").await.unwrap();
        until(&mut admin, "select not pg_is_in_recovery()", "the standby is promoted").await;
        let old = mem::replace(&mut self.primary, promoted);
        if mem::take(&mut self.leads_to_standby) {
            block_in_place(|| drop(old));
        } else {
            // First the address, because the old primary must have no clients.
            self.lead_to_primary().await;
            block_in_place(|| drop(old));
        }
    }

    /// Gives the primary a new standby. When this returns, the standby has all commits, and every
    /// commit waits for it.
    pub(crate) async fn rejoin(&mut self) {
        assert!(self.standby.is_none(), "there is a standby");
        self.standby = Some(block_in_place(|| self.primary.standby()));
        self.synchronize().await;
    }

    /// Waits until the standby has all commits, and new commits wait for it.
    pub(crate) async fn synchronize(&self) {
        const SYNCHRONOUS: &str = "select exists (select from pg_stat_replication \
            where state = 'streaming' and sync_state = 'sync')";
        const EQUAL: &str = "select exists (select from pg_stat_replication \
            where flush_lsn >= pg_current_wal_insert_lsn())";
        let mut admin = self.admin().await;
        admin.execute("alter system set synchronous_standby_names = '*'").await.unwrap();
        admin.execute("select pg_reload_conf()").await.unwrap();
        until(&mut admin, SYNCHRONOUS, "the standby is synchronous").await;
        // The checkpointer makes commits wait. After a checkpoint it has read the new settings.
        admin.execute("checkpoint").await.unwrap();
        until(&mut admin, EQUAL, "the standby has everything").await;
    }

    fn standby(&self) -> &PostgresServer {
        self.standby.as_ref().expect("there is a standby")
    }
}

fn address(server: &PostgresServer) -> SocketAddr {
    (Ipv4Addr::LOCALHOST, server.port).into()
}

/// Waits until a query returns true.
async fn until(admin: &mut PgConnection, question: &'static str, what: &str) {
    super::until(what, async || {
        sqlx::query_scalar::<_, bool>(question).fetch_one(&mut *admin).await.unwrap()
    })
    .await;
}
