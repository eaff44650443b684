//! The list of revocations as every replica holds it: in memory, loaded before the first
//! answer, kept up with the database. What a token is good for besides is not known here.

pub mod cursor;
#[cfg(feature = "server")]
mod database;
mod in_force;
pub mod index;
#[cfg(feature = "server")]
mod live;
#[cfg(feature = "server")]
mod projection;

pub use cursor::Cursor;
pub use index::{Index, Part};
#[cfg(feature = "server")]
pub use live::{Live, Options};
