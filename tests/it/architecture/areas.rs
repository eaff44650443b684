//! The areas inside `service/` and their one direction, and no circles between the files of any
//! module.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use super::{code, rust_files, source};

/// The areas, each with those that it may import: only areas before it.
const AREAS: &[(&str, &[&str])] = &[
    ("context", &[]),
    ("lists", &[]),
    ("lookups", &[]),
    ("expiry", &[]),
    ("master_keys", &[]),
    ("clients", &["lookups"]),
    ("signing", &[]),
    ("limits", &[]),
    ("usage", &[]),
    ("readiness", &["clients", "signing"]),
    ("auth", &["clients", "context", "lookups", "master_keys", "signing", "usage"]),
    ("audit", &["auth", "clients"]),
    ("tokens", &["audit", "auth", "clients", "context", "limits", "signing", "usage"]),
    ("access", &["auth", "clients", "limits", "signing", "usage"]),
    ("admin", &["audit", "auth", "lists", "master_keys", "signing"]),
    ("feeds", &["audit", "auth", "context", "lists", "signing"]),
];

/// Top-level modules that still have files which import each other. A module that has none any more
/// leaves this list.
const WITH_CIRCLES: &[&str] = &["cli", "config", "domain", "server"];

/// A path below a top-level module, as `["auth", "caller"]`; its root is empty.
type Module = Vec<String>;

/// The files of a top-level module, with their code.
struct Tree {
    room: String,
    files: BTreeMap<Module, String>,
}

impl Tree {
    fn read(room: &str) -> Self {
        let folder = source().join(room);
        let module = |path: &std::path::Path| -> Module {
            let path = path.strip_prefix(&folder).unwrap().with_extension("");
            let parts = path.iter().map(|part| part.to_str().unwrap().to_owned());
            parts.filter(|part| part != "mod").collect()
        };
        let files = rust_files(&folder).iter().map(|path| (module(path), code(path))).collect();
        Self { room: room.to_owned(), files }
    }

    /// The modules that a module imports. A name that a folder only exports again counts as an
    /// import of the file that has it.
    fn imports(&self, of: &Module) -> BTreeSet<Module> {
        let uses = statements(&self.files[of]).into_iter().filter(|(public, _)| !public);
        let paths = uses.flat_map(|(_, tree)| expand(&tree));
        let found = paths.filter_map(|path| self.resolve(&self.absolute(of, &path)?));
        found.filter(|module| module != of).collect()
    }

    /// The path below the top-level module that an import means, if it is one.
    fn absolute(&self, of: &Module, path: &[String]) -> Option<Module> {
        let mut path = path.iter().map(String::as_str).peekable();
        let mut base = of.clone();
        match path.peek().copied()? {
            "crate" => {
                path.next();
                (path.next()? == self.room).then_some(())?;
                base.clear();
            }
            "super" => {
                while path.next_if_eq(&"super").is_some() {
                    base.pop()?;
                }
            }
            child => {
                let child = [of.as_slice(), &[child.to_owned()]].concat();
                self.files.contains_key(&child).then_some(())?;
            }
        }
        base.extend(path.map(str::to_owned));
        Some(base)
    }

    fn resolve(&self, path: &[String]) -> Option<Module> {
        let depth =
            (0..=path.len()).rev().find(|depth| self.files.contains_key(&path[..*depth]))?;
        let (module, rest) = (path[..depth].to_vec(), &path[depth..]);
        let Some(name) = rest.first() else { return Some(module) };
        let exported = statements(&self.files[&module]).into_iter().filter(|(public, _)| *public);
        let exported = exported.flat_map(|(_, tree)| expand(&tree));
        match exported.into_iter().find(|path| path.last() == Some(name)) {
            Some(path) => self.resolve(&self.absolute(&module, &path)?),
            None => Some(module),
        }
    }
}

