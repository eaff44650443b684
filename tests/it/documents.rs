//! What the documents say is true: links, settings, metrics, errors, and names of tests and other code.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use keyward::internals::config::{Config, Layers};
use keyward::internals::domain::Permission;
use keyward::proto::errors::ErrorReason;

use crate::architecture::rust_files;

/// All documents.
pub(crate) const DOCUMENTS: [&str; 11] = [
    "README.md",
    "proto/README.md",
    "proto/CREDENTIALS.md",
    "proto/FEDERATION.md",
    "deploy/README.md",
    "deploy/SIZING.md",
    "tests/README.md",
    "benches/README.md",
    "migrations/README.md",
    ".github/CONTRIBUTING.md",
    ".github/SECURITY.md",
];

const README_WORDS: usize = 1_500;

pub(crate) fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

pub(crate) fn read(path: impl AsRef<Path>) -> String {
    let path = root().join(path);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The lines outside of code blocks.
fn prose(text: &str) -> String {
    text.split("\n```").step_by(2).collect::<Vec<_>>().join("\n")
}

/// All code of a document: what stands between backticks, and the lines of code blocks.
pub(crate) fn code(text: &str) -> Vec<String> {
    let blocks = text.split("\n```").skip(1).step_by(2).flat_map(|block| block.lines().skip(1));
    let prose = prose(text);
    let spans = prose.split('`').skip(1).step_by(2);
    blocks.chain(spans).map(|code| code.replace('\n', " ").trim().to_owned()).collect()
}

/// The rows of the tables in a section, as their cells.
pub(crate) fn rows(text: &str, section: &str) -> Vec<Vec<String>> {
    let (_, rest) = text.split_once(&format!("\n## {section}\n")).expect("the section is there");
    let section = rest.split("\n## ").next().unwrap();
    let lines = section.lines().filter_map(|line| line.strip_prefix('|')?.strip_suffix('|'));
    lines.map(|line| line.split('|').map(|cell| cell.trim().to_owned()).collect()).collect()
}

/// What stands between the first backticks of a cell.
pub(crate) fn word(cell: &str) -> Option<&str> {
    cell.split('`').nth(1)
}

/// The anchor that GitHub makes of a heading.
fn anchor(heading: &str) -> String {
    let kept = heading.trim().to_lowercase();
    let kept = kept.chars().filter(|c| c.is_alphanumeric() || " -_".contains(*c));
    kept.map(|c| if c == ' ' { '-' } else { c }).collect()
}

fn has_anchor(document: &Path, wanted: &str) -> bool {
    let text = prose(&fs::read_to_string(document).unwrap());
    let headings = text.lines().filter(|line| line.starts_with('#'));
    headings.map(|line| anchor(line.trim_start_matches('#'))).any(|anchor| anchor == wanted)
}

#[test]
fn readme_is_short() {
    let words = read("README.md").split_whitespace().count();
    assert!(words <= README_WORDS, "{words} words: move some to the document where they belong");
}

#[test]
fn links_lead_somewhere() {
    let mut broken = Vec::new();
    for document in DOCUMENTS {
        let folder = root().join(document).parent().map(PathBuf::from).unwrap();
        let text = prose(&read(document));
        for rest in text.split("](").skip(1) {
            let target = rest.split(')').next().unwrap();
            if target.starts_with("https://") || target.starts_with("http://") {
                continue;
            }
            let (path, fragment) = target.split_once('#').unwrap_or((target, ""));
            let path = if path.is_empty() { root().join(document) } else { folder.join(path) };
            if !path.exists() || (!fragment.is_empty() && !has_anchor(&path, fragment)) {
                broken.push(format!("{document}: {target}"));
            }
        }
    }
    assert!(broken.is_empty(), "broken links:\n{}", broken.join("\n"));
}

#[test]
fn settings_that_are_named_exist() {
    let settings = Config::read(Layers::default()).unwrap().settings;
    let sections: BTreeSet<_> =
        settings.iter().filter_map(|setting| setting.key.split_once('.')).map(|(s, _)| s).collect();
    let is_setting = |name: &str| settings.iter().any(|setting| setting.key == name);
    let mut unknown = Vec::new();
    for document in DOCUMENTS {
        for code in code(&read(document)) {
            let Some((section, name)) = code.split_once('.') else { continue };
            let name = name.split([' ', '=']).next().unwrap();
            let key = format!("{section}.{name}");
            let is_name = name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_');
            let is_other = Permission::parse(&key).is_ok()
                || Path::new(&key).extension() == Some("rs".as_ref());
            if sections.contains(section) && is_name && !is_other && !is_setting(&key) {
                unknown.push(format!("{document}: {code}"));
            }
        }
    }
    assert!(unknown.is_empty(), "no such setting:\n{}", unknown.join("\n"));
}

/// Names that belong to Grafana, PostgreSQL, PgBouncer, buf and protoc, and occur in no code of ours.
const NAMES_OF_OTHERS: [&str; 6] = [
    "__rate_interval",
    "go_package_prefix",
    "grpc_python_out",
    "ignore_startup_parameters",
    "kube_deployment_status_replicas_unavailable",
    "pg_cancel_backend",
];

/// The names in a piece of code.
fn names(code: &str) -> impl Iterator<Item = &str> {
    code.split(|c: char| !c.is_ascii_alphanumeric() && c != '_')
}

/// Everything that has names: code, protos, migrations, settings and scripts, but no document.
fn named_in_the_repository() -> String {
    let folders = ["src", "tests/it", "benches", "proto", "migrations", "deploy"];
    let mut folders: Vec<_> = folders.iter().map(|folder| root().join(folder)).collect();
    let mut text = String::new();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let extension = path.extension().and_then(|extension| extension.to_str());
            if path.is_dir() {
                folders.push(path);
            } else if matches!(extension, Some("rs" | "proto" | "sql" | "toml" | "yaml")) {
                text += &read(path);
            }
        }
    }
    text
}

