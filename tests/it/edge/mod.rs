//! The edge: unauthenticated requests use bounded resources, and do not affect authenticated
//! callers.

mod bodies;
mod connections;
mod ending;
mod frames;
mod half_requests;
mod memory;
mod metadata;
mod served;

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::net::{TcpSocket, TcpStream};
use tokio::time::timeout;

/// Long enough for a loaded machine.
const PATIENCE: Duration = Duration::from_mins(1);

/// A connection from an address of the loopback network.
async fn connect_from(source: &str, server: SocketAddr) -> io::Result<TcpStream> {
    let socket = TcpSocket::new_v4()?;
    socket.bind(SocketAddr::new(source.parse().unwrap(), 0))?;
    socket.connect(server).await
}

/// Polls a condition until it is true.
async fn until(what: &str, mut there: impl AsyncFnMut() -> bool) {
    let waited = async {
        while !there().await {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(PATIENCE, waited).await.unwrap_or_else(|_| panic!("in vain: {what}"));
}
