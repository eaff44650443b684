//! `keyward login`: saved servers.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::Command;

use tempfile::TempDir;

use super::binary::{Finished, keyward};
use super::commands::Desk;
use super::forms::with_input;
use super::terminal::Terminal;

/// A configuration directory of a user, and a server.
struct Home {
    desk: Desk,
    folder: TempDir,
}

impl Home {
    fn new() -> Self {
        Self { desk: Desk::new(&[]), folder: TempDir::new().unwrap() }
    }

    /// A command without a server and a credential in its environment.
    fn command(&self, line: &str) -> Command {
        let mut command = keyward(line.split(' '));
        command.env("XDG_CONFIG_HOME", self.folder.path());
        command
    }

    fn run(&self, line: &str) -> Finished {
        Finished::of(&mut self.command(line))
    }

    fn file(&self) -> PathBuf {
        self.folder.path().join("keyward/servers.toml")
    }

    /// Saves the server under this name.
    fn login(&self, name: &str) -> Finished {
        let (id, secret) = self.desk.admin();
        let server = &self.desk.serving().grpc;
        let line =
            format!("login {name} --server {server} --client-id {id} --client-secret-file -");
        with_input(self.command(&line), secret)
    }
}

#[test]
fn saved_server_is_found_by_name_or_default() {
    let home = Home::new();
    home.login("prod").worked();
    home.login("other").worked();
    assert_eq!(fs::metadata(home.file()).unwrap().permissions().mode() & 0o777, 0o600);
    home.run("tenant list").worked();
    home.run("tenant list --server other").worked();
    let (id, _) = home.desk.admin();
    let servers = home.run("servers").worked();
    assert!(
        servers.contains(&format!("prod   true     {}", home.desk.serving().grpc)),
        "{servers}"
    );
    assert!(servers.contains(id), "{servers}");
    home.run("servers default other").worked();
    let listed = home.run("servers list -o json --columns name,default").json();
    let wanted = serde_json::json!([
        { "name": "other", "default": true }, { "name": "prod", "default": false },
    ]);
    assert_eq!(listed, wanted);
    let unknown = home.run("tenant list --server prd");
    assert_eq!(unknown.code, Some(2), "{unknown:?}");
    assert!(unknown.stderr.contains("; did you mean prod?"), "{unknown:?}");
    home.run("logout other").worked();
    let without = home.run("tenant list");
    assert_ne!(without.code, Some(0), "no default is left");
    assert!(!without.stderr.contains(&home.desk.serving().grpc), "{without:?}");
    assert_eq!(home.run("logout other").code, Some(2));
    home.run("tenant list --server prod").worked();
}

#[test]
fn flags_and_environment_override_saved_servers() {
    let home = Home::new();
    home.login("prod").worked();
    let environment = |name: &str, value: &str| {
        Finished::of(home.command("tenant list --server prod").env(name, value)).code
    };
    assert_eq!(environment("KEYWARD_API_KEY", "kwk_wrong"), Some(4));
    assert_eq!(environment("KEYWARD_CLIENT_ID", "unknown"), Some(2), "the secret is missing");
    assert_eq!(environment("KEYWARD_SERVER", "http://127.0.0.1:1"), Some(0), "the flag wins");
    let by_address = home.run(&format!("tenant list --server {}", home.desk.serving().grpc));
    assert_eq!(by_address.code, Some(2), "an address has no saved credential: {by_address:?}");
    let (id, secret) = home.desk.admin();
    let mut given = home.command("tenant list");
    given.env("KEYWARD_CLIENT_ID", id).env("KEYWARD_CLIENT_SECRET", secret);
    let given = Finished::of(&mut given);
    assert!(!given.stderr.contains(&home.desk.serving().grpc), "not to the default: {given:?}");
}

#[test]
fn invalid_credential_is_not_saved() {
    let home = Home::new();
    let (id, _) = home.desk.admin();
    let server = &home.desk.serving().grpc;
    let line = format!("login prod --server {server} --client-id {id} --client-secret-file -");
    let wrong = with_input(home.command(&line), "kws_wrong");
    assert_eq!(wrong.code, Some(4), "{wrong:?}");
    assert!(!home.file().exists());
    let missing = home.run(&format!("login prod --server {server}"));
    assert_eq!(missing.code, Some(2), "{missing:?}");
    assert!(missing.stderr.contains("client id"), "{missing:?}");
    assert_eq!(home.run("login prod").code, Some(2), "which server?");
    // A client with a key or a certificate has no secret to save.
    let keyed = home.run(&format!("login prod --server {server} --client-id {id}"));
    assert_eq!(keyed.code, Some(2), "{keyed:?}");
    for says in ["client secret", "--private-key", "--client-certificate"] {
        assert!(keyed.stderr.contains(says), "{keyed:?}");
    }
}

#[test]
fn login_prompt_does_not_echo_secret() {
    let home = Home::new();
    let (id, secret) = home.desk.admin();
    let line = format!("login prod --server {}", home.desk.serving().grpc);
    let mut terminal = Terminal::start(home.command(&line), 200);
    terminal.until("client id: ");
    terminal.type_line(id);
    terminal.until("client secret: ");
    terminal.type_line(secret);
    let (code, screen) = terminal.finish();
    assert_eq!(code, Some(0), "{screen}");
    assert!(screen.contains(id) && !screen.contains(secret), "{screen}");
    home.run("tenant list").worked();
}

#[test]
fn servers_file_readable_by_others_is_refused() {
    let home = Home::new();
    home.login("prod").worked();
    fs::set_permissions(home.file(), Permissions::from_mode(0o640)).unwrap();
    for line in ["tenant list", "servers", "logout prod", "tenant list --server prod"] {
        let refused = home.run(line);
        assert_eq!(refused.code, Some(2), "{line}: {refused:?}");
        assert!(refused.stderr.contains("mode 640"), "{line}: {refused:?}");
    }
    fs::set_permissions(home.file(), Permissions::from_mode(0o600)).unwrap();
    let (_, secret) = home.desk.admin();
    let broken = fs::read_to_string(home.file()).unwrap().replace(secret, &format!("{secret}\"\""));
    fs::write(home.file(), broken).unwrap();
    let refused = home.run("servers");
    assert_eq!(refused.code, Some(2), "{refused:?}");
    assert!(!refused.stderr.contains(secret), "the error shows no secret: {refused:?}");
}
