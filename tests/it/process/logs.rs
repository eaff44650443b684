//! The log: anonymous callers and failing dependencies can cause a bounded number of lines. The log
//! has the number of lines that were left out.

use std::process::Stdio;

use keyward::proto::admin::ListTenantsRequest;
use serde_json::Value;
use sqlx::{Connection, Executor, SqliteConnection};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::binary::{FREE_PORTS, Finished, Serving, exported, keyward};
use crate::harness::{Admin, Credential, until_blocking};

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";

/// A PING frame with these flags.
fn ping(flags: u8, payload: [u8; 8]) -> Vec<u8> {
    [&[0, 0, 8, 6, flags, 0, 0, 0, 0][..], &payload].concat()
}

async fn stopped(serving: Serving) -> String {
    tokio::task::spawn_blocking(move || serving.stop_with_log("-TERM")).await.unwrap()
}

/// The number of left-out lines of a module that the log reports.
fn left_out(log: &str, module: &str) -> u64 {
    let lines = log.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let mut fields = lines.map(|mut line| line["fields"].take()).collect::<Vec<_>>();
    fields.retain(|fields| fields["target"] == module);
    fields.iter().filter_map(|fields| fields["left_out"].as_u64()).sum()
}

async fn metric(serving: &Serving, name: &str) -> u64 {
    let url = format!("{}/metrics", serving.ops);
    let text = reqwest::get(url).await.unwrap().text().await.unwrap();
    let value = text.lines().find_map(|line| line.strip_prefix(name));
    value.map_or(0, |value| value.trim().parse().unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn unsolicited_ping_acks_write_bounded_log() {
    // The server closes a connection with many more of them.
    const CONNECTIONS: u64 = 5;
    const EACH: u64 = 200;
    const MANY: u64 = CONNECTIONS * EACH;
    let folder = TempDir::new().unwrap();
    let serving = Serving::start(&["--data-dir", folder.path().to_str().unwrap()]);
    let address = serving.grpc.strip_prefix("http://").unwrap();
    for _ in 0..CONNECTIONS {
        let mut stranger = TcpStream::connect(address).await.unwrap();
        stranger.write_all(PREFACE).await.unwrap();
        for _ in 0..EACH {
            stranger.write_all(&ping(1, *b"unasked!")).await.unwrap();
        }
        stranger.write_all(&ping(0, *b"the last")).await.unwrap();
        let mut answered = Vec::new();
        let acknowledged = ping(1, *b"the last");
        while !answered.windows(acknowledged.len()).any(|window| window == acknowledged) {
            let read = stranger.read_buf(&mut answered).await.unwrap();
            assert_ne!(read, 0, "the connection stays open");
        }
    }
    let counted = metric(&serving, "keyward_log_lines_left_out_total").await;
    let log = stopped(serving).await;
    assert!(log.len() < 4096, "{} bytes: {log}", log.len());
    let written = log.lines().filter(|line| line.contains("PING ack")).count() as u64;
    assert!(written > 0, "the first ones are logged: {log}");
    assert_eq!(
        (left_out(&log, "h2::proto::ping_pong") + written, counted + written),
        (MANY, MANY),
        "{log}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn repeated_internal_error_writes_bounded_log() {
    const MANY: u64 = 400;
    let folder = TempDir::new().unwrap();
    let path = folder.path().to_str().unwrap().to_owned();
    let printed = Finished::of(&mut keyward(["bootstrap", "--data-dir", &path])).worked();
    let credential = Credential {
        client_id: exported(&printed, "KEYWARD_CLIENT_ID").to_owned(),
        secret: exported(&printed, "KEYWARD_CLIENT_SECRET").to_owned(),
    };
    let serving = Serving::start(&["--data-dir", &path]);
    let mut admin = Admin::new(serving.grpc.clone(), &credential).await;
    let file = folder.path().join("keyward.db");
    let mut database = SqliteConnection::connect(file.to_str().unwrap()).await.unwrap();
    database.execute("alter table tenants rename to elsewhere").await.unwrap();
    let mut failed = 0;
    for _ in 0..MANY {
        let request = ListTenantsRequest::default();
        failed += u64::from(admin.tenants.list_tenants(request).await.is_err());
    }
    database.execute("alter table elsewhere rename to tenants").await.unwrap();
    let log = stopped(serving).await;
    let written = log.lines().filter(|line| line.contains("internal error")).count() as u64;
    assert_eq!(failed, MANY);
    assert!((20..MANY / 2).contains(&written), "{written} lines");
    assert_eq!(left_out(&log, "keyward::error") + written, MANY, "{log}");
}

/// A full disk for the log must not stop the server, not even at the first start, which shows a
/// credential.
#[test]
fn unwritable_log_does_not_stop_server() {
    let folder = TempDir::new().unwrap();
    let arguments = ["serve"].iter().chain(&FREE_PORTS).copied();
    let arguments = arguments.chain(["--log", "debug", "--data-dir"]);
    let mut command = keyward(arguments.chain([folder.path().to_str().unwrap()]));
    let full = std::fs::File::options().write(true).open("/dev/full").unwrap();
    let mut child = command.stdout(Stdio::null()).stderr(full).spawn().unwrap();
    let written = folder.path().join("admin.env");
    until_blocking("the server shows its credential", || {
        assert!(child.try_wait().unwrap().is_none(), "the server stopped");
        written.exists()
    });
    child.kill().unwrap();
    child.wait().unwrap();
}
