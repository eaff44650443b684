//! Runs the commands in the documents exactly as they are written.

use std::fs;
use std::path::Path;

use serde_json::Value;

use super::binary::{Finished, keyward};
use super::commands::Desk;
use crate::documents::{DOCUMENTS, code};

/// Commands with subcommands.
const GROUPS: [&str; 10] = [
    "application",
    "audit",
    "credential",
    "endpoint",
    "keys",
    "revocations",
    "role",
    "scope",
    "tenant",
    "user",
];

fn read(document: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(document)).unwrap()
}

/// A line as a shell splits it: at spaces outside of quotes.
fn words(line: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    let mut quoted = false;
    for c in line.trim().chars() {
        match c {
            '\'' => quoted = !quoted,
            ' ' if !quoted => words.push(String::new()),
            c => words.last_mut().unwrap().push(c),
        }
    }
    words.retain(|word| !word.is_empty());
    words
}

/// The values that a reader has copied so far, for the placeholders in the documents.
#[derive(Default)]
struct Copied {
    id: String,
    secret: String,
    token: String,
}

impl Copied {
    fn put_into(&self, line: &str) -> String {
        line.replace("SECRET", &self.secret).replace("TOKEN", &self.token).replace("ID", &self.id)
    }

    /// Copies the client id and secret of a new credential from the output.
    fn credential(&mut self, printed: &str) {
        let words = || printed.split_whitespace();
        let is_id =
            |word: &&str| word.len() == 32 && word.bytes().all(|byte| byte.is_ascii_hexdigit());
        words().find(is_id).expect("a client id is shown").clone_into(&mut self.id);
        let secret = words().find(|word| word.starts_with("kws_"));
        secret.expect("a secret is shown").clone_into(&mut self.secret);
    }
}

/// Exchanges a credential with the `curl` command of the tour. Returns the token.
async fn curl(desk: &Desk, line: &str) -> String {
    let words = words(line);
    let option = |name: &str| {
        let values = words.windows(2).filter(|pair| pair[0] == name).map(|pair| pair[1].clone());
        values.collect::<Vec<_>>()
    };
    let (user, form) = (option("-u").concat(), option("-d").join("&"));
    let (id, secret) = user.split_once(':').unwrap();
    let url = words.last().unwrap().replace("http://127.0.0.1:8080", &desk.serving().http);
    let request = reqwest::Client::new().post(url).basic_auth(id, Some(secret)).body(form);
    let request = request.header("content-type", "application/x-www-form-urlencoded");
    let answer: Value =
        serde_json::from_str(&request.send().await.unwrap().text().await.unwrap()).unwrap();
    answer["access_token"].as_str().unwrap_or_else(|| panic!("{line}: {answer}")).to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn readme_commands_work_as_written() {
    let readme = read("README.md");
    let mut sections = readme.split("\n## ");
    let tour = sections.find(|section| section.starts_with("A five-minute tour")).unwrap();
    let blocks = tour.split("```").skip(1).step_by(2);
    let lines = blocks.flat_map(|block| block.lines().skip(1));
    let desk = Desk::new(&[]);
    let (mut copied, mut count) = (Copied::default(), 0);
    for line in lines.filter(|line| !line.is_empty()) {
        let (line, comment) = line.split_once(" # ").unwrap_or((line, ""));
        let line = copied.put_into(line);
        if line.starts_with("curl ") {
            copied.token = curl(&desk, &line).await;
            continue;
        }
        let words = words(&line);
        match (words[0].as_str(), words.get(1).map(String::as_str)) {
            // The test has its own binary, and the server is running already.
            ("cargo" | "export", _) | ("keyward", Some("serve")) => continue,
            ("keyward", Some(_)) => {}
            _ => panic!("the tour has a line that this test does not know: {line}"),
        }
        let finished = Finished::of(desk.command(&words[1]).args(&words[2..]));
        let refused = comment.starts_with("refused");
        assert_eq!(finished.code != Some(0), refused, "{line}: {finished:?}");
        if line.starts_with("keyward credential create") {
            copied.credential(&finished.worked());
        }
        count += 1;
    }
    assert!(count > 10, "{count} commands were run");
}

#[test]
fn documented_commands_and_flags_exist() {
    let mut unknown = Vec::new();
    for document in DOCUMENTS {
        for line in code(&read(document)).iter().filter(|code| code.starts_with("keyward ")) {
            let line = line.split(" # ").next().unwrap().replace(['[', ']'], "");
            let words = words(&line);
            let depth = if GROUPS.contains(&words[1].as_str()) { 3 } else { 2 };
            let command = words.iter().skip(1).take(depth - 1).map(String::as_str);
            let help = Finished::of(&mut keyward(command.chain(["--help"])));
            let flags = words.iter().skip(depth).filter(|word| word.starts_with("--"));
            let is_unknown = |flag: &&String| !help.stdout.contains(flag.as_str());
            if help.code != Some(0) || flags.clone().any(|flag| is_unknown(&flag)) {
                unknown.push(format!("{document}: {line}"));
            }
        }
    }
    assert!(unknown.is_empty(), "no such command or flag:\n{}", unknown.join("\n"));
}
