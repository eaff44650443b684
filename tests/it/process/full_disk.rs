//! A full disk: a failed write is refused with a reason, leaves no partial change, and succeeds
//! once there is space.

use std::fs;
use std::path::Path;
use std::process::Command;

use keyward::proto::admin as pb;
use keyward::proto::admin::credential::Kind;
use tempfile::TempDir;
use tonic::Code;

use super::binary::{FREE_PORTS, Finished, Serving, exported, keyward};
use crate::harness::{Admin, Credential, reason};

/// `keyward` with a limit on the size of its files. To the server this is a full disk.
pub(super) fn on_full_disk(limit: u64, arguments: &[&str]) -> Command {
    let script = "trap '' XFSZ; limit=$1; shift; exec prlimit --fsize=\"$limit\":unlimited \"$@\"";
    let binary = keyward(arguments.iter().copied());
    let mut command = Command::new("sh");
    command.args(["-c", script, "sh", &limit.to_string()]).arg(binary.get_program());
    command.args(binary.get_args()).stdin(std::process::Stdio::null());
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("KEYWARD_")) {
        command.env_remove(name);
    }
    command
}

/// Sets the file size limit of a running server.
fn set_room(server: &Serving, limit: &str) {
    let (process, limit) = (server.id().to_string(), format!("--fsize={limit}:unlimited"));
    let done = Command::new("prlimit").args(["--pid", &process, &limit]).status().unwrap();
    assert!(done.success());
}

fn serve(path: &str) -> Vec<&str> {
    ["serve"].iter().chain(&FREE_PORTS).copied().chain(["--data-dir", path]).collect()
}

fn length(file: &Path) -> u64 {
    fs::metadata(file).map_or(0, |metadata| metadata.len())
}

/// The size of the largest file that a first start writes.
fn room_of_first_start() -> u64 {
    let folder = TempDir::new().unwrap();
    let server = Serving::start(&["--data-dir", folder.path().to_str().unwrap()]);
    let room = length(&folder.path().join("keyward.db-wal"));
    server.kill();
    assert!(room > 50_000, "{room}");
    room
}

/// Limits from zero to the size that is needed.
fn limits(room: u64) -> impl Iterator<Item = u64> {
    // Once the schema fits, in small steps: the keys, the built-in tenant, the first credential.
    [0, 1, 40, 4096, 32_768].into_iter().chain((1..=24).map(move |part| room * part / 24))
}

fn assert_reason(message: &str, path: &str) {
    assert!(message.contains(path), "the error names the file: {message}");
    let reasons = ["disk I/O error", "database or disk is full", "File too large"];
    assert!(
        reasons.iter().any(|reason| message.contains(reason)),
        "the error has the reason: {message}"
    );
}

#[test]
fn first_start_on_full_disk_can_be_retried() {
    for limit in limits(room_of_first_start()) {
        let folder = TempDir::new().unwrap();
        let path = folder.path().join("data").display().to_string();
        match Serving::try_start(&mut on_full_disk(limit, &serve(&path))) {
            Ok(server) => drop(server.kill()),
            Err(log) => assert_reason(&log, &path),
        }
        let key = folder.path().join("data/master.key");
        assert!(matches!(length(&key), 0 | 45), "limit {limit}: the key is complete or absent");
        assert!(!key.exists() || length(&key) == 45, "limit {limit}: no empty key");
        Serving::start(&["--data-dir", &path]).kill();
        let credential = fs::read_to_string(folder.path().join("data/admin.env")).unwrap();
        let shown = credential.matches("KEYWARD_CLIENT_SECRET=").count();
        assert_eq!(shown, 1, "limit {limit}: one of the two starts shows the first credential");
    }
}

#[test]
fn migration_on_full_disk_can_be_retried() {
    for limit in limits(room_of_first_start()) {
        let folder = TempDir::new().unwrap();
        let path = folder.path().display().to_string();
        let migrate = ["migrate", "--data-dir", &path];
        let finished = Finished::of(&mut on_full_disk(limit, &migrate));
        if finished.code != Some(0) {
            assert_reason(&finished.stderr, &path);
        }
        Finished::of(&mut keyward(migrate)).worked();
        Finished::of(&mut keyward(["bootstrap", "--data-dir", &path])).worked();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn signing_key_rotation_on_full_disk_can_be_retried() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().to_str().unwrap();
    Serving::start(&["--data-dir", path]).kill();
    // After a crash the database can be read, but not extended.
    let room = length(&folder.path().join("keyward.db-wal"));
    let mut rotating = on_full_disk(room, &serve(path));
    rotating.env("KEYWARD_TOKENS_SIGNING_ALGORITHM", "EdDSA");
    let message = Serving::try_start(&mut rotating).err().expect("there is no space for a key");
    assert_reason(&message, path);

    let mut rotating = keyward(serve(path));
    rotating.env("KEYWARD_TOKENS_SIGNING_ALGORITHM", "EdDSA");
    let server = Serving::try_start(&mut rotating).unwrap();
    let keys = reqwest::get(format!("{}/oauth2/jwks", server.http)).await.unwrap();
    let keys = keys.text().await.unwrap();
    assert!(keys.contains("EdDSA") && keys.contains("ES256"), "{keys}");
    server.kill();
}

#[tokio::test(flavor = "multi_thread")]
async fn credential_rotation_on_full_disk_can_be_retried() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().to_str().unwrap();
    let printed = Finished::of(&mut keyward(["bootstrap", "--data-dir", path])).worked();
    let credential = Credential {
        client_id: exported(&printed, "KEYWARD_CLIENT_ID").to_owned(),
        secret: exported(&printed, "KEYWARD_CLIENT_SECRET").to_owned(),
    };
    let roomy = 1 << 40;
    let server = Serving::try_start(&mut on_full_disk(roomy, &serve(path))).unwrap();
    let mut admin = Admin::new(server.grpc.clone(), &credential).await;
    let (made, old) = admin.acme().await;
    assert_eq!(made.kind(), Kind::ClientSecret);
    let request = pb::RotateCredentialRequest {
        name: made.name,
        overlap: Some(prost_types::Duration::default()),
        ..Default::default()
    };
    set_room(&server, "0");
    let status = admin.credentials.rotate_credential(request.clone()).await.unwrap_err();
    assert_eq!((status.code(), reason(&status).as_str()), (Code::Unavailable, "UNAVAILABLE"));
    old.token(&server.grpc).await;

    set_room(&server, "unlimited");
    let rotated = admin.credentials.rotate_credential(request).await.unwrap().into_inner();
    let new = Credential { secret: rotated.secret, ..old.clone() };
    new.token(&server.grpc).await;
    assert!(old.exchange(&server.grpc, &[], &[]).await.is_err(), "the old secret is refused");
    server.kill();
}
