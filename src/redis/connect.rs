//! Connections to the kinds of Redis that a URL can name.

use std::collections::BTreeMap;
use std::fs;
use std::time::Duration;

use redis::aio::{MultiplexedConnection, PubSub};
use redis::cluster::ClusterClientBuilder;
use redis::cluster_async::ClusterConnection;
use redis::cluster_routing::{MultipleNodeRoutingInfo, RoutingInfo};
use redis::io::tcp::TcpSettings;
use redis::{
    AsyncConnectionConfig, Client, Cmd, ConnectionAddr, ConnectionInfo, ErrorKind,
    IntoConnectionInfo, RedisConnectionInfo, RedisError, RedisResult, TlsCertificates, Value,
    from_redis_value,
};
use tokio::time::timeout;

use super::checks::{check, check_mode};
use super::fault::LinkError;
use super::url::{Address, Layout, RedisLogin, RedisUrl};

/// How often the cluster driver retries a command after a moved slot or on another node.
const CLUSTER_RETRIES: u32 = 3;
/// The range of its pauses in milliseconds. All retries fit into one timeout.
const CLUSTER_WAIT: (u64, u64) = (5, 50);
/// The number of requests that can wait for the connection's task. More callers wait until there is
/// room.
const QUEUE: usize = 1024;

/// Time limits for Redis.
#[derive(Clone, Copy, Debug)]
pub struct Timeouts {
    /// For connecting and authenticating.
    pub connect: Duration,
    /// For the answer to a command.
    pub response: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self { connect: Duration::from_secs(1), response: Duration::from_millis(250) }
    }
}

/// A multiplexed connection.
#[derive(Clone)]
pub(super) enum RedisConnection {
    One { to: Address, connection: MultiplexedConnection },
    Cluster(ClusterConnection),
}

impl RedisConnection {
    pub(super) async fn send(&mut self, command: &Cmd) -> RedisResult<Value> {
        match self {
            Self::One { connection, .. } => command.query_async(connection).await,
            Self::Cluster(connection) => command.query_async(connection).await,
        }
    }

    /// The replies of all primaries to a command about themselves.
    pub(super) async fn ask(&mut self, question: &Cmd) -> RedisResult<Vec<String>> {
        match self {
            Self::One { connection, .. } => Ok(vec![question.query_async(connection).await?]),
            Self::Cluster(connection) => {
                let all = RoutingInfo::MultiNode((MultipleNodeRoutingInfo::AllMasters, None));
                let answers = connection.route_command(question.clone(), all).await?;
                let answers: BTreeMap<String, String> = from_redis_value(answers.extract_error()?)?;
                Ok(answers.into_values().collect())
            }
        }
    }
}

#[derive(Clone, Debug)]
pub(super) struct Connector {
    pub(super) url: RedisUrl,
    pub(super) timeouts: Timeouts,
}

impl Connector {
    /// Connects, and checks that the server is suitable.
    pub(super) async fn open(&self) -> Result<RedisConnection, LinkError> {
        let mut connection = match &self.url.layout {
            Layout::Single(address) => self.connect(address).await?,
            Layout::Sentinel { .. } => self.connect(&self.primary().await?).await?,
            Layout::Cluster(nodes) => self.connect_cluster(nodes).await?,
        };
        self.examine(&mut connection).await?;
        Ok(connection)
    }

    /// Checks that the server at the other end is still the right one.
    pub(super) async fn examine(&self, connection: &mut RedisConnection) -> Result<(), LinkError> {
        for info in connection.ask(&redis::cmd("INFO")).await? {
            check(&info)?;
            check_mode(&info, self.url.is_clustered())?;
        }
        match connection {
            RedisConnection::One { to, .. } => self.examine_primary(to).await,
            RedisConnection::Cluster(_) => {
                let state = connection.ask(redis::cmd("CLUSTER").arg("INFO")).await?;
                if state.iter().all(|state| state.contains("cluster_state:ok")) {
                    Ok(())
                } else {
                    Err(LinkError::Away("the cluster does not have all of its slots".into()))
                }
            }
        }
    }

    /// Checks with the sentinels, if there are any, that this is still the primary. A primary that
    /// is partitioned from the sentinels still calls itself primary.
    async fn examine_primary(&self, to: &Address) -> Result<(), LinkError> {
        match &self.url.layout {
            Layout::Sentinel { .. } => match self.primary().await {
                Ok(primary) if primary != *to => {
                    Err(LinkError::Away(format!("{primary} is the primary now").into()))
                }
                // If no sentinel answers, keep the working connection.
                _ => Ok(()),
            },
            Layout::Single(_) | Layout::Cluster(_) => Ok(()),
        }
    }

