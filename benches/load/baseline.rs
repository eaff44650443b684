//! The servers that Keyward is compared with: this program again, in a separate process. Each does
//! one thing that Keyward cannot avoid, and nothing else: no database, no revocation list, no
//! metrics, and no limits unless it counts in a Redis.

mod counter;
mod faces;
mod http;

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::Stdio;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use clap::ValueEnum;
use keyward::internals::keys::Jwks;
use keyward::internals::keys::jwk::Material;
use keyward::proto::access::CheckAccessResponse;
use keyward::proto::token::IssueTokenResponse;
use prost::Message;
use tokio::net::TcpListener;

use crate::process::Process;

/// The file with the key of clients.
pub(crate) const CLIENT_KEY: &str = "client-key";

/// What a baseline does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Kind {
    /// Answers immediately, with the same bytes
    Echo,
    /// Signs a token
    Sign,
    /// Verifies the signature of the token in question
    Verify,
    /// Verifies the client's assertion, and signs a token
    VerifySign,
    /// Signs a token, over HTTP/1.1
    SignHttp,
}

/// Recorded answers of Keyward, in files of a folder, so that a baseline sends answers of the same
/// size.
#[derive(Clone, Debug)]
pub(crate) struct Templates {
    pub(crate) issued: IssueTokenResponse,
    pub(crate) checked: CheckAccessResponse,
    /// The key that signs Keyward's tokens: an uncompressed point.
    pub(crate) public_key: Vec<u8>,
    /// The key that signs assertions of clients, in the same form.
    pub(crate) client_key: Option<Vec<u8>>,
}

impl Templates {
    pub(crate) fn new(
        issued: IssueTokenResponse,
        checked: CheckAccessResponse,
        jwks: &Jwks,
    ) -> Self {
        let Material::Ec { x, y, .. } = &jwks.keys[0].material else {
            panic!("tokens are signed with ES256");
        };
        let coordinate = |text: &str| URL_SAFE_NO_PAD.decode(text).unwrap();
        let public_key = [vec![4], coordinate(x), coordinate(y)].concat();
        Self { issued, checked, public_key, client_key: None }
    }

    pub(crate) fn write(&self, folder: &Path) {
        fs::write(folder.join("issued"), self.issued.encode_to_vec()).unwrap();
        fs::write(folder.join("checked"), self.checked.encode_to_vec()).unwrap();
        fs::write(folder.join("public-key"), &self.public_key).unwrap();
    }

    fn read(folder: &Path) -> Self {
        let file = |name: &str| fs::read(folder.join(name)).unwrap();
        Self {
            issued: IssueTokenResponse::decode(&*file("issued")).unwrap(),
            checked: CheckAccessResponse::decode(&*file("checked")).unwrap(),
            public_key: file("public-key"),
            client_key: fs::read(folder.join(CLIENT_KEY)).ok(),
        }
    }
}

/// A running baseline.
pub(crate) struct Baseline {
    pub(crate) process: Process,
    address: String,
}

impl Baseline {
    pub(crate) fn start(kind: Kind, templates: &Path, redis: Option<&str>) -> Self {
        let program = std::env::current_exe().unwrap();
        let mut process = Process::start(program.to_str().unwrap(), |command| {
            let kind = kind.to_possible_value().unwrap();
            command.args(["--serve", kind.get_name(), "--templates"]).arg(templates);
            command.args(redis.map(|url| format!("--redis={url}")));
            command.stdin(Stdio::null()).stdout(Stdio::piped());
        });
        let mut address = String::new();
        BufReader::new(process.stdout()).read_line(&mut address).unwrap();
        assert!(!address.is_empty(), "the baseline {kind:?} does not start");
        Self { process, address: address.trim().to_owned() }
    }

    pub(crate) fn grpc(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The address and port of the HTTP listener.
    pub(crate) fn http(&self) -> String {
        self.address.clone()
    }
}

/// Serves until it is killed. Prints its address in a line. With a Redis, tokens are counted there
/// first.
#[tokio::main]
pub(crate) async fn serve(kind: Kind, templates: &Path, redis: Option<&str>) {
    let templates = Templates::read(templates);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    println!("{}", listener.local_addr().unwrap());
    match kind {
        Kind::Echo | Kind::Sign | Kind::Verify | Kind::VerifySign => {
            faces::serve(kind, listener, templates, redis).await;
        }
        Kind::SignHttp => http::serve(listener, templates).await,
    }
}
