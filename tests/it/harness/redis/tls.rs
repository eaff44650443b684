//! A server with TLS and a private certificate authority.

use std::fs;
use std::process::{Command, Stdio};

use tempfile::TempDir;

use super::{RedisServer, free_port};

pub(crate) struct TlsServer {
    /// The server. Its plain port is for the administrator.
    pub(crate) server: RedisServer,
    port: u16,
    folder: TempDir,
}

impl TlsServer {
    pub(crate) fn start() -> Self {
        let folder = tempfile::Builder::new().prefix("keyward-tls-").tempdir().unwrap();
        let path = |name: &str| folder.path().join(name).display().to_string();
        let extensions = "basicConstraints=CA:FALSE\nsubjectAltName=IP:127.0.0.1\n";
        fs::write(path("extensions"), extensions).unwrap();
        let openssl = |arguments: &str| {
            let done = Command::new("openssl")
                .args(arguments.split(' '))
                .current_dir(folder.path())
                .stderr(Stdio::null())
                .status()
                .expect("no openssl program is installed; `tests/run` installs it, or says how");
            assert!(done.success(), "openssl {arguments}");
        };
        let key = "-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes";
        openssl(&format!("req -x509 {key} -keyout ca.key -out ca.pem -subj /CN=authority"));
        openssl(&format!("req {key} -keyout key.pem -out request -subj /CN=redis"));
        openssl("x509 -req -in request -CA ca.pem -CAkey ca.key -extfile extensions -out cert.pem");
        let port = free_port();
        let server = RedisServer::start_with(&[
            "--tls-port",
            &port.to_string(),
            "--tls-cert-file",
            &path("cert.pem"),
            "--tls-key-file",
            &path("key.pem"),
            "--tls-ca-cert-file",
            &path("ca.pem"),
            "--tls-auth-clients",
            "no",
        ]);
        Self { server, port, folder }
    }

    /// Its URL, without the certificate authority.
    pub(crate) fn url(&self) -> String {
        format!("rediss://127.0.0.1:{}", self.port)
    }

    pub(crate) fn ca_file(&self) -> String {
        self.folder.path().join("ca.pem").display().to_string()
    }
}
