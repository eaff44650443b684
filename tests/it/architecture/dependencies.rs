//! Every dependency in `Cargo.toml` is used, where its section says.

use std::fs;
use std::path::Path;

use super::rust_files;

/// The sections, each with the files that may use its crates.
const SECTIONS: [(&str, &[&str]); 3] = [
    ("dependencies", &["src"]),
    ("dev-dependencies", &["src", "tests", "benches"]),
    ("build-dependencies", &["build.rs"]),
];

/// Only the generated stubs name it.
const IN_GENERATED_CODE: [&str; 1] = ["tonic_prost"];

/// The code at a path, without comments.
fn code_at(path: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    let files = if path.is_dir() { rust_files(&path) } else { vec![path] };
    let texts = files.iter().map(|file| fs::read_to_string(file).unwrap());
    let lines = texts.map(|text| {
        let lines = text.lines().filter(|line| !line.trim_start().starts_with("//"));
        lines.collect::<Vec<_>>().join("\n")
    });
    lines.collect::<Vec<_>>().join("\n")
}

/// Whether code names a crate: `name::` at the start of a path, or `use name`. A module of the same
/// name does not count.
fn names_crate(code: &str, name: &str) -> bool {
    let is_name = |c: char| c.is_alphanumeric() || c == '_';
    code.match_indices(name).any(|(at, _)| {
        let (before, after) = (&code[..at], &code[at + name.len()..]);
        let is_whole = !before.ends_with(is_name) && !after.starts_with(is_name);
        let in_another = before.strip_suffix("::").is_some_and(|path| path.ends_with(is_name));
        let is_path = after.starts_with("::") || before.ends_with("use ");
        is_whole && is_path && !in_another
    })
}

/// The names of the crates in a section of the manifest, also for one kind of machine.
fn crates(manifest: &toml::Table, section: &str) -> Vec<String> {
    let mut tables = vec![manifest.get(section)];
    let targets = manifest.get("target").and_then(toml::Value::as_table);
    tables.extend(targets.into_iter().flat_map(toml::Table::values).map(|t| t.get(section)));
    let names = tables.into_iter().flatten().flat_map(|table| table.as_table().unwrap().keys());
    names.map(|name| name.replace('-', "_")).collect()
}

#[test]
fn every_dependency_is_used() {
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR")).join("Cargo.toml");
    let manifest: toml::Table = fs::read_to_string(manifest).unwrap().parse().unwrap();
    let mut unused = Vec::new();
    for (section, places) in SECTIONS {
        let code: String = places.iter().map(|place| code_at(place)).collect();
        let names = crates(&manifest, section);
        assert!(!names.is_empty(), "{section}");
        let absent = names.into_iter().filter(|name| !names_crate(&code, name));
        unused.extend(absent.map(|name| format!("{section}: {name}")));
    }
    unused.retain(|name| !IN_GENERATED_CODE.iter().any(|known| name.ends_with(known)));
    assert!(unused.is_empty(), "not used:\n{}", unused.join("\n"));
}

#[test]
fn crate_differs_from_a_module_of_the_same_name() {
    for code in ["use redis::Client;", "::redis::Client", "(redis::cmd())", "use redis;"] {
        assert!(names_crate(code, "redis"), "{code}");
    }
    for code in ["crate::redis::Client", "mod redis;", "my_redis::X", "redis_x::X", "redis.get()"] {
        assert!(!names_crate(code, "redis"), "{code}");
    }
}
