//! The layers of the configuration. Every setting has a dotted key: `grpc.listen` is `listen` in
//! `[grpc]` of the file, and `KEYWARD_GRPC_LISTEN` in the environment.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::ffi::OsString;
use std::fmt;
use std::path::{Path, PathBuf};

use toml::{Table, Value};

use super::otlp::{STANDARD_VARIABLES, standard_value};
use crate::domain::Fault;

/// The sources of settings.
#[derive(Clone, Debug, Default)]
pub struct Layers {
    file: Option<(PathBuf, Table)>,
    environment: HashMap<String, String>,
    /// Variables whose values are not UTF-8.
    unreadable: HashSet<String>,
    flags: BTreeMap<&'static str, (&'static str, String)>,
}

/// A setting in effect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Setting {
    pub key: &'static str,
    /// Its value, masked if it is secret. `None`: not set.
    pub value: Option<String>,
    /// The layer that it comes from.
    pub source: String,
}

/// All errors in a configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Faults(pub Vec<String>);

impl fmt::Display for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the configuration is invalid:")?;
        self.0.iter().try_for_each(|fault| write!(f, "\n  {fault}"))
    }
}

impl std::error::Error for Faults {}

impl Layers {
    pub fn with_file(mut self, path: &Path) -> Result<Self, Faults> {
        let fault = |what: String| Faults(vec![format!("{}: {what}", path.display())]);
        let text = std::fs::read_to_string(path).map_err(|error| fault(error.to_string()))?;
        let table = text.parse::<Table>().map_err(|error| {
            // Without the line itself, which may contain a secret.
            let before = error.span().map_or("", |span| text.get(..span.start).unwrap_or(""));
            let line = before.lines().count().max(1);
            fault(format!("line {line}: {}", error.message()))
        })?;
        self.file = Some((path.to_owned(), table));
        Ok(self)
    }

    /// Adds environment variables.
    #[must_use]
    pub fn with_environment(
        mut self,
        variables: impl Iterator<Item = (OsString, OsString)>,
    ) -> Self {
        for (name, value) in variables {
            let Ok(name) = name.into_string() else { continue };
            let is_standard = STANDARD_VARIABLES.iter().any(|(_, variable)| *variable == name);
            if !name.starts_with("KEYWARD_") && !is_standard {
                continue;
            }
            match value.into_string() {
                Ok(value) => drop(self.environment.insert(name, value)),
                Err(_) => drop(self.unreadable.insert(name)),
            }
        }
        self
    }

    /// Adds a flag, if it was given.
    #[must_use]
    pub fn with_flag(
        mut self,
        key: &'static str,
        flag: &'static str,
        value: Option<impl ToString>,
    ) -> Self {
        if let Some(value) = value {
            self.flags.insert(key, (flag, value.to_string()));
        }
        self
    }
}

/// Reads settings and collects errors.
pub(super) struct Reader {
    layers: Layers,
    settings: Vec<Setting>,
    faults: Vec<String>,
}

impl Reader {
    pub(super) fn new(layers: Layers) -> Self {
        Self { layers, settings: Vec::new(), faults: Vec::new() }
    }

    /// Reads a setting with a default.
    #[expect(clippy::expect_used, reason = "callers pass valid literals")]
    pub(super) fn get<T>(
        &mut self,
        key: &'static str,
        default: &str,
        parse: impl Fn(&str) -> Result<T, Fault>,
    ) -> T {
        let (value, source) =
            self.find(key).unwrap_or_else(|| (default.to_owned(), "default".to_owned()));
        let parsed = self.parse(key, &value, &source, &parse);
        self.note(key, Some(value), source);
        parsed.unwrap_or_else(|| parse(default).expect("the default is valid"))
    }

    /// Reads an optional setting.
    pub(super) fn optional<T>(
        &mut self,
        key: &'static str,
        parse: impl Fn(&str) -> Result<T, Fault>,
    ) -> Option<T> {
        self.masked(key, parse, ToOwned::to_owned)
    }

    /// Reads an optional setting whose value is masked.
    pub(super) fn secret<T>(
        &mut self,
        key: &'static str,
        parse: impl Fn(&str) -> Result<T, Fault>,
    ) -> Option<T> {
        self.masked(key, parse, |_| "****".to_owned())
    }

    /// Reads a URL whose password is masked.
    pub(super) fn url<T: fmt::Display>(
        &mut self,
        key: &'static str,
        parse: impl Fn(&str) -> Result<T, Fault>,
    ) -> Option<T> {
        let mask = |url: &str| parse(url).map_or_else(|_| "****".to_owned(), |url| url.to_string());
        self.masked(key, &parse, mask)
    }

