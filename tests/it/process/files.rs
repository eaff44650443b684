//! Files with secrets: no other user can read them. Admin credentials expire.

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::Path;

use tempfile::TempDir;

use super::binary::{FREE_PORTS, Finished, Serving, keyward};
use crate::harness::{Backend, Keyward, reason};

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
}

#[test]
fn files_are_private_in_a_readable_directory() {
    let folder = TempDir::new().unwrap();
    set_mode(folder.path(), 0o755);
    let path = folder.path().to_str().unwrap();
    let serving = Serving::start(&["--data-dir", path]);
    let files: Vec<_> = fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap()).collect();
    assert!(files.len() >= 5, "database, log, index, lock, key: {files:?}");
    for file in files {
        assert_eq!(mode(&file.path()), 0o600, "{file:?}");
    }
    let log = &serving.log_of_start;
    assert!(log.contains("chmod 700") && log.contains("755"), "{log}");
    serving.stop("-TERM");

    // Older versions created it with this mode.
    set_mode(folder.path(), 0o700);
    let database = folder.path().join("keyward.db");
    set_mode(&database, 0o644);
    let serving = Serving::start(&["--data-dir", path]);
    assert_eq!(mode(&database), 0o640, "the permissions of the group are kept");
    assert!(!serving.log_of_start.contains("chmod 700"), "{}", serving.log_of_start);
    serving.stop("-TERM");
}

#[test]
fn master_key_readable_by_own_group_is_accepted() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().to_str().unwrap();
    Serving::start(&["--data-dir", path]).stop("-TERM");
    let key = folder.path().join("master.key");
    let refused = |says: &str| {
        let folder = ["--data-dir", path];
        let arguments = ["serve"].iter().chain(&FREE_PORTS).chain(&folder).copied();
        let log = Serving::try_start(&mut keyward(arguments)).err().expect("it does not start");
        assert!(log.contains(says), "{log}");
    };
    for fine in [0o440, 0o640, 0o400] {
        set_mode(&key, fine);
        Serving::start(&["--data-dir", path]).stop("-TERM");
    }
    for (wrong, says) in [(0o444, "others must not read it"), (0o660, "must not write to it")] {
        set_mode(&key, wrong);
        refused(says);
    }
    set_mode(&key, 0o440);
    // Only root can change the owner of a file.
    if chown(&key, None, Some(54_321)).is_ok() {
        refused("the process is not in its group");
    }
}

#[test]
fn created_admin_credential_shows_expiry() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().to_str().unwrap();
    let bootstrap = |lifetime: &str| {
        let mut command = keyward(["bootstrap", "--data-dir", path]);
        command.env("KEYWARD_SECRETS_ADMIN_CREDENTIAL_LIFETIME", lifetime);
        Finished::of(&mut command)
    };
    assert!(bootstrap("1h").stderr.contains("it expires at 20"));
    assert!(bootstrap("never").stderr.contains("it never expires"));
    assert!(bootstrap("5m").stderr.contains("must be never, or a duration from 1h"));
}

#[tokio::test(flavor = "multi_thread")]
async fn first_admin_credential_expires() {
    let works = async |kw: &Keyward| {
        kw.admin_credential().exchange(&kw.grpc(), &[], &["keyward"]).await.map(drop)
    };
    let kw = Backend::Sqlite.start_with(&[("secrets.admin_credential_lifetime", "30d")]).await;
    kw.advance(30 * 86_400 - 60);
    works(&kw).await.unwrap();
    kw.advance(60);
    assert_eq!(reason(&works(&kw).await.unwrap_err()), "INVALID_CLIENT");
    let kw = Backend::Sqlite.start_with(&[("secrets.admin_credential_lifetime", "never")]).await;
    kw.advance(400 * 86_400);
    works(&kw).await.unwrap();
}
