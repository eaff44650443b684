//! The structure of the code: which modules may import which, and how long a file may be.

mod areas;
mod dependencies;
mod migrations;
mod queries;
mod type_names;
mod waits;

use std::fs;
use std::path::{Path, PathBuf};

/// For each top-level module, the modules of this crate that it may import.
const MAY_IMPORT: &[(&str, &[&str])] = &[
    ("admission", &["clock", "error", "domain"]),
    ("certificates", &["clock", "error", "domain"]),
    ("clock", &[]),
    ("incidents", &["domain"]),
    ("error", &[]),
    ("domain", &["clock", "error"]),
    ("store", &["clock", "error", "domain"]),
    ("secrets", &["clock", "error", "domain"]),
    ("keys", &["clock", "error", "domain"]),
    ("jose", &["clock", "error", "domain"]),
    ("revocation", &["clock", "error", "domain", "store", "redis", "secrets"]),
    ("backoff", &["secrets"]),
    ("redis", &["backoff", "clock", "error", "domain", "secrets"]),
    ("limiter", &["clock", "error", "domain", "redis"]),
    ("outbound", &["clock", "error", "domain", "jose"]),
    ("gateway", &["certificates", "error", "domain", "jose", "secrets"]),
    (
        "service",
        &[
            "admission",
            "certificates",
            "clock",
            "error",
            "domain",
            "incidents",
            "store",
            "secrets",
            "keys",
            "jose",
            "outbound",
            "redis",
            "limiter",
            "revocation",
        ],
    ),
    (
        "internals",
        &[
            "certificates",
            "clock",
            "config",
            "domain",
            "error",
            "jose",
            "keys",
            "limiter",
            "outbound",
            "redis",
            "revocation",
            "secrets",
            "server",
            "service",
            "store",
        ],
    ),
    ("proto", &["domain"]),
    (
        "grpc",
        &[
            "admission",
            "certificates",
            "clock",
            "error",
            "domain",
            "secrets",
            "keys",
            "revocation",
            "gateway",
            "service",
            "proto",
        ],
    ),
    ("http", &["admission", "clock", "error", "domain", "gateway", "secrets", "keys", "service"]),
    (
        "config",
        &[
            "domain",
            "gateway",
            "keys",
            "limiter",
            "outbound",
            "redis",
            "revocation",
            "secrets",
            "store",
        ],
    ),
    ("telemetry", &["admission", "backoff", "clock", "config", "domain", "error", "incidents"]),
    (
        "server",
        &[
            "admission",
            "certificates",
            "clock",
            "error",
            "domain",
            "store",
            "secrets",
            "redis",
            "limiter",
            "outbound",
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
        &[
            "backoff",
            "clock",
            "error",
            "domain",
            "jose",
            "keys",
            "revocation",
            "secrets",
            "proto",
            "transport",
        ],
    ),
    (
        "cli",
        &[
            "certificates",
            "clock",
            "config",
            "domain",
            "keys",
            "proto",
            "secrets",
            "server",
            "service",
            "telemetry",
            "transport",
        ],
    ),
];

/// Crates that only the interfaces may use.
const FOREIGN: &[&str] = &["tonic", "axum", "prost", "hyper"];

const MAX_LINES: usize = 400;

pub(crate) fn rust_files(folder: &Path) -> Vec<PathBuf> {
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
        let (_, allowed) =
            MAY_IMPORT.iter().find(|(known, _)| *known == room).unwrap_or_else(|| {
                panic!("{room} is not in MAY_IMPORT: add the modules that it may import")
            });
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
        "certificates",
        "domain",
        "gateway",
        "incidents",
        "store",
        "secrets",
        "keys",
        "jose",
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
        .filter(|(lines, _)| *lines > MAX_LINES)
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

/// Words that are not plain modern English, or that stand for a term of the field: `max`, not
/// `most`; *the user* and *they*, not *he*; *apply*, not *heed*.
const WORDS: &[&str] = &[
    "anew",
    "behold",
    "believe",
    "believed",
    "believes",
    "forbade",
    "hark",
    "he",
    "hear",
    "heard",
    "hears",
    "heed",
    "heeded",
    "heeds",
    "her",
    "hers",
    "herself",
    "hereby",
    "him",
    "himself",
    "his",
    "lest",
    "nigh",
    "nobody",
    "nought",
    "ought",
    "peace",
    "peaceful",
    "she",
    "somebody",
    "thee",
    "thereby",
    "therein",
    "thereof",
    "thereupon",
    "told",
    "twain",
    "unheed",
    "unto",
    "whence",
    "whereby",
    "wherein",
    "whereof",
    "whither",
    "whoever",
    "whomever",
    "whosoever",
    "woe",
    "wont",
];

/// Words that a file needs all the same.
const EXCEPTIONS: &[(&str, &[&str])] = &[("tests/it/architecture.rs", WORDS)];

/// The words of a line: names are split at underscores and at capitals. Words with a digit are
/// left out, because they are ids, hashes and test data.
fn words(line: &str) -> Vec<String> {
    let is_name = |c: char| c.is_alphanumeric() || c == '_';
    let names = line.split(|c| !is_name(c)).filter(|name| !name.contains(char::is_numeric));
    let mut words = Vec::new();
    for part in names.flat_map(|name| name.split('_')) {
        let mut word = String::new();
        let mut after_lower = false;
        for c in part.chars() {
            if after_lower && c.is_uppercase() {
                words.push(std::mem::take(&mut word));
            }
            after_lower = c.is_lowercase();
            word.extend(c.to_lowercase());
        }
        words.push(word);
    }
    words
}

/// The files whose words are checked. Landed migrations cannot be changed.
fn texts(folder: &Path, deep: bool) -> Vec<PathBuf> {
    const KINDS: [&str; 10] =
        ["rs", "proto", "toml", "md", "yaml", "yml", "sh", "lua", "sql", "py"];
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    entries
        .flat_map(|path| match (path.is_dir(), deep) {
            (true, true) => texts(&path, true),
            (true, false) => Vec::new(),
            (false, _) => vec![path],
        })
        .filter(|path| path.extension().is_some_and(|kind| KINDS.contains(&kind.to_str().unwrap())))
        .collect()
}

#[test]
fn words_are_plain() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let folders = ["src", "proto", "tests", "deploy", "benches", ".github", ".ci", "docs"];
    let folders = folders.map(|folder| root.join(folder));
    let mut files = texts(root, false);
    files.extend(folders.iter().filter(|folder| folder.is_dir()).flat_map(|f| texts(f, true)));
    let mut wrong = Vec::new();
    for path in files {
        let name = path.strip_prefix(root).unwrap().to_str().unwrap().to_owned();
        let exceptions = EXCEPTIONS.iter().filter(|(file, _)| *file == name);
        let allowed: Vec<_> = exceptions.flat_map(|(_, words)| words.iter()).collect();
        for (number, line) in fs::read_to_string(&path).unwrap().lines().enumerate() {
            if line.contains(concat!("MOST", "_"))
                && path.extension().is_some_and(|kind| kind == "rs")
            {
                wrong.push(format!("{name}:{}: MOST, better MAX", number + 1));
            }
            for word in words(line) {
                if WORDS.contains(&word.as_str()) && !allowed.contains(&&word.as_str()) {
                    wrong.push(format!("{name}:{}: {word}", number + 1));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{} words are not plain:\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
fn words_are_found_in_text_and_names() {
    let found =
        |line: &str| words(line).into_iter().filter(|w| WORDS.contains(&w.as_str())).count();
    for line in
        ["He is here", "fn asked_by_nobody()", "BelievedTokens", "told,", "// \"heed\"", "NOUGHT"]
    {
        assert_eq!(found(line), 1, "{line}");
    }
    for line in ["HeaderValue", "the sheet", "kws_0he_1", "other", "WherePossible", "history"] {
        assert_eq!(found(line), 0, "{line}");
    }
}
