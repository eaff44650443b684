//! Writes to standard output and standard error. Hidden characters are escaped, because text can be
//! from other users.

use std::fmt::Display;
use std::io::Write;

use serde::Serialize;

use super::Failure;
use crate::domain::is_hidden;

pub(super) fn print_json(value: &impl Serialize) -> Result<(), Failure> {
    line(json_escaped(&serde_json::to_string_pretty(value).map_err(Failure::new)?));
    Ok(())
}

/// Prints lines of the result. Escapes control and invisible characters, since the text can be from
/// other users.
pub(super) fn line(text: impl Display) {
    print(format!("{}\n", escaped(&text.to_string(), &['\n'])).as_bytes());
}

/// Prints bytes unchanged. Ignores errors of a closed pipe (`… | head`).
pub(super) fn print(bytes: &[u8]) {
    let mut out = std::io::stdout();
    if out.write_all(bytes).and_then(|()| out.flush()).is_err() {
        std::process::exit(0);
    }
}

/// The text with its hidden characters escaped, except for `allowed` ones.
pub(super) fn escaped(text: &str, allowed: &[char]) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        if is_hidden(c) && !allowed.contains(&c) {
            escaped.extend(c.escape_default());
        } else {
            escaped.push(c);
        }
    }
    escaped
}

/// Equivalent JSON in which the hidden characters of strings are escaped.
pub(super) fn json_escaped(json: &str) -> String {
    let mut escaped = String::with_capacity(json.len());
    for c in json.chars() {
        // In strings, ASCII control characters are escaped already.
        if is_hidden(c) && (c as u32) > 0x7e {
            let mut units = [0; 2];
            let units = c.encode_utf16(&mut units);
            escaped.extend(units.iter().map(|unit| format!("\\u{unit:04x}")));
        } else {
            escaped.push(c);
        }
    }
    escaped
}

/// [`line()`] with a format.
macro_rules! say {
    ($($format:tt)+) => {
        $crate::cli::print::line(format_args!($($format)+))
    };
}
pub(super) use say;

/// Prints a note on standard error. Ignores write errors, such as a full disk.
pub(super) fn note(sentence: &str) {
    writeln!(std::io::stderr(), "{}", escaped(sentence, &['\n'])).ok();
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    #[test]
    fn hidden_characters_in_json_are_escaped() {
        let value = Value::String("a\u{202e}b\u{1b}[31m\nc\u{200b}d é".to_owned());
        let json = json_escaped(&serde_json::to_string_pretty(&[&value]).unwrap());
        assert!(json.chars().all(|c| c == '\n' || !is_hidden(c)), "{json}");
        let read: Vec<Value> = serde_json::from_str(&json).unwrap();
        assert_eq!(read, [value], "it means the same");
        let tag = json_escaped("\"\u{e0041}\"");
        assert_eq!(tag, "\"\\udb40\\udc41\"");
        assert_eq!(serde_json::from_str::<String>(&tag).unwrap(), "\u{e0041}");
    }
}
