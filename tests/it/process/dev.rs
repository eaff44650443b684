//! `keyward dev`: it issues a token, and the commands that it prints work.

use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Command, Stdio};

use super::binary::{FREE_PORTS, Finished, exported, keyward};

#[test]
fn dev_issues_token_and_prints_working_commands() {
    let mut dev = keyward(["dev"].iter().chain(&FREE_PORTS).copied())
        .env("KEYWARD_DATABASE_URL", "postgres://127.0.0.1:1/production")
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut printed = String::new();
    for line in BufReader::new(dev.stdout.take().unwrap()).lines().map(Result::unwrap) {
        printed.push_str(&line);
        printed.push('\n');
        if line.starts_with("Ctrl-C") {
            break;
        }
    }
    assert!(printed.contains("\"sub\": \"tenants/demo/applications/sample\""), "{printed}");
    let folder = printed.split_once("data is in ").unwrap().1.split_once(' ').unwrap().0;
    let folder = PathBuf::from(folder);
    assert!(folder.join("keyward.db").exists());

    let (curl, _) = printed.split_once("# gRPC").unwrap();
    let curl = curl.lines().rfind(|line| line.starts_with("curl ")).unwrap();
    let answer: serde_json::Value = tokio::runtime::Runtime::new().unwrap().block_on(as_curl(curl));
    assert_eq!(answer["scope"], "campaigns.read");

    let environment = ["KEYWARD_SERVER", "KEYWARD_CLIENT_ID", "KEYWARD_CLIENT_SECRET"]
        .map(|name| (name, exported(&printed, name).to_owned()));
    let with_key = printed.lines().find(|line| line.contains("--private-key")).unwrap();
    assert!(with_key.starts_with("keyward token --client-id "), "{with_key}");
    let lines = printed.lines().skip_while(|line| !line.starts_with("export ")).skip(3);
    for line in lines.filter(|line| line.starts_with("keyward ")) {
        let path = PathBuf::from(env!("CARGO_BIN_EXE_keyward"));
        let finished = Finished::of(
            Command::new("sh")
                .args(["-c", line])
                .envs(environment.clone())
                .env("PATH", format!("{}:/usr/bin:/bin", path.parent().unwrap().display())),
        );
        assert_eq!(finished.code, Some(0), "{line}: {finished:?}");
    }
    let pid = dev.id().to_string();
    assert!(Command::new("kill").args(["-INT", &pid]).status().unwrap().success());
    assert_eq!(dev.wait().unwrap().code(), Some(0));
    assert!(!folder.exists(), "the temporary directory is deleted");
}

#[test]
fn dev_refuses_database_url() {
    let url = "postgres://db.example/production";
    let finished = Finished::of(&mut keyward(["dev", "--database-url", url]));
    assert_eq!(finished.code, Some(2), "{finished:?}");
    assert!(finished.stderr.contains("--data-dir"), "{finished:?}");
}

/// Sends the request of a printed `curl -u ID:SECRET -d … -d … URL`.
async fn as_curl(line: &str) -> serde_json::Value {
    let words: Vec<_> = line.split(' ').collect();
    let after = |flag: &'static str| {
        words.windows(2).filter(move |pair| pair[0] == flag).map(|pair| pair[1])
    };
    let (id, secret) = after("-u").next().unwrap().split_once(':').unwrap();
    let form: Vec<_> = after("-d").map(|pair| pair.split_once('=').unwrap()).collect();
    let request = reqwest::Client::new().post(*words.last().unwrap());
    let answer = request.basic_auth(id, Some(secret)).form(&form).send().await.unwrap();
    serde_json::from_str(&answer.text().await.unwrap()).unwrap()
}
