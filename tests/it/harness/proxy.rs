//! A TCP proxy that can be cut.

use std::net::SocketAddr;
use std::sync::Arc;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};

/// Forwards connections to a server until it is cut.
pub(crate) struct Proxy {
    pub(crate) address: SocketAddr,
    server: SocketAddr,
    listener: Option<Arc<TcpListener>>,
    accepting: Option<JoinHandle<()>>,
    /// Connections of an older generation are held.
    generation: watch::Sender<Generation>,
}

/// The connections that forward data: those that started after the last hold ended.
#[derive(Clone, Copy, Default)]
struct Generation {
    number: u64,
    held: bool,
}

impl Proxy {
    pub(crate) async fn to(server: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let mut proxy =
            Self { address, server, listener: None, accepting: None, generation: <_>::default() };
        proxy.accept(listener.into());
        proxy
    }

    /// Closes all connections and refuses new ones.
    pub(crate) async fn cut(&mut self) {
        self.end_connections().await;
        self.listener = None;
    }

    /// Accepts connections again.
    pub(crate) async fn mend(&mut self) {
        self.accept(TcpListener::bind(self.address).await.unwrap().into());
    }

    /// Closes all connections, and forwards new ones to another server.
    pub(crate) async fn lead_to(&mut self, server: SocketAddr) {
        self.end_connections().await;
        self.server = server;
        // The listener is kept, because another process could take the port.
        self.accept(self.listener.clone().expect("it is not cut"));
    }

    fn accept(&mut self, listener: Arc<TcpListener>) {
        let accepting = pass_on(listener.clone(), self.server, self.generation.subscribe());
        self.accepting = Some(tokio::spawn(accepting));
        self.listener = Some(listener);
    }

    async fn end_connections(&mut self) {
        let accepting = self.accepting.take().unwrap();
        accepting.abort();
        // After this, all connections are closed.
        accepting.await.unwrap_err();
    }

    /// Holds all data. Connections stay open, and new ones are accepted.
    pub(crate) fn hold(&self) {
        self.generation.send_modify(|generation| generation.held = true);
    }

    /// Forwards data of new connections. Old connections stay held.
    pub(crate) fn release(&self) {
        self.generation.send_modify(|generation| {
            *generation = Generation { number: generation.number + 1, held: false };
        });
    }
}

async fn pass_on(
    listener: Arc<TcpListener>,
    server: SocketAddr,
    generation: watch::Receiver<Generation>,
) {
    let mut connections = JoinSet::new();
    loop {
        let (inside, _) = listener.accept().await.unwrap();
        let generation = generation.clone();
        connections.spawn(async move {
            let Ok(outside) = TcpStream::connect(server).await else { return };
            let ((from, to), (back, there)) = (inside.into_split(), outside.into_split());
            tokio::select! {
                () = copy(from, there, generation.clone()) => {}
                () = copy(back, to, generation) => {}
            }
        });
    }
}

/// Forwards bytes until the end of the stream, or waits for ever if they are held.
async fn copy(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    mut generation: watch::Receiver<Generation>,
) {
    let born = generation.borrow().number;
    let mut buffer = vec![0; 16 * 1024];
    loop {
        let Ok(read @ 1..) = from.read(&mut buffer).await else { return };
        let free = generation.wait_for(|now| !now.held).await.map(|now| now.number == born);
        if free.is_ok_and(|free| !free) {
            std::future::pending::<()>().await;
        }
        if to.write_all(&buffer[..read]).await.is_err() {
            return;
        }
    }
}