    /// A connection that is subscribed to a channel.
    pub(super) async fn listen(&self, channel: &str) -> Result<PubSub, LinkError> {
        let mut last = LinkError::Away("the URL names no node".into());
        let addresses = match &self.url.layout {
            Layout::Single(address) => vec![address.clone()],
            Layout::Sentinel { .. } => vec![self.primary().await?],
            // Cluster nodes forward published messages to each other, so any node will do.
            Layout::Cluster(nodes) => nodes.clone(),
        };
        for address in addresses {
            let client = self.client(&address, &self.url.login, self.url.db)?;
            let subscribed = timeout(self.timeouts.connect, async {
                let mut listener = client.get_async_pubsub().await?;
                listener.subscribe(channel).await?;
                Ok::<_, RedisError>(listener)
            });
            match subscribed.await {
                Ok(Ok(listener)) => return Ok(listener),
                Ok(Err(error)) => last = error.into(),
                Err(elapsed) => last = LinkError::Away(elapsed.into()),
            }
        }
        Err(last)
    }

    /// The primary's address, from the sentinels.
    async fn primary(&self) -> Result<Address, LinkError> {
        let Layout::Sentinel { sentinels, primary, login } = &self.url.layout else {
            return Err(LinkError::Unfit("the URL names no sentinels".into()));
        };
        let mut last = LinkError::Away("the URL names no sentinel".into());
        for sentinel in sentinels {
            match self.ask(sentinel, login, primary).await {
                Ok(Some((host, port))) => return Ok(Address { host, port }),
                Ok(None) => {
                    let words =
                        format!("the sentinel {sentinel} does not know the primary {primary:?}");
                    last = LinkError::Unfit(words);
                }
                Err(error) => last = error.into(),
            }
        }
        Err(last)
    }

    async fn ask(
        &self,
        sentinel: &Address,
        login: &RedisLogin,
        primary: &str,
    ) -> RedisResult<Option<(String, u16)>> {
        let client = self.client(sentinel, login, 0)?;
        let mut sentinel =
            client.get_multiplexed_async_connection_with_config(&self.options()).await?;
        let mut question = redis::cmd("SENTINEL");
        question.arg("GET-MASTER-ADDR-BY-NAME").arg(primary);
        question.query_async(&mut sentinel).await
    }

    async fn connect(&self, to: &Address) -> RedisResult<RedisConnection> {
        let client = self.client(to, &self.url.login, self.url.db)?;
        let connection =
            client.get_multiplexed_async_connection_with_config(&self.options()).await?;
        Ok(RedisConnection::One { to: to.clone(), connection })
    }

    async fn connect_cluster(&self, nodes: &[Address]) -> Result<RedisConnection, LinkError> {
        let nodes = nodes
            .iter()
            .map(|node| self.info(node, &self.url.login, 0))
            .collect::<RedisResult<Vec<_>>>()?;
        let (min, max) = CLUSTER_WAIT;
        let mut client = ClusterClientBuilder::new(nodes)
            .connection_timeout(self.timeouts.connect)
            .response_timeout(self.timeouts.response)
            .tcp_settings(tcp())
            .retries(CLUSTER_RETRIES)
            .min_retry_wait(min)
            .max_retry_wait(max);
        if let Some(certificates) = self.certificates()? {
            client = client.certs(certificates);
        }
        let connected = client.build()?;
        let connected = timeout(self.timeouts.connect, connected.get_async_connection()).await;
        match connected {
            Ok(connection) => Ok(RedisConnection::Cluster(connection?)),
            Err(elapsed) => Err(LinkError::Away(elapsed.into())),
        }
    }

    fn options(&self) -> AsyncConnectionConfig {
        AsyncConnectionConfig::new()
            .set_connection_timeout(Some(self.timeouts.connect))
            .set_response_timeout(Some(self.timeouts.response))
            .set_pipeline_buffer_size(QUEUE)
    }

    fn client(&self, to: &Address, login: &RedisLogin, db: i64) -> RedisResult<Client> {
        let info = self.info(to, login, db)?;
        match self.certificates()? {
            Some(certificates) => Client::build_with_tls(info, certificates),
            None => Client::open(info),
        }
    }

    fn info(&self, to: &Address, login: &RedisLogin, db: i64) -> RedisResult<ConnectionInfo> {
        let Address { host, port } = to.clone();
        let address = if self.url.tls {
            ConnectionAddr::TcpTls { host, port, insecure: false, tls_params: None }
        } else {
            ConnectionAddr::Tcp(host, port)
        };
        let mut redis = RedisConnectionInfo::default().set_db(db).set_skip_set_lib_name();
        if let Some(user) = &login.user {
            redis = redis.set_username(user);
        }
        if let Some(password) = &login.password {
            redis = redis.set_password(password);
        }
        Ok(address.into_connection_info()?.set_tcp_settings(tcp()).set_redis_settings(redis))
    }

    /// Read for each connection, so that a renewed file takes effect.
    fn certificates(&self) -> RedisResult<Option<TlsCertificates>> {
        let Some(file) = &self.url.ca_file else { return Ok(None) };
        let root_cert = fs::read(file).map_err(|error| {
            let reported = format!("{}: {error}", file.display());
            RedisError::from((
                ErrorKind::InvalidClientConfig,
                "the ca_file cannot be read",
                reported,
            ))
        })?;
        Ok(Some(TlsCertificates { client_tls: None, root_cert: Some(root_cert) }))
    }
}

/// Disables Nagle's algorithm, so that small requests are sent immediately.
fn tcp() -> TcpSettings {
    TcpSettings::default().set_nodelay(true)
}
