//! Parsing of requests: every malformed field is collected, so that a caller hears of
//! all of them at once.

use std::fmt::Display;

use crate::error::{Error, Result, Violation};

/// What is wrong with one value, as a sentence that follows its field's name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault(pub String);

impl Fault {
    /// A fault in words.
    pub fn new(description: impl Into<String>) -> Self {
        Self(description.into())
    }

    /// This fault as that of `field`.
    pub fn of(self, field: impl Into<String>) -> Error {
        Error::invalid(field, self.0)
    }
}

/// How many faults are told, and how much of each: errors travel in headers, which are
/// small.
const MOST_VIOLATIONS: usize = 10;
const MOST_CHARACTERS: usize = 160;

/// The faults found so far in one request.
#[derive(Debug, Default)]
pub struct Fields(Vec<Violation>);

impl Fields {
    /// The value, or `None` after noting what is wrong with `field`.
    pub fn read<T>(&mut self, field: impl Display, value: Result<T, Fault>) -> Option<T> {
        match value {
            Ok(value) => Some(value),
            Err(fault) => {
                self.fault(field, fault.0);
                None
            }
        }
    }

    /// Notes that something is wrong with `field`.
    pub fn fault(&mut self, field: impl Display, description: impl Into<String>) {
        let cut = |text: String| text.chars().take(MOST_CHARACTERS).collect();
        if self.0.len() < MOST_VIOLATIONS {
            self.0.push(Violation {
                field: cut(field.to_string()),
                description: cut(description.into()),
            });
        }
    }

    /// The values, or `None` after noting what is wrong with each: `field[n]`.
    pub fn read_each<'a, T, C: FromIterator<T>>(
        &mut self,
        field: &str,
        values: &'a [String],
        parse: impl Fn(&'a str) -> Result<T, Fault>,
    ) -> Option<C> {
        let each: Vec<_> = values
            .iter()
            .enumerate()
            .map(|(n, value)| self.read(format_args!("{field}[{n}]"), parse(value)))
            .collect();
        each.into_iter().collect()
    }

    /// The whole request if nothing was wrong with any field, else all that was.
    pub fn finish<T>(self, whole: Option<T>) -> Result<T> {
        match whole {
            Some(whole) if self.0.is_empty() => Ok(whole),
            _ if self.0.is_empty() => Err(Error::internal("a field vanished without a fault")),
            _ => Err(Error::InvalidFields(self.0)),
        }
    }
}

/// The name of a request (AIP-155): `None` when empty.
pub fn request_id(value: &str) -> Result<Option<String>, Fault> {
    if value.is_empty() {
        return Ok(None);
    }
    if value.len() > 128 || !value.bytes().all(|b| b.is_ascii_graphic()) {
        return Err(Fault::new("must have at most 128 characters, printable ASCII without spaces"));
    }
    Ok(Some(value.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::text::{email, text};

    #[test]
    fn all_faults_are_told_at_once() {
        let mut fields = Fields::default();
        let name = fields.read("name", text("", 1, 9));
        let contact = fields.read("contact_email", email("nobody"));
        let Err(Error::InvalidFields(violations)) = fields.finish(name.zip(contact)) else {
            panic!("two bad fields were accepted");
        };
        assert_eq!(violations.len(), 2);
    }
}
