//! Server processes that tests start. They always end with the tests.

use std::net::TcpListener;
use std::process::{Child, Command};
use std::sync::{OnceLock, mpsc};
use std::thread;

/// Starts a process from a thread that lives as long as the tests. The kernel's parent-death signal
/// (`setpriv --pdeathsig`) is sent when that thread ends.
pub(crate) fn spawn(command: Command) -> Child {
    type Order = (Command, mpsc::Sender<Child>);
    static ORDERS: OnceLock<mpsc::Sender<Order>> = OnceLock::new();
    let orders = ORDERS.get_or_init(|| {
        let (orders, received) = mpsc::channel::<Order>();
        thread::spawn(move || {
            for (mut command, answer) in received {
                let child = command.spawn().expect("setpriv of util-linux runs");
                answer.send(child).unwrap();
            }
        });
        orders
    });
    let (answer, child) = mpsc::channel();
    orders.send((command, answer)).unwrap();
    child.recv().expect("a process starts")
}

/// Sends a signal to existing processes.
pub(crate) fn signal(signal: &str, processes: &[u32]) {
    let script = r#"signal=$1; shift; kill -s "$signal" "$@""#;
    let processes = processes.iter().map(u32::to_string);
    let done = Command::new("sh").args(["-c", script, "sh", signal]).args(processes).status();
    assert!(done.unwrap().success(), "{signal}");
}

/// A port that is not in use.
pub(crate) fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}
