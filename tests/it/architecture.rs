//! The structure of the code: which modules may import which, and how long a file may be.

use std::fs;
use std::path::{Path, PathBuf};

/// For each top-level module, the modules of this crate that it may import.
const MAY_IMPORT: &[(&str, &[&str])] = &[
    ("admission", &["clock", "error", "domain"]),
    ("clock", &[]),
    ("incidents", &["domain"]),
    ("error", &[]),
    ("domain", &["clock", "error"]),
    ("store", &["clock", "error", "domain"]),
    ("secrets", &["clock", "error", "domain"]),
    ("keys", &["clock", "error", "domain"]),
    ("revocation", &["clock", "error", "domain", "store", "redis", "secrets"]),
    ("redis", &["clock", "error", "domain", "secrets"]),
    ("limiter", &["clock", "error", "domain", "redis"]),
    (
        "service",
        &[
            "clock",
            "error",
            "domain",
            "incidents",
            "store",
            "secrets",
            "keys",
            "redis",
            "limiter",
            "revocation",
        ],
    ),
    ("proto", &[]),
    (
        "grpc",
        &[
            "admission",
            "clock",
            "error",
            "domain",
            "secrets",
            "keys",
            "revocation",
            "service",
            "proto",
        ],
    ),
    ("http", &["admission", "clock", "error", "domain", "secrets", "keys", "service"]),
    ("config", &["domain", "keys", "limiter", "redis", "revocation", "secrets", "store"]),
    ("telemetry", &["admission", "clock", "config", "domain", "incidents"]),
    (
        "server",
        &[
            "admission",
            "clock",
            "error",
            "domain",
            "store",
            "secrets",
            "redis",
            "limiter",
            "service",
            "grpc",
            "http",
            "config",
            "incidents",
            "telemetry",
        ],
    ),
    ("transport", &[]),
    (
        "verifier",
        &["clock", "error", "domain", "keys", "revocation", "secrets", "proto", "transport"],
    ),
    (
        "cli",
        &[
            "clock",
            "config",
            "domain",
            "keys",
            "proto",
            "server",
            "service",
            "telemetry",
            "transport",
        ],
    ),
];

/// Crates that only the interfaces may use.
const FOREIGN: &[&str] = &["tonic", "axum", "prost", "hyper"];

const MOST_LINES: usize = 400;

fn rust_files(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    entries
        .flat_map(|path| if path.is_dir() { rust_files(&path) } else { vec![path] })
        .filter(|path| path.extension().is_some_and(|extension| extension == "rs"))
        .collect()
}

fn source() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src")
}

/// The top-level module of a file, if it is in one.
fn room(path: &Path) -> Option<String> {
    let inside = path.strip_prefix(source()).unwrap();
    let first = inside.components().next().unwrap().as_os_str().to_str().unwrap();
    let room = first.trim_end_matches(".rs");
    (room != "lib" && room != "main").then(|| room.to_owned())
}

/// The code of a file, without comments and tests.
fn code(path: &Path) -> String {
    let text = fs::read_to_string(path).unwrap();
    let code = text.split("#[cfg(test)]\nmod tests").next().unwrap();
    let lines = code.lines().filter(|line| !line.trim_start().starts_with("//"));
    lines.collect::<Vec<_>>().join("\n")
}

/// The modules of this crate that a piece of code names: `crate::module`, and each of
/// `crate::{module, module}`.
fn imports(code: &str) -> Vec<String> {
    let mut rooms = Vec::new();
    for rest in code.split("crate::").skip(1) {
        if let Some(list) = rest.strip_prefix('{') {
            let inside = list.split("};").next().unwrap();
            rooms.extend(inside.split(',').map(first_word));
        } else {
            rooms.push(first_word(rest));
        }
    }
    rooms.retain(|room| !room.is_empty());
    rooms
}

fn first_word(text: &str) -> String {
    text.trim().chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect()
}

#[test]
fn module_imports_are_allowed() {
    let mut wrong = Vec::new();
    for path in rust_files(&source()) {
        let Some(room) = room(&path) else { continue };
        let (_, allowed) = MAY_IMPORT
            .iter()
            .find(|(known, _)| *known == room)
            .unwrap_or_else(|| panic!("{room} is not in the plan: say what it may import"));
        for import in imports(&code(&path)) {
            if import != room && !allowed.contains(&import.as_str()) {
                wrong.push(format!("{} imports {import}", path.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn lower_modules_do_not_use_wire_crates() {
    let under = [
        "admission",
        "domain",
        "incidents",
        "store",
        "secrets",
        "keys",
        "redis",
        "limiter",
        "revocation",
        "service",
        "clock",
        "error",
    ];
    let mut wrong = Vec::new();
    for path in rust_files(&source()) {
        if !room(&path).is_some_and(|room| under.contains(&room.as_str())) {
            continue;
        }
        let code = code(&path);
        for foreign in FOREIGN {
            if code.contains(&format!("{foreign}::")) {
                wrong.push(format!("{} knows {foreign}", path.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn files_are_short() {
    let long: Vec<_> = rust_files(&source())
        .into_iter()
        .map(|path| (code(&path).lines().count(), path))
        .filter(|(lines, _)| *lines > MOST_LINES)
        .collect();
    assert!(long.is_empty(), "{long:?}");
}

#[test]
fn both_databases_have_the_same_migrations() {
    let names = |folder: &str| {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("migrations").join(folder);
        let entries = fs::read_dir(folder).unwrap();
        let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name()).collect();
        names.sort();
        names
    };
    assert_eq!(names("sqlite"), names("postgres"));
}
