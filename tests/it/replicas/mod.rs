//! Three servers on one PostgreSQL, with a Redis between them and without.

mod faults_postgres;
mod faults_redis;
mod fresh;
mod lag;
mod limits;
mod rights;
mod scene;
