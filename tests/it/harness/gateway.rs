//! Real gateways in front of a service that shows what it receives. Their configurations are the
//! files in `deploy/`, with the addresses of the test.

use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

use super::process::{free_port, spawn};
use super::{becomes_true, in_time, until_some};
use crate::documents::read;

const NGINX: &str = "/usr/sbin/nginx";
/// From `PyPI`: `tests/run` installs it.
const ENVOY: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/target/tools/envoy/bin/envoy");

/// A service that answers with the head of each request, as it was received.
pub(crate) struct EchoService {
    pub(crate) port: u16,
    listening: JoinHandle<()>,
}

impl EchoService {
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let listening = tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                tokio::spawn(echo(stream));
            }
        });
        Self { port, listening }
    }
}

impl Drop for EchoService {
    fn drop(&mut self) {
        self.listening.abort();
    }
}

async fn echo(mut stream: TcpStream) {
    while let Some(head) = head(&mut stream).await {
        let length = head.len();
        let answer = format!("HTTP/1.1 200 OK\r\ncontent-length: {length}\r\n\r\n");
        if stream.write_all(&[answer.as_bytes(), &head].concat()).await.is_err() {
            return;
        }
    }
}

/// The bytes up to the empty line.
async fn head(stream: &mut TcpStream) -> Option<Vec<u8>> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.ok()?);
    }
    Some(head)
}

/// An answer over HTTP/1.1, byte for byte.
#[derive(Debug)]
pub(crate) struct RawAnswer {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: String,
}

impl RawAnswer {
    /// The value of a header, empty if there is none.
    pub(crate) fn header(&self, name: &str) -> &str {
        let lines = self.head.lines().filter_map(|line| line.split_once(": "));
        let mut found = lines.filter(|(other, _)| other.eq_ignore_ascii_case(name));
        found.next().map_or("", |(_, value)| value)
    }

    /// The values of a header that the service behind the gateway received.
    pub(crate) fn received(&self, name: &str) -> Vec<&str> {
        assert_eq!(self.status, 200, "{self:?}");
        let lines = self.body.lines().filter_map(|line| line.split_once(':'));
        let found = lines.filter(|(other, _)| other.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.trim()).collect()
    }

    /// The path that the service behind the gateway received.
    pub(crate) fn received_path(&self) -> &str {
        self.body.split(' ').nth(1).unwrap_or_default()
    }
}

/// Sends a request as these bytes; nothing is corrected. `line` is `GET /path`.
pub(crate) async fn send_raw(port: u16, line: &str, headers: &[(&str, &str)]) -> RawAnswer {
    let headers: String =
        headers.iter().map(|(name, value)| [name, ": ", value, "\r\n"].concat()).collect();
    let request =
        format!("{line} HTTP/1.1\r\nhost: api.example.com\r\nconnection: close\r\n{headers}\r\n");
    send_bytes(port, request.as_bytes()).await
}

pub(crate) async fn send_bytes(port: u16, request: &[u8]) -> RawAnswer {
    let answer = in_time("an answer", async {
        let mut stream = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
        stream.write_all(request).await.unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await.unwrap();
        answer
    })
    .await;
    let answer = String::from_utf8_lossy(&answer).into_owned();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or_else(|| panic!("{answer:?}"));
    let status = head.split(' ').nth(1).and_then(|code| code.parse().ok());
    RawAnswer { status: status.unwrap(), head: head.to_owned(), body: body.to_owned() }
}

/// What an Envoy runs with.
#[derive(Clone, Copy)]
pub(crate) struct EnvoyRun<'a> {
    /// In `deploy/envoy/`.
    pub(crate) file: &'a str,
    /// The port of Keyward.
    pub(crate) keyward: u16,
    /// The port of the service behind it.
    pub(crate) service: u16,
    /// The variable with its credential.
    pub(crate) environment: (&'a str, &'a str),
}

/// A running gateway, which ends with the test.
pub(crate) struct Gateway {
    pub(crate) port: u16,
    folder: TempDir,
    process: Child,
}

impl Drop for Gateway {
    fn drop(&mut self) {
        self.process.kill().ok();
        self.process.wait().unwrap();
    }
}

