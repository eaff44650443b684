//! The binary, as an operator runs it.
