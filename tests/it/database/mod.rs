//! Databases with problems: correct errors, and automatic recovery.

mod away;
mod busy;
mod read_only;
mod start;
