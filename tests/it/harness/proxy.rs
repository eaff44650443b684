//! A wire to a server that can be cut.

use std::net::SocketAddr;

use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinHandle, JoinSet};

/// Passes connections on to a server until it is cut.
pub(crate) struct Proxy {
    pub(crate) address: SocketAddr,
    server: SocketAddr,
    accepting: Option<JoinHandle<()>>,
}

impl Proxy {
    pub(crate) async fn to(server: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        Self { address, server, accepting: Some(tokio::spawn(pass_on(listener, server))) }
    }

    /// Ends every connection and refuses new ones.
    pub(crate) async fn cut(&mut self) {
        let accepting = self.accepting.take().unwrap();
        accepting.abort();
        // Only then are the listener and all connections gone.
        accepting.await.unwrap_err();
    }

    /// Passes connections on again.
    pub(crate) async fn mend(&mut self) {
        let listener = TcpListener::bind(self.address).await.unwrap();
        self.accepting = Some(tokio::spawn(pass_on(listener, self.server)));
    }
}

async fn pass_on(listener: TcpListener, server: SocketAddr) {
    let mut connections = JoinSet::new();
    loop {
        let (mut inside, _) = listener.accept().await.unwrap();
        connections.spawn(async move {
            let mut outside = TcpStream::connect(server).await.unwrap();
            tokio::io::copy_bidirectional(&mut inside, &mut outside).await.ok();
        });
    }
}