impl Gateway {
    /// nginx with `deploy/nginx/keyward.conf`, after `change`.
    pub(crate) fn nginx(keyward: u16, service: u16, change: impl Fn(String) -> String) -> Self {
        assert!(Path::new(NGINX).exists(), "no nginx is installed; `tests/run` installs it");
        let shipped = read("deploy/nginx/keyward.conf");
        Self::start("keyward-nginx-", |folder, port| {
            let config = with_ports(&shipped, ["8000", "8080", "3000"], [port, keyward, service]);
            fs::write(folder.join("keyward.conf"), change(config)).unwrap();
            let paths = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"];
            let paths = paths.map(|name| format!("{name}_temp_path {name};\n")).concat();
            let main = format!(
                "daemon off;\nmaster_process off;\npid pid;\nerror_log log;\n\
                 events {{ worker_connections 256; }}\n\
                 http {{\naccess_log off;\n{paths}include keyward.conf;\n}}\n"
            );
            fs::write(folder.join("nginx.conf"), main).unwrap();
            let prefix = ["-p", folder.to_str().unwrap(), "-c", "nginx.conf", "-e", "log"];
            let tested = Command::new(NGINX).args(["-t", "-q"]).args(prefix).output().unwrap();
            assert!(tested.status.success(), "{}", String::from_utf8_lossy(&tested.stderr));
            let mut command = ending_with_tests(NGINX);
            command.args(prefix);
            command
        })
    }

    /// Envoy with a file of `deploy/envoy/`, after `change`.
    pub(crate) fn envoy(run: EnvoyRun<'_>, change: impl Fn(String) -> String) -> Self {
        assert!(Path::new(ENVOY).exists(), "no Envoy is installed; `tests/run` installs it");
        let EnvoyRun { file, keyward, service, environment: (variable, value) } = run;
        let shipped = read(format!("deploy/envoy/{file}"));
        // The file that asks over gRPC, or one of those that use HTTP.
        let keyward_port = if file == "envoy.yaml" { "50051" } else { "8080" };
        Self::start("keyward-envoy-", |folder, port| {
            let ports = [port, keyward, service];
            let config = with_ports(&shipped, ["8000", keyward_port, "3000"], ports);
            fs::write(folder.join("envoy.yaml"), change(config)).unwrap();
            let mut command = ending_with_tests(ENVOY);
            command
                .args(["-c", "envoy.yaml", "--concurrency", "1", "--disable-hot-restart"])
                .args(["--log-path", "log", "-l", "warning", "--file-flush-interval-msec", "50"])
                .env(variable, value)
                .stdout(fs::File::create(folder.join("access")).unwrap())
                .current_dir(folder);
            command
        })
    }

    fn start(prefix: &str, command: impl Fn(&Path, u16) -> Command) -> Self {
        let folder = tempfile::Builder::new().prefix(prefix).tempdir().unwrap();
        for _ in 0..5 {
            let port = free_port();
            let mut process = spawn(command(folder.path(), port));
            if is_ready(&mut process, port) {
                return Self { port, folder, process };
            }
            process.kill().ok();
            process.wait().unwrap();
        }
        let log = fs::read_to_string(folder.path().join("log")).unwrap_or_default();
        panic!("the gateway does not start:\n{log}");
    }

    /// Sends it a request.
    pub(crate) async fn send(&self, line: &str, headers: &[(&str, &str)]) -> RawAnswer {
        send_raw(self.port, line, headers).await
    }

    /// The lines of Envoy's access log, once there is one with this text.
    pub(crate) async fn access_line(&self, text: &str) -> String {
        let file = self.folder.path().join("access");
        until_some(format!("an access line with {text}"), async || {
            let log = fs::read_to_string(&file).unwrap();
            log.lines().find(|line| line.contains(text)).map(str::to_owned)
        })
        .await
    }
}

/// Whether the process listens. It ends at once if its port is taken.
fn is_ready(process: &mut Child, port: u16) -> bool {
    let mut listens = false;
    let decided = becomes_true(|| {
        listens = std::net::TcpStream::connect(("127.0.0.1", port)).is_ok();
        listens || process.try_wait().unwrap().is_some()
    });
    assert!(decided, "the gateway on port {port} neither ends nor listens");
    listens && process.try_wait().unwrap().is_none()
}

fn ending_with_tests(program: &str) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL", program]).stdin(Stdio::null()).stderr(Stdio::null());
    command
}

/// A file with other ports, each of which it must have.
fn with_ports(text: &str, from: [&str; 3], to: [u16; 3]) -> String {
    let mut text = text.to_owned();
    for (from, to) in from.into_iter().zip(to) {
        let written = [format!("127.0.0.1:{from}"), format!("port_value: {from} ")];
        assert!(written.iter().any(|one| text.contains(one)), "no port {from}");
        text = text.replace(&written[0], &format!("127.0.0.1:{to}"));
        text = text.replace(&written[1], &format!("port_value: {to} "));
    }
    text
}