/// The trees of the `use` statements, and whether each is public.
fn statements(code: &str) -> Vec<(bool, String)> {
    let mut found = Vec::new();
    for statement in code.split(';') {
        let mut lines = statement.lines().skip_while(|line| {
            let line = line.trim_start();
            !(line.starts_with("use ") || line.starts_with("pub") && line.contains(" use "))
        });
        let Some(first) = lines.next() else { continue };
        let (before, tree) = first.split_once("use ").unwrap();
        let tree = lines.fold(tree.to_owned(), |tree, line| tree + line.trim());
        found.push((!before.trim().is_empty(), tree));
    }
    found
}

/// `a::{b, c::d}` as `a::b` and `a::c::d`.
fn expand(tree: &str) -> Vec<Vec<String>> {
    let tree = tree.trim();
    let Some((before, list)) = tree.split_once('{') else {
        let path = tree.split(" as ").next().unwrap();
        return vec![path.split("::").map(|part| part.trim().to_owned()).collect()];
    };
    let list = list.strip_suffix('}').unwrap_or(list);
    let (mut depth, mut parts) = (0, vec![String::new()]);
    for c in list.chars() {
        depth += i32::from(c == '{') - i32::from(c == '}');
        if c == ',' && depth == 0 {
            parts.push(String::new());
        } else {
            parts.last_mut().unwrap().push(c);
        }
    }
    let parts = parts.iter().filter(|part| !part.trim().is_empty());
    let prefix: Vec<_> =
        before.split("::").map(|part| part.trim().to_owned()).filter(|p| !p.is_empty()).collect();
    parts.flat_map(|part| expand(part)).map(|path| [prefix.clone(), path].concat()).collect()
}

#[test]
fn areas_of_service_import_in_one_direction() {
    let tree = Tree::read("service");
    let mut wrong = Vec::new();
    for module in tree.files.keys() {
        let Some(area) = module.first() else { continue };
        let place = AREAS.iter().position(|(known, _)| known == area);
        let place = place.unwrap_or_else(|| panic!("{area} is not in the plan of service/"));
        for import in tree.imports(module) {
            let (from, to) = (module.join("::"), import.join("::"));
            match import.first() {
                None => wrong.push(format!("{from} imports the composition root")),
                Some(other) if other == area => {}
                Some(other) if AREAS[place].1.contains(&other.as_str()) => {}
                Some(_) => wrong.push(format!("{from} imports {to}")),
            }
        }
    }
    for (place, (area, imports)) in AREAS.iter().enumerate() {
        let before = |import: &&str| AREAS[..place].iter().any(|(known, _)| known == import);
        assert!(imports.iter().all(before), "{area} may import only areas before it");
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// The files that import each other, directly or by way of others.
fn circle(tree: &Tree) -> Vec<String> {
    let modules = tree.files.keys();
    let mut left: BTreeMap<_, _> =
        modules.map(|module| (module.clone(), tree.imports(module))).collect();
    // A file that imports none of the rest, or is imported by none of it, is in no circle.
    loop {
        let known: BTreeSet<_> = left.keys().cloned().collect();
        let imported: BTreeSet<_> = left.values().flatten().cloned().collect();
        let count = left.len();
        left.retain(|module, imports| {
            imports.iter().any(|i| known.contains(i)) && imported.contains(module)
        });
        if left.len() == count {
            break;
        }
    }
    left.keys().map(|module| format!("{}::{}", tree.room, module.join("::"))).collect()
}

#[test]
fn files_of_a_module_have_no_circles() {
    let entries = fs::read_dir(source()).unwrap().map(|entry| entry.unwrap().path());
    let rooms = entries.filter(|path| path.is_dir());
    let trees: Vec<_> =
        rooms.map(|path| Tree::read(path.file_name().unwrap().to_str().unwrap())).collect();
    let imports = trees.iter().flat_map(|tree| tree.files.keys().map(|file| tree.imports(file)));
    assert!(imports.map(|found| found.len()).sum::<usize>() > 300, "imports are found");
    for tree in &trees {
        let circle = circle(tree);
        if WITH_CIRCLES.contains(&tree.room.as_str()) {
            assert!(!circle.is_empty(), "{} has no circles: take it off the list", tree.room);
        } else {
            assert!(circle.is_empty(), "these files import each other: {circle:#?}");
        }
    }
}
