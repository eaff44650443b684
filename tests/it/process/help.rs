//! The help of every command, as snapshots. `INSTA_UPDATE=always cargo test` updates them.

use std::fmt::Write;

use super::binary::{Finished, keyward};

fn help(path: &[String]) -> String {
    let arguments = path.iter().map(String::as_str).chain(["--help"]);
    Finished::of(&mut keyward(arguments)).worked()
}

/// The subcommands that a help text lists.
fn subcommands(help: &str) -> Vec<String> {
    let listed = help.lines().skip_while(|line| *line != "Commands:").skip(1);
    listed
        .take_while(|line| !line.is_empty())
        .filter(|line| line.starts_with("  ") && !line.starts_with("   "))
        .filter_map(|line| line.split_whitespace().next())
        .filter(|name| *name != "help")
        .map(str::to_owned)
        .collect()
}

/// Removes the flags that all commands share: a snapshot of their own has them.
fn own(text: &str) -> String {
    let mut is_shared = false;
    let mut own = String::new();
    for line in text.lines() {
        if !line.starts_with(' ') && !line.is_empty() {
            is_shared = ["Client:", "Output:"].contains(&line);
        }
        if !is_shared {
            writeln!(own, "{}", line.trim_end()).unwrap();
        }
    }
    own
}

fn add(all: &mut String, path: &[String]) {
    let text = help(path);
    writeln!(all, "$ keyward {} --help\n{}", path.join(" "), own(&text)).unwrap();
    for name in subcommands(&text) {
        add(all, &[path, &[name]].concat());
    }
}

#[test]
fn help_of_every_command_matches_snapshot() {
    let top = help(&[]);
    insta::assert_snapshot!("keyward", top);
    let shared = help(&["jwks".to_owned()]);
    let shared: Vec<_> = shared.lines().skip_while(|line| *line != "Client:").collect();
    let shared: Vec<_> = shared.iter().map(|line| line.trim_end()).collect();
    insta::assert_snapshot!("shared", shared.join("\n"));
    let commands = subcommands(&top);
    assert!(commands.len() > 20, "{commands:?}");
    for command in commands {
        let mut all = String::new();
        add(&mut all, std::slice::from_ref(&command));
        insta::assert_snapshot!(command, all);
    }
}
