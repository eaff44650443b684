//! One type name has one meaning: no two types of the crate have the same name.

use std::collections::BTreeMap;

use super::{code, rust_files, source};

/// The names of the types that a line of code defines. Associated types, which are indented, are
/// not meant: their trait gives them their meaning.
fn defined(line: &str) -> Option<&str> {
    let is_indented = line.starts_with(' ');
    let mut words = line.split_whitespace().skip_while(|word| word.starts_with("pub"));
    // `pub(in crate::cli)` is two words.
    let kind = words.by_ref().find(|word| !word.ends_with(')'))?;
    let is_type = matches!(kind, "struct" | "enum" | "trait");
    if !is_type && (kind != "type" || is_indented) {
        return None;
    }
    let name = words.next()?;
    let end = name.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(name.len());
    Some(&name[..end]).filter(|name| !name.is_empty())
}

#[test]
fn type_names_have_one_meaning() {
    let mut places: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for path in rust_files(&source()) {
        let file = path.strip_prefix(source()).unwrap().to_str().unwrap().to_owned();
        for name in code(&path).lines().filter_map(defined) {
            places.entry(name.to_owned()).or_default().push(file.clone());
        }
    }
    assert!(places.len() > 400, "types are found");
    places.retain(|_, files| files.len() > 1);
    assert!(places.is_empty(), "these names are defined twice: {places:#?}");
}

#[test]
fn definitions_of_types_are_found() {
    for (line, name) in [
        ("struct A;", Some("A")),
        ("pub struct Ab<'a> {", Some("Ab")),
        ("pub(in crate::cli) enum Abc {", Some("Abc")),
        ("    pub(super) trait Inner: Send {", Some("Inner")),
        ("type Alias = u8;", Some("Alias")),
        ("    type Associated = u8;", None),
        ("let struct_of = 1;", None),
        ("pub fn of() {", None),
    ] {
        assert_eq!(defined(line), name, "{line}");
    }
}
