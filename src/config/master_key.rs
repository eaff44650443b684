//! Where the master keys come from.

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::layers::Reader;
use super::values::{command_timeout, path};
use crate::domain::Fault;
use crate::secrets::MasterKey;

/// The maximum number of words of a command.
const MAX_WORDS: usize = 100;
/// The maximum length of a command in bytes.
const MAX_LENGTH: usize = 16 * 1024;

/// The source of a master key.
#[derive(Clone, Debug)]
pub enum MasterKeySource {
    /// The key itself.
    Given(MasterKey),
    File {
        path: PathBuf,
        /// Whether the file was configured explicitly. If so, it must exist; otherwise it is
        /// created at the first start.
        named: bool,
    },
    /// The output of a command.
    Command(KeyCommand),
}

/// A command that prints a master key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyCommand {
    /// The setting that has it.
    pub setting: &'static str,
    pub program: PathBuf,
    pub arguments: Vec<String>,
    /// The maximum time that it may take.
    pub timeout: Duration,
}

impl fmt::Display for KeyCommand {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the command of {} ({})", self.setting, self.program.display())
    }
}

/// The settings of one master key.
struct KeySettings {
    key: &'static str,
    file: &'static str,
    command: &'static str,
}

const PRIMARY: KeySettings =
    KeySettings { key: "master_key", file: "master_key_file", command: "master_key_command" };
const ADDITIONAL: KeySettings = KeySettings {
    key: "additional_master_key",
    file: "additional_master_key_file",
    command: "additional_master_key_command",
};

/// The sources of the primary key, and of the additional one if it is set.
pub(super) fn sources(
    r: &mut Reader,
    data_dir: &Path,
) -> (MasterKeySource, Option<MasterKeySource>) {
    let timeout = r.get("master_key_command_timeout", "10s", command_timeout);
    let primary = source(r, &PRIMARY, timeout);
    let default = || MasterKeySource::File { path: data_dir.join("master.key"), named: false };
    (primary.unwrap_or_else(default), source(r, &ADDITIONAL, timeout))
}

fn source(r: &mut Reader, settings: &KeySettings, timeout: Duration) -> Option<MasterKeySource> {
    let KeySettings { key, file, command } = *settings;
    let given = r.secret(key, MasterKey::parse).map(MasterKeySource::Given);
    let named = r.optional(file, path);
    let named = named.map(|path| MasterKeySource::File { path, named: true });
    let printed = r.optional(command, words);
    let printed = printed.map(|(program, arguments)| {
        let setting = command;
        MasterKeySource::Command(KeyCommand { setting, program, arguments, timeout })
    });
    let all = [(key, given), (file, named), (command, printed)];
    let mut set = all.into_iter().filter_map(|(name, source)| Some((name, source?)));
    let (first, source) = set.next()?;
    for (name, _) in set {
        r.fault(name, &format!("and {first} are both set; set only one of them"));
    }
    Some(source)
}

/// The program and the arguments of a command: words, or a JSON array of strings.
fn words(value: &str) -> Result<(PathBuf, Vec<String>), Fault> {
    let wrong = || {
        Fault::new(
            "must be a command that begins with the absolute path of a program: words separated \
             by spaces, or a JSON array of strings, like [\"/usr/bin/printkey\", \"a name\"]",
        )
    };
    let words: Vec<String> = if value.starts_with('[') {
        serde_json::from_str(value).map_err(|_| wrong())?
    } else {
        value.split_whitespace().map(ToOwned::to_owned).collect()
    };
    if words.len() > MAX_WORDS || value.len() > MAX_LENGTH {
        return Err(Fault::new(format!(
            "must have at most {MAX_WORDS} words and {MAX_LENGTH} bytes"
        )));
    }
    if words.iter().any(|word| word.contains('\0')) {
        return Err(wrong());
    }
    let mut words = words.into_iter();
    let program = PathBuf::from(words.next().ok_or_else(wrong)?);
    if !program.is_absolute() {
        return Err(wrong());
    }
    Ok((program, words.collect()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn command_is_words_or_a_json_array() {
        let read =
            |value| words(value).map(|(program, rest)| (program.display().to_string(), rest));
        let of = |program: &str, rest: &[&str]| {
            Ok((program.to_owned(), rest.iter().map(ToString::to_string).collect()))
        };
        assert_eq!(read("/bin/cat  /run/key"), of("/bin/cat", &["/run/key"]));
        assert_eq!(read("/bin/cat '/run/a b'"), of("/bin/cat", &["'/run/a", "b'"]), "no shell");
        assert_eq!(read(r#"["/bin/cat", "/run/a b"]"#), of("/bin/cat", &["/run/a b"]));
        let long = format!("/bin/echo {}", "x ".repeat(MAX_WORDS));
        for bad in ["", "cat /run/key", "[]", "[1]", r#"["/bin/cat", "a\u0000b"]"#, &long] {
            assert!(words(bad).is_err(), "{bad}");
        }
    }
}
