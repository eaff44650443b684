//! Tests wait for conditions, not for time.

use std::fs;
use std::path::Path;

use super::{rust_files, source};

/// What waits for time alone. The names are put together here, so that this file has none of them.
const WAITS: [&str; 3] =
    [concat!("sleep", "("), concat!("park_", "timeout("), concat!("sleep", "_until(")];
/// The file that may.
const HELPERS: &str = "tests/it/harness/wait.rs";

/// The lines of a text that wait for time.
fn waits(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let lines = text.lines().enumerate().map(|(number, line)| (number + 1, line.trim()));
    lines
        .filter(|(_, line)| !line.starts_with("//") && WAITS.iter().any(|wait| line.contains(wait)))
}

#[test]
fn tests_sleep_only_in_the_harness() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut wrong = Vec::new();
    for path in rust_files(&root.join("tests")) {
        let name = path.strip_prefix(root).unwrap().display().to_string();
        let text = fs::read_to_string(&path).unwrap();
        if name != HELPERS {
            wrong.extend(waits(&text).map(|(number, line)| format!("{name}:{number}: {line}")));
        }
    }
    for path in rust_files(&source()) {
        let text = fs::read_to_string(&path).unwrap();
        let Some((_, tests)) = text.split_once("#[cfg(test)]\nmod tests") else { continue };
        // A clock that a test moves can sleep.
        let found = waits(tests).filter(|(_, line)| !line.contains(concat!(".", "sleep", "(")));
        wrong.extend(found.map(|(_, line)| format!("{}: {line}", path.display())));
    }
    assert!(wrong.is_empty(), "use `until` of {HELPERS}:\n{}", wrong.join("\n"));
}

#[test]
fn sleep_is_found_in_code_but_not_in_comments() {
    let text = format!("fn wait() {{\n    tokio::time::{}PAUSE).await;\n// {}", WAITS[0], WAITS[0]);
    assert_eq!(waits(&text).map(|(number, _)| number).collect::<Vec<_>>(), [2]);
}
