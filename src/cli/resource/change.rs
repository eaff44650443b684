//! Changes of fields: a given flag sets its field, and adds it to the update mask.

use std::fmt::Debug;

use clap::Args;
use prost_types::FieldMask;

use crate::cli::names;

/// Flags that set fields of a resource.
pub(in crate::cli) trait FieldFlags<R> {
    /// Whether the present values are needed: only a part of a group is given, and a group of
    /// fields is replaced as a whole.
    fn needs_current(&self) -> bool {
        false
    }

    /// Sets the given fields, and adds them to the update mask.
    fn apply(&self, resource: &mut R, mask: &mut MaskBuilder);
}

/// Collects the update mask: the fields that are given.
#[derive(Debug, Default)]
pub(in crate::cli) struct MaskBuilder(Vec<String>);

impl MaskBuilder {
    /// Sets a field if it is given.
    pub(in crate::cli) fn set<T: Clone>(&mut self, field: &str, given: Option<&T>, value: &mut T) {
        if let Some(given) = given {
            value.clone_from(given);
            self.add(field);
        }
    }

    /// Sets a list if it is given. An empty value stands for the empty list.
    pub(in crate::cli) fn words(&mut self, field: &str, given: &[String], value: &mut Vec<String>) {
        if !given.is_empty() {
            *value = names::given_words(given);
            self.add(field);
        }
    }

    pub(in crate::cli) fn add(&mut self, field: &str) {
        self.0.push(field.to_owned());
    }
}

impl From<MaskBuilder> for FieldMask {
    fn from(mask: MaskBuilder) -> Self {
        Self { paths: mask.0 }
    }
}

/// No flags.
#[derive(Debug, Default, Args)]
pub(in crate::cli) struct NoFlags {}

impl<R> FieldFlags<R> for NoFlags {
    fn apply(&self, _: &mut R, _: &mut MaskBuilder) {}
}
