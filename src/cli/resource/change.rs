//! Changes of fields: what is given as a flag is set, and named in the update mask.

use std::fmt::Debug;

use clap::Args;
use prost_types::FieldMask;

use crate::cli::names;

/// Flags that set fields of a resource.
pub(in crate::cli) trait Change<R> {
    /// Whether fields can only be set with knowledge of the present ones: a group of fields that
    /// is sent as a whole, of which only a part is given.
    fn needs_current(&self) -> bool {
        false
    }

    /// Sets the fields that are given, and names them.
    fn apply(&self, resource: &mut R, mask: &mut Mask);
}

/// The fields that are given.
#[derive(Debug, Default)]
pub(in crate::cli) struct Mask(Vec<String>);

impl Mask {
    /// Sets a field if it is given.
    pub(in crate::cli) fn set<T: Clone>(&mut self, field: &str, given: Option<&T>, value: &mut T) {
        if let Some(given) = given {
            value.clone_from(given);
            self.add(field);
        }
    }

    /// Sets a list if any of it is given. An empty word stands for the empty list.
    pub(in crate::cli) fn words(&mut self, field: &str, given: &[String], value: &mut Vec<String>) {
        if !given.is_empty() {
            *value = names::given_words(given);
            self.add(field);
        }
    }

    /// Names a field.
    pub(in crate::cli) fn add(&mut self, field: &str) {
        self.0.push(field.to_owned());
    }
}

impl From<Mask> for FieldMask {
    fn from(mask: Mask) -> Self {
        Self { paths: mask.0 }
    }
}

/// No flags.
#[derive(Debug, Default, Args)]
pub(in crate::cli) struct NoFlags {}

impl<R> Change<R> for NoFlags {
    fn apply(&self, _: &mut R, _: &mut Mask) {}
}
