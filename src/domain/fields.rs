//! Request validation. All invalid fields are collected, so that the caller can correct them at
//! once.

use std::fmt::Display;
use std::str::FromStr;

use strum::VariantNames;

use crate::error::{Error, FieldViolation, Result};

/// What is wrong with a value, as a predicate: "must not be empty".
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault(pub String);

impl Fault {
    pub fn new(description: impl Into<String>) -> Self {
        Self(description.into())
    }

    /// The error for this fault in `field`.
    pub fn of(self, field: impl Into<String>) -> Error {
        Error::invalid(field, self.0)
    }
}

/// Bounds for the size of errors, because gRPC sends them in headers.
const MAX_VIOLATIONS: usize = 10;
const MAX_CHARACTERS: usize = 160;

/// The faults found so far in a request.
#[derive(Debug, Default)]
pub struct FieldErrors(Vec<FieldViolation>);

impl FieldErrors {
    /// The value, or `None` if it is invalid; the fault is then recorded for `field`. What is
    /// optional may go on without it, because [`Self::finish`] refuses the request.
    pub fn read<T>(&mut self, field: impl Display, value: Result<T, Fault>) -> Option<T> {
        match value {
            Ok(value) => Some(value),
            Err(fault) => {
                self.fault(field, fault.0);
                None
            }
        }
    }

    /// Records a fault of `field`.
    pub fn fault(&mut self, field: impl Display, description: impl Into<String>) {
        let cut = |text: String| text.chars().take(MAX_CHARACTERS).collect();
        if self.0.len() < MAX_VIOLATIONS {
            self.0.push(FieldViolation {
                field: cut(field.to_string()),
                description: cut(description.into()),
            });
        }
    }

    /// The values, or `None` if one is invalid; the faults are recorded as `field[n]`.
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

    /// Like [`Self::read_each`], for a list of at most `max` values.
    pub fn read_list<'a, T, C: FromIterator<T>>(
        &mut self,
        field: &str,
        values: &'a [String],
        max: usize,
        parse: impl Fn(&'a str) -> Result<T, Fault>,
    ) -> Option<C> {
        if values.len() > max {
            self.fault(field, format!("must have at most {max} entries"));
        }
        self.read_each(field, values, parse)
    }

    /// The complete request, or an error with all recorded faults.
    pub fn finish<T>(self, whole: Option<T>) -> Result<T> {
        match whole {
            Some(whole) if self.0.is_empty() => Ok(whole),
            _ if self.0.is_empty() => Err(Error::internal("a field is missing, but has no fault")),
            _ => Err(Error::InvalidFields(self.0)),
        }
    }
}

/// The variant of an enum that has this name. The fault lists the names.
pub fn one_of<E: FromStr + VariantNames>(name: &str) -> Result<E, Fault> {
    let names = || Fault::new(format!("must be one of {}", E::VARIANTS.join(", ")));
    name.parse().map_err(|_| names())
}

/// A request id (AIP-155). `None` if empty.
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
    fn all_faults_are_reported_at_once() {
        let mut fields = FieldErrors::default();
        let name = fields.read("name", text("", 1, 9));
        let contact = fields.read("contact_email", email("no-host"));
        let Err(Error::InvalidFields(violations)) = fields.finish(name.zip(contact)) else {
            panic!("two bad fields were accepted");
        };
        assert_eq!(violations.len(), 2);
    }
}
