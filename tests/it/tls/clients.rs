//! The command line and the verifier: TLS files, and no secrets in plaintext.

use std::process::{Command, Stdio};

use keyward::proto::admin::credential::Kind;
use keyward::verifier::{CertificateFiles, Settings, StartError, Verifier, VerifierCredential};
use tempfile::TempDir;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Identity};

use super::PATIENCE;
use super::certificates::{Authority, Files, Pair};
use super::start::keyward;
use crate::harness::{Backend, Credential, Keyward, until};

/// A server whose gRPC listener requires client certificates.
struct MutualGrpc {
    kw: Keyward,
    authority: Authority,
    clients: Authority,
    files: Files,
}

impl MutualGrpc {
    async fn start() -> Self {
        let (authority, clients) = (Authority::new("servers"), Authority::new("clients"));
        let files = Files::with(&authority.server());
        files.write("server-ca.pem", &authority.pem());
        files.write("client-ca.pem", &clients.pem());
        let client = clients.client();
        files.write("client.pem", &client.certificate);
        files.write("client.key", &client.key);
        let paths = ["tls.crt", "tls.key", "client-ca.pem"].map(|name| files.path(name));
        let settings = [
            ("grpc.tls.certificate", paths[0].as_str()),
            ("grpc.tls.key", paths[1].as_str()),
            ("grpc.tls.client_ca", paths[2].as_str()),
        ];
        let kw = Backend::Sqlite.start_with(&settings).await;
        Self { kw, authority, clients, files }
    }

    fn url(&self) -> String {
        format!("https://{}", self.kw.server().grpc)
    }

    async fn channel(&self) -> Channel {
        let pair = self.clients.client();
        let tls = ClientTlsConfig::new()
            .ca_certificate(Certificate::from_pem(self.authority.pem()))
            .identity(Identity::from_pem(pair.certificate, pair.key));
        let endpoint = Channel::from_shared(self.url()).unwrap().tls_config(tls).unwrap();
        endpoint.connect().await.unwrap()
    }

    /// The flags of a client with everything that it needs.
    fn flags(&self) -> Vec<(&'static str, String)> {
        vec![
            ("KEYWARD_SERVER", self.url()),
            ("KEYWARD_CA", self.files.path("server-ca.pem")),
            ("KEYWARD_CLIENT_CERTIFICATE", self.files.path("client.pem")),
            ("KEYWARD_CLIENT_KEY", self.files.path("client.key")),
        ]
    }

    /// Runs a command as the administrator. Returns its code, and all that it printed.
    async fn run(&self, arguments: &[&str], variables: &[(&str, String)]) -> (Option<i32>, String) {
        let mut command = keyward(arguments);
        let admin = self.kw.admin_credential();
        command
            .env("KEYWARD_CLIENT_ID", &admin.client_id)
            .env("KEYWARD_CLIENT_SECRET", &admin.secret)
            .envs(variables.iter().map(|(name, value)| (*name, value)));
        run(command).await
    }
}

