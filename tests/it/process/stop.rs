//! Signals: SIGTERM drains first, SIGINT does not, and a second signal stops immediately.

use std::process::Command;

use tempfile::TempDir;

use super::binary::{FREE_PORTS, Serving, keyward};
use crate::harness::until_blocking;

/// A server with a drain time and a shutdown grace of an hour.
fn patient(folder: &TempDir) -> Serving {
    let arguments = ["serve"].iter().chain(&FREE_PORTS).copied();
    let mut command = keyward(arguments.chain(["--data-dir", folder.path().to_str().unwrap()]));
    command.env("KEYWARD_LIMITS_DRAIN_TIME", "1h").env("KEYWARD_LIMITS_SHUTDOWN_GRACE", "1h");
    Serving::try_start(&mut command).unwrap_or_else(|log| panic!("the server starts: {log}"))
}

fn status(url: &str) -> u16 {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async { reqwest::get(url).await.unwrap().status().as_u16() })
}

#[test]
fn sigterm_drains_and_second_sigterm_stops_immediately() {
    let folder = TempDir::new().unwrap();
    let serving = patient(&folder);
    let (ready, jwks) =
        (format!("{}/readyz", serving.ops), format!("{}/oauth2/jwks", serving.http));
    assert_eq!((status(&ready), status(&jwks)), (200, 200));
    let pid = serving.id().to_string();
    assert!(Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
    until_blocking("the server is not ready", || status(&ready) == 503);
    assert_eq!(status(&jwks), 200, "a draining server answers requests");
    // An incomplete request delays the shutdown until the second signal.
    let mut held =
        std::net::TcpStream::connect(serving.http.trim_start_matches("http://")).unwrap();
    let half = b"POST /oauth2/token HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\
        Content-Type: application/x-www-form-urlencoded\r\n\r\n";
    std::io::Write::write_all(&mut held, half).unwrap();
    let log = serving.stop_with_log("-TERM");
    assert!(log.contains("draining") && log.contains("stopping immediately"), "{log}");
}

#[test]
fn sigint_does_not_drain() {
    let folder = TempDir::new().unwrap();
    let log = patient(&folder).stop_with_log("-INT");
    assert!(!log.contains("draining") && log.contains("stopping"), "{log}");
}
