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

use tokio::net::{TcpSocket, TcpStream};

/// A connection from an address of the loopback network.
async fn connect_from(source: &str, server: SocketAddr) -> io::Result<TcpStream> {
    let socket = TcpSocket::new_v4()?;
    socket.bind(SocketAddr::new(source.parse().unwrap(), 0))?;
    socket.connect(server).await
}