/// A name of three words or more is the name of a test or of other code, and code was renamed if it
/// is nowhere else. Metrics have a test of their own.
#[test]
fn tests_and_code_that_are_named_exist() {
    let repository = named_in_the_repository();
    let known: BTreeSet<_> = names(&repository).chain(NAMES_OF_OTHERS).collect();
    let mut unknown = Vec::new();
    let mut checked = 0;
    for document in DOCUMENTS {
        for code in code(&read(document)) {
            let long = names(&code).filter(|name| name.matches('_').count() >= 2);
            let long = long.filter(|name| {
                name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_')
                    && !name.starts_with("keyward_")
            });
            for name in long {
                checked += 1;
                if !known.contains(name) {
                    unknown.push(format!("{document}: {name}"));
                }
            }
        }
    }
    assert!(checked > 20, "{checked}");
    assert!(unknown.is_empty(), "no such test, function or field:\n{}", unknown.join("\n"));
}

/// `tests/run a::b` runs something: a folder, a file or a test of that name.
#[test]
fn tests_that_are_run_exist() {
    let files: Vec<_> = rust_files(&root().join("tests/it"));
    let source: String = files.iter().map(read).collect();
    let modules: BTreeSet<_> = files
        .iter()
        .map(|file| file.strip_prefix(root().join("tests/it")).unwrap().with_extension(""))
        .map(|file| file.to_str().unwrap().trim_end_matches("/mod").replace('/', "::"))
        .collect();
    let mut checked = 0;
    for document in DOCUMENTS {
        for code in code(&read(document)) {
            let Some((_, arguments)) = code.split_once("tests/run ") else { continue };
            let filter = arguments.split_whitespace().next().unwrap();
            if filter.starts_with('#') {
                continue;
            }
            checked += 1;
            let is_test = source.contains(&format!("fn {filter}("));
            assert!(is_test || modules.contains(filter), "{document}: nothing matches {filter}");
        }
    }
    assert!(checked > 3, "{checked}");
}

/// The code that the comment of a reason says.
fn code_of(reason: &str, proto: &str) -> String {
    let (before, _) = proto.split_once(&format!("  {reason} = ")).expect("the reason is there");
    let lines: Vec<_> =
        before.lines().rev().take_while(|line| line.trim_start().starts_with("//")).collect();
    let comment: Vec<_> = lines
        .iter()
        .rev()
        .flat_map(|line| line.split_whitespace())
        .filter(|w| *w != "//")
        .collect();
    let place = comment
        .iter()
        .position(|word| word.trim_end_matches(':') == "Code")
        .expect("it says its code");
    comment[place + 1].trim_matches(|c: char| !c.is_ascii_uppercase() && c != '_').to_owned()
}

#[test]
fn every_error_reason_is_documented_with_its_code_and_an_example() {
    let proto = read("proto/keyward/errors/v1/error_reason.proto");
    let rows = rows(&read("proto/README.md"), "Errors");
    let reasons: Vec<_> =
        (1..1000).filter_map(|number| ErrorReason::try_from(number).ok()).collect();
    assert!(reasons.len() > 20, "{reasons:?}");
    for reason in &reasons {
        let full = reason.as_str_name();
        let name = full.trim_start_matches("ERROR_REASON_");
        let row = rows.iter().find(|row| word(&row[0]) == Some(name));
        let row = row.unwrap_or_else(|| panic!("{name} is not in the table of proto/README.md"));
        assert_eq!(row[1], code_of(full, &proto), "{name}");
        assert!(!row[3].is_empty(), "{name} has no example");
    }
    assert_eq!(rows.len(), reasons.len() + 2, "a row for each, and two of the header");
}
