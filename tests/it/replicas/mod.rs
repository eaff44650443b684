//! Three servers on one PostgreSQL, with a Redis between them and without.

mod clocks;
mod faults_postgres;
mod faults_redis;
mod fresh;
mod lag;
mod limits;
mod older;
mod rights;
mod scene;
