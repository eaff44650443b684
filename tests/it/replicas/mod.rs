//! Three servers on one PostgreSQL, with a Redis between them and without.

mod faults;
mod fresh;
mod lag;
mod limits;
