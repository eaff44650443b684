//! Three servers on one PostgreSQL, with and without Redis.

mod changes;
mod clocks;
mod failover_postgres;
mod failover_redis;
mod faults_postgres;
mod faults_redis;
mod fresh;
mod lag;
mod limits;
mod load;
mod older;
mod pooler;
mod redis_rights;
mod scene;
