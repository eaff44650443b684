//! The revocation list in the memory of each replica: loaded before the first request and
//! synchronised with the database.

pub mod cursor;
mod database;
mod in_force;
pub mod index;
mod live;
mod projection;

pub use cursor::Cursor;
pub use index::{Index, Part};
pub use live::{Live, Options};
