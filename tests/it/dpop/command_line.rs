//! `keyward token --dpop-key`.

use std::path::Path;
use std::process::{Command, Output};

use serde_json::Value;

use super::claims_of;
use crate::harness::{Backend, Credential, Keyward};

async fn run(kw: &Keyward, client: &Credential, key: &Path) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_keyward"));
    command
        .args(["token", "--output", "json", "--server", &kw.grpc(), "--dpop-key"])
        .arg(key)
        .env("KEYWARD_CLIENT_ID", &client.client_id)
        .env("KEYWARD_CLIENT_SECRET", &client.secret);
    tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap()
}

fn openssl(args: &[&str], file: &Path) {
    let mut command = Command::new("openssl");
    let output = command.args(args).arg("-out").arg(file).output().unwrap();
    assert!(output.status.success(), "{output:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn command_line_gets_a_token_that_is_bound_to_a_key() {
    // The command has the system's clock.
    let kw = Backend::Sqlite
        .start_with(&[("dpop.nonce", "required"), ("keys.rotation_period", "never")])
        .await;
    #[expect(clippy::disallowed_methods, reason = "the command reads it, too")]
    let real = jiff::Timestamp::now();
    kw.advance(u64::try_from(real.as_second() - kw.now().as_second()).unwrap());
    let (_, crm) = kw.admin().await.acme().await;
    let folder = tempfile::TempDir::new().unwrap();
    let file = folder.path().join("key.pem");
    let curve = ["genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256"];
    for args in [&curve[..], &["genpkey", "-algorithm", "ED25519"]] {
        openssl(args, &file);
        let output = run(&kw, &crm, &file).await;
        assert!(output.status.success(), "{output:?}");
        let body: Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(body["token_type"], "DPoP");
        let claims = claims_of(body["access_token"].as_str().unwrap());
        assert_eq!(claims["cnf"]["jkt"].as_str().unwrap().len(), 43, "{claims}");
    }
    openssl(&["ecparam", "-name", "prime256v1", "-genkey", "-noout"], &file);
    let output = run(&kw, &crm, &file).await;
    let words = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && words.contains("PKCS #8"), "{words}");
    let output = run(&kw, &crm, &folder.path().join("missing.pem")).await;
    let words = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && words.contains("--dpop-key"), "{words}");
}
