//! Three servers on one PostgreSQL, with a Redis between them and without.

mod lag;
mod limits;