    /// Records an error in a setting.
    pub(super) fn fault(&mut self, key: &str, what: &str) {
        self.faults.push(format!("{key} {what}"));
    }

    /// The settings, or all errors. A key in the file that was not read is an error.
    pub(super) fn finish(mut self) -> Result<Vec<Setting>, Faults> {
        if let Some((path, table)) = &self.layers.file {
            let known: Vec<_> = self.settings.iter().map(|setting| setting.key).collect();
            let unknown =
                leaves(table, "").into_iter().filter(|key| !known.contains(&key.as_str()));
            self.faults.extend(
                unknown.map(|key| format!("{}: {key} is not a known setting", path.display())),
            );
        }
        if self.faults.is_empty() { Ok(self.settings) } else { Err(Faults(self.faults)) }
    }

    fn masked<T>(
        &mut self,
        key: &'static str,
        parse: impl Fn(&str) -> Result<T, Fault>,
        shown: impl Fn(&str) -> String,
    ) -> Option<T> {
        let found = self.find(key);
        let Some((value, source)) = found else {
            self.note(key, None, "default".to_owned());
            return None;
        };
        let parsed = self.parse(key, &value, &source, &parse);
        self.note(key, Some(shown(&value)), source);
        parsed
    }

    fn parse<T>(
        &mut self,
        key: &str,
        value: &str,
        source: &str,
        parse: &impl Fn(&str) -> Result<T, Fault>,
    ) -> Option<T> {
        match parse(value) {
            Ok(parsed) => Some(parsed),
            Err(fault) => {
                self.faults.push(format!("{key} {} ({source})", fault.0));
                None
            }
        }
    }

    fn note(&mut self, key: &'static str, value: Option<String>, source: String) {
        self.settings.push(Setting { key, value, source });
    }

    /// The value in the last layer that has one, and the layer. A trailing newline is removed,
    /// because files and pastes often have one.
    fn find(&mut self, key: &'static str) -> Option<(String, String)> {
        let (value, source) = self.find_as_given(key)?;
        Some((value.trim().to_owned(), source))
    }

    fn find_as_given(&mut self, key: &'static str) -> Option<(String, String)> {
        if let Some((flag, value)) = self.layers.flags.get(key) {
            return Some((value.clone(), (*flag).to_owned()));
        }
        let variable = format!("KEYWARD_{}", key.replace('.', "_").to_uppercase());
        if self.layers.unreadable.contains(&variable) {
            self.faults.push(format!("{key} is not UTF-8 ({variable})"));
            return None;
        }
        if let Some(value) = self.layers.environment.get(&variable) {
            return Some((value.clone(), variable));
        }
        self.find_standard(key).or_else(|| self.find_in_file(key))
    }

    /// The value of the standard variable of a setting, which is for all programs of a machine.
    fn find_standard(&mut self, key: &str) -> Option<(String, String)> {
        let (_, variable) = STANDARD_VARIABLES.iter().find(|(setting, _)| *setting == key)?;
        if self.layers.unreadable.contains(*variable) {
            self.faults.push(format!("{key} is not UTF-8 ({variable})"));
            return None;
        }
        let value = standard_value(variable, self.layers.environment.get(*variable)?)?;
        Some((value, (*variable).to_owned()))
    }

    fn find_in_file(&mut self, key: &str) -> Option<(String, String)> {
        let (path, table) = self.layers.file.as_ref()?;
        let source = path.display().to_string();
        match lookup(table, key)? {
            Value::String(text) => Some((text.clone(), source)),
            Value::Integer(number) => Some((number.to_string(), source)),
            Value::Float(number) => Some((number.to_string(), source)),
            Value::Boolean(flag) => Some((flag.to_string(), source)),
            _ => {
                self.faults.push(format!("{key} must be a string or a number ({source})"));
                None
            }
        }
    }
}

fn lookup<'a>(table: &'a Table, key: &str) -> Option<&'a Value> {
    match key.split_once('.') {
        None => table.get(key),
        Some((section, rest)) => lookup(table.get(section)?.as_table()?, rest),
    }
}

/// The dotted keys of all values in a table.
fn leaves(table: &Table, prefix: &str) -> Vec<String> {
    table
        .iter()
        .flat_map(|(key, value)| match value {
            Value::Table(inner) => leaves(inner, &format!("{prefix}{key}.")),
            _ => vec![format!("{prefix}{key}")],
        })
        .collect()
}
