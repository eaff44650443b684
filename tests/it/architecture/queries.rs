//! Queries name their columns. A server of an older version reads tables that a newer one has
//! extended: with `*`, the result of its prepared statements would change, and each would fail.

use std::fs;
use std::path::Path;

use super::{code, rust_files, source};

/// What names all columns: `select *`, `returning *`, `a.*`.
fn stars(code: &str) -> Vec<String> {
    let code = code.replace('\\', " ").to_lowercase();
    let words: Vec<_> = code.split_whitespace().collect();
    // The columns of a subquery are not those of the result.
    let text = words.join(" ").replace("from (select *", "");
    let mut found = Vec::new();
    for start in ["select *", "select distinct *", "returning *"] {
        found.extend(text.matches(start).map(ToOwned::to_owned));
    }
    let of_table = words.iter().flat_map(|word| word.split(',')).filter(|word| {
        let word = word.trim_matches(|c: char| !c.is_ascii_alphanumeric() && c != '*' && c != '.');
        word.strip_suffix(".*").is_some_and(|table| {
            !table.is_empty() && table.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
        })
    });
    found.extend(of_table.map(ToOwned::to_owned));
    found
}

#[test]
fn queries_name_their_columns() {
    let mut wrong = Vec::new();
    for path in rust_files(&source()) {
        let found = stars(&code(&path));
        wrong.extend(found.into_iter().map(|star| format!("{}: {star}", path.display())));
    }
    let migrations = Path::new(env!("CARGO_MANIFEST_DIR")).join("migrations");
    for folder in ["postgres", "sqlite"] {
        for entry in fs::read_dir(migrations.join(folder)).unwrap() {
            let path = entry.unwrap().path();
            let found = stars(&fs::read_to_string(&path).unwrap());
            wrong.extend(found.into_iter().map(|star| format!("{}: {star}", path.display())));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn star_is_found_in_each_place() {
    for sql in [
        "\"select * from a\"",
        "\"SELECT DISTINCT *\"",
        "select \\\n   * from a",
        "insert into a values (1) returning *",
        "select a.* from a",
        "select b, a.*, c from a",
        "\"select a.*\"",
    ] {
        assert_eq!(stars(sql).len(), 1, "{sql}");
    }
    for code in [
        "select a from (select * from b) c",
        "select count(*) from a",
        "wait * 2",
        "use super::*;",
        "a * b",
        "/.*/",
    ] {
        assert!(stars(code).is_empty(), "{code}");
    }
}
