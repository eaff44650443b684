//! The revocation list in the memory of each replica: loaded before the first request and
//! synchronised with the database.

pub mod cursor;
#[cfg(feature = "server")]
mod database;
mod in_force;
pub mod index;
#[cfg(feature = "server")]
mod live;
#[cfg(feature = "server")]
mod projection;
#[cfg(feature = "server")]
mod remembered;
mod rows;
mod token_table;

pub use cursor::Cursor;
pub use index::{Index, NewList};
#[cfg(feature = "server")]
pub use live::{Live, Options};
#[cfg(feature = "server")]
pub use remembered::RememberedList;
