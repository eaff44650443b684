//! Three servers on one PostgreSQL, with a Redis between them and without.

mod fresh;
mod lag;
mod limits;
