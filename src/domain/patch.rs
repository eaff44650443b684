//! Changes to fields that can be empty. A field that cannot is an `Option` in its patch.

/// A change to a field that can be empty.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum FieldPatch<T> {
    #[default]
    Keep,
    /// Empties the field. What then applies is the field's default, if it has one.
    Clear,
    Set(T),
}

impl<T> FieldPatch<T> {
    /// Whether the field is named by the change, even if its value stays the same.
    pub fn is_named(&self) -> bool {
        !matches!(self, Self::Keep)
    }

    /// The field after the change.
    pub fn apply(self, before: Option<T>) -> Option<T> {
        match self {
            Self::Keep => before,
            Self::Clear => None,
            Self::Set(value) => Some(value),
        }
    }
}

/// Sets the field to exactly this, empty if `None`.
impl<T> From<Option<T>> for FieldPatch<T> {
    fn from(value: Option<T>) -> Self {
        value.map_or(Self::Clear, Self::Set)
    }
}
