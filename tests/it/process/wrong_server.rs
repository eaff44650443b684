//! A wrong `--server`: the command line names the cause.

use std::fs;
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};

use tempfile::TempDir;

use super::binary::Finished;
use super::commands::Desk;
use crate::harness::{free_port, until_blocking};

/// A server that speaks TLS and HTTP/2, with a certificate for `keyward.test`.
struct TlsServer {
    child: Child,
    port: u16,
    folder: TempDir,
}

impl TlsServer {
    fn start() -> Self {
        let folder = TempDir::new().unwrap();
        fs::write(folder.path().join("extensions"), "subjectAltName=DNS:keyward.test\n").unwrap();
        let openssl = |arguments: &str| {
            let mut command = Command::new("openssl");
            command.args(arguments.split(' ')).current_dir(folder.path()).stderr(Stdio::null());
            command.stdout(Stdio::null()).stdin(Stdio::null());
            command
        };
        let key = "-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes";
        for arguments in [
            format!("req -x509 {key} -keyout ca.key -out ca.pem -subj /CN=authority"),
            format!("req {key} -keyout key.pem -out request -subj /CN=keyward"),
            "x509 -req -in request -CA ca.pem -CAkey ca.key -extfile extensions -out cert.pem"
                .to_owned(),
        ] {
            assert!(openssl(&arguments).status().unwrap().success(), "openssl {arguments}");
        }
        let port = free_port();
        let serve =
            format!("s_server -accept 127.0.0.1:{port} -cert cert.pem -key key.pem -alpn h2");
        let child = openssl(&serve).stdin(Stdio::piped()).spawn().unwrap();
        let mut server = Self { child, port, folder };
        until_blocking("openssl s_server listens", || {
            assert!(server.child.try_wait().unwrap().is_none(), "openssl s_server ended");
            TcpStream::connect(("127.0.0.1", port)).is_ok()
        });
        server
    }
}

impl Drop for TlsServer {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

fn says(desk: &Desk, server: &str, variables: &[(&str, &str)], words: &str) {
    let mut command = desk.command("tenant list");
    command.env("KEYWARD_SERVER", server).envs(variables.iter().copied());
    let finished = Finished::of(&mut command);
    assert_eq!(finished.code, Some(5), "{server}: {finished:?}");
    assert!(finished.stderr.contains(words), "{server}: {finished:?}");
}

#[test]
fn address_of_http_listener_is_refused_with_hint() {
    let desk = Desk::new(&[]);
    for other in [&desk.serving().http, &desk.serving().ops] {
        says(&desk, other, &[], "which is not gRPC: use the address of grpc.listen");
    }
    says(&desk, &format!("http://127.0.0.1:{}", free_port()), &[], "refused");
}

#[test]
fn https_url_of_plaintext_server_is_refused_with_hint() {
    let desk = Desk::new(&[]);
    let serving = desk.serving();
    for plain in [&serving.grpc, &serving.http, &serving.ops] {
        let url = plain.replacen("http://", "https://", 1);
        says(&desk, &url, &[], "not use TLS");
    }
}

#[test]
fn tls_failure_is_reported_with_its_cause() {
    let desk = Desk::new(&[]);
    let server = TlsServer::start();
    let port = server.port;
    says(&desk, &format!("http://127.0.0.1:{port}"), &[], "uses TLS: use https://");
    let url = format!("https://127.0.0.1:{port}");
    says(&desk, &url, &[], "the certificate's issuer is not trusted");
    let authorities = server.folder.path().join("ca.pem");
    let trusted = [("SSL_CERT_FILE", authorities.to_str().unwrap())];
    says(&desk, &url, &trusted, "the certificate is not valid for 127.0.0.1");
}