async fn run(mut command: Command) -> (Option<i32>, String) {
    command.stdin(Stdio::null());
    let output = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
    let text = [output.stdout, output.stderr].concat();
    (output.status.code(), String::from_utf8(text).unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn command_line_uses_authority_and_client_certificate() {
    let server = MutualGrpc::start().await;
    let all = server.flags();
    let list = ["tenant", "list"];
    assert_eq!(server.run(&list, &all).await.0, Some(0));

    let (code, says) = server.run(&list, &all[..2]).await;
    assert_eq!(code, Some(5), "{says}");
    assert!(says.contains("requires a client certificate"), "{says}");
    let (code, says) = server.run(&list, &all[..1]).await;
    assert_eq!(code, Some(5), "{says}");
    assert!(says.contains("--ca"), "{says}");
    let (code, says) = server.run(&list, &all[..3]).await;
    assert_eq!(code, Some(2), "{says}");
    assert!(says.contains("--client-key"), "{says}");

    let foreign = Authority::new("clients").client();
    server.files.write("client.pem", &foreign.certificate);
    server.files.write("client.key", &foreign.key);
    let (code, says) = server.run(&list, &all).await;
    assert_eq!(code, Some(5), "{says}");
    assert!(says.contains("client certificate"), "{says}");
    server.files.write("client.pem", "no certificate");
    let (code, says) = server.run(&list, &all).await;
    assert_eq!(code, Some(2), "{says}");
    assert!(says.contains("client.pem has no CERTIFICATE"), "{says}");

    // http:// on the same port.
    let plain = [("KEYWARD_SERVER", server.kw.grpc())];
    let (code, says) = server.run(&list, &plain).await;
    assert_eq!(code, Some(5), "{says}");
    assert!(says.contains("uses TLS: use https://"), "{says}");
}

#[tokio::test(flavor = "multi_thread")]
async fn command_line_names_server_without_tls() {
    let kw = Backend::Sqlite.start().await;
    for address in [kw.server().grpc, kw.server().http] {
        let url = format!("https://{address}");
        let command = keyward(&["jwks", "--server", &url]);
        let (code, says) = run(command).await;
        assert_eq!(code, Some(5), "{says}");
        assert!(says.contains("http://"), "{says}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn login_saves_the_tls_files() {
    let server = MutualGrpc::start().await;
    let home = TempDir::new().unwrap();
    let config = home.path().display().to_string();
    let mut variables = server.flags();
    variables.push(("XDG_CONFIG_HOME", config.clone()));
    let (code, says) = server.run(&["login", "prod", "--server", &server.url()], &variables).await;
    assert_eq!(code, Some(0), "{says}");
    let mut command = keyward(&["tenant", "list"]);
    command.env("XDG_CONFIG_HOME", &config);
    let (code, says) = run(command).await;
    assert_eq!(code, Some(0), "{says}");
}

#[tokio::test(flavor = "multi_thread")]
async fn command_line_sends_no_secret_in_plaintext_to_other_machines() {
    let mut command = keyward(&["tenant", "list", "--server", "http://keyward.invalid:50051"]);
    command.env("KEYWARD_CLIENT_ID", "x").env("KEYWARD_CLIENT_SECRET", "y");
    let (code, says) = run(command).await;
    assert_eq!(code, Some(2), "{says}");
    assert!(says.contains("https://") && says.contains("--plaintext"), "{says}");
    for permitted in [["--plaintext", "true"], ["", "true"], ["", "1"]] {
        let mut command = keyward(&["tenant", "list", "--server", "http://keyward.invalid:50051"]);
        command.env("KEYWARD_CLIENT_ID", "x").env("KEYWARD_CLIENT_SECRET", "y");
        if permitted[0].is_empty() {
            command.env("KEYWARD_PLAINTEXT", permitted[1]);
        } else {
            command.arg(permitted[0]);
        }
        let (code, says) = run(command).await;
        assert_eq!(code, Some(5), "it tries to connect: {says}");
    }
}

/// The settings of a verifier with all TLS files.
fn settings(server: &MutualGrpc, gateway: &Credential) -> Settings {
    let access =
        VerifierCredential::client_secret(gateway.client_id.clone(), gateway.secret.clone());
    Settings {
        ca: Some(server.files.path("server-ca.pem").into()),
        client_certificate: Some(CertificateFiles {
            certificate: server.files.path("client.pem").into(),
            key: server.files.path("client.key").into(),
        }),
        clock: server.kw.clock(),
        ready_within: PATIENCE,
        ..Settings::new(server.url(), access, "https://keyward.test", "tenants/acme")
    }
}

async fn gateway(server: &MutualGrpc) -> Credential {
    let mut admin = server.kw.admin_on(server.channel().await).await;
    let application = admin.application("system", "gateway", &["keyward.verify"]).await;
    admin.credential(&application.name, Kind::ClientSecret).await.1
}

#[tokio::test(flavor = "multi_thread")]
async fn verifier_connects_with_its_certificate_and_renews_it() {
    let server = MutualGrpc::start().await;
    let gateway = gateway(&server).await;
    let complete = settings(&server, &gateway);
    // A certificate of another authority first: the files are read for each connection.
    let put = |pair: &Pair| {
        server.files.write("client.pem", &pair.certificate);
        server.files.write("client.key", &pair.key);
    };
    put(&Authority::new("others").client());
    let verifier = Verifier::start(complete.clone()).unwrap();
    let soon = std::time::Duration::from_millis(500);
    let error = verifier.ready(soon).await.unwrap_err().to_string();
    assert!(error.contains("client certificate"), "{error}");
    put(&server.clients.client());
    verifier.ready(PATIENCE).await.unwrap();

    let without = Settings { client_certificate: None, ready_within: soon, ..complete.clone() };
    let error = Verifier::connect(without).await.unwrap_err().to_string();
    assert!(error.contains("client certificate"), "{error}");
    let bad = Settings { ca: Some("/no/such/file".into()), ..complete };
    let error = Verifier::connect(bad).await.unwrap_err().to_string();
    assert!(error.contains("/no/such/file cannot be read"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn verifier_sends_no_secret_in_plaintext_to_other_machines() {
    let access = VerifierCredential::client_secret("id", "secret");
    let url = "http://keyward.invalid:50051";
    let settings = Settings::new(url, access, "https://keyward.test", "tenants/acme");
    let refused = Verifier::start(settings.clone()).unwrap_err();
    assert!(matches!(&refused, StartError::Setting { setting: "server", .. }), "{refused}");
    assert!(refused.to_string().contains("allow_plaintext"), "{refused}");
    let endpoint = tonic::transport::Endpoint::from_static("http://keyward.invalid:50051");
    let of_endpoint = Settings { server: endpoint.into(), ..settings.clone() };
    assert!(Verifier::start(of_endpoint).is_err());
    assert!(Verifier::start(Settings { allow_plaintext: true, ..settings }).is_ok());
}

#[tokio::test(flavor = "multi_thread")]
async fn certificate_of_the_connection_reaches_the_service() {
    use super::client::{HTTP1, TlsTestClient};
    use aws_lc_rs::digest::{SHA256, digest};
    use base64::Engine;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;
    use std::io::{BufRead, BufReader};
    use std::sync::{Arc, Mutex};
    use tokio::io::AsyncWriteExt;

    let (authority, clients) = (Authority::new("servers"), Authority::new("clients"));
    let files = Files::with(&authority.server());
    files.write("client-ca.pem", &clients.pem());
    files.write("server-ca.pem", &authority.pem());
    let pair = clients.client();
    files.write("client.pem", &pair.certificate);
    files.write("client.key", &pair.key);
    let folder = TempDir::new().unwrap();
    let mut serve = keyward(&["serve", "--data-dir", &folder.path().display().to_string()]);
    serve
        .args(["--grpc", "127.0.0.1:0", "--http", "127.0.0.1:0", "--ops", "127.0.0.1:0"])
        .env("KEYWARD_TLS_CERTIFICATE", files.path("tls.crt"))
        .env("KEYWARD_TLS_KEY", files.path("tls.key"))
        .env("KEYWARD_TLS_CLIENT_CA", files.path("client-ca.pem"))
        .env("KEYWARD_TELEMETRY_LOG", "info,keyward::service=debug")
        .env("KEYWARD_TELEMETRY_LOG_FORMAT", "json")
        .stderr(Stdio::piped());
    let mut child = serve.spawn().unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines().map_while(Result::ok);
    let serving = lines.find(|line| line.contains("\"serving\"")).unwrap();
    let serving: serde_json::Value = serde_json::from_str(&serving).unwrap();
    let address = |face: &str| serving["fields"][face].as_str().unwrap().to_owned();
    let log = Arc::new(Mutex::new(String::new()));
    let written = Arc::clone(&log);
    std::thread::spawn(move || lines.for_each(|line| written.lock().unwrap().push_str(&line)));
    let admin = std::fs::read_to_string(folder.path().join("admin.env")).unwrap();
    let exported = |name: &str| {
        let start = format!("export {name}=");
        admin.lines().find_map(|line| line.strip_prefix(&start)).unwrap().to_owned()
    };
    let (id, secret) = (exported("KEYWARD_CLIENT_ID"), exported("KEYWARD_CLIENT_SECRET"));
    let thumbprint = URL_SAFE_NO_PAD.encode(digest(&SHA256, &pair.der));
    let seen = |thumbprint: &str| log.lock().unwrap().matches(thumbprint).count();

    let mut command = keyward(&["token"]);
    command
        .env("KEYWARD_SERVER", format!("https://{}", address("grpc")))
        .env("KEYWARD_CLIENT_ID", &id)
        .env("KEYWARD_CLIENT_SECRET", &secret)
        .env("KEYWARD_CA", files.path("server-ca.pem"))
        .env("KEYWARD_CLIENT_CERTIFICATE", files.path("client.pem"))
        .env("KEYWARD_CLIENT_KEY", files.path("client.key"));
    let (code, says) = run(command).await;
    assert_eq!(code, Some(0), "{says}");
    until("it is logged for gRPC", async || seen(&thumbprint) == 1).await;

    // Another certificate in headers that proxies use is ignored.
    let other = clients.client();
    let claimed = URL_SAFE_NO_PAD.encode(digest(&SHA256, &other.der));
    let client = TlsTestClient::new(&authority).identity(Some(&pair)).alpn(HTTP1);
    let mut stream = client.connect(address("http").parse().unwrap()).await.unwrap();
    let form = format!("grant_type=client_credentials&client_id={id}&client_secret={secret}");
    let request = format!(
        "POST /oauth2/token HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\n\
         X-Forwarded-Client-Cert: Hash={claimed}\r\nX-SSL-Client-Cert: {claimed}\r\n\
         Content-Type: application/x-www-form-urlencoded\r\n\r\n{form}",
        form.len()
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    until("it is logged for HTTP", async || seen(&thumbprint) == 2).await;
    assert_eq!(seen(&claimed), 0);
    child.kill().unwrap();
    child.wait().unwrap();
}
