//! A database in trouble: an honest answer, and recovery without a hand.

mod away;
mod busy;
mod read_only;
mod start;
