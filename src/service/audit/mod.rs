//! Changes and their traces: each change is made in a transaction that cannot be committed without
//! an event in the audit log, and a refused attempt is written there too. The log's hash chain, and its
//! retention.

mod attempt;
mod chain;
mod refusal_writer;
mod refusals;
mod retention;
mod sessions;
mod sign_again;
mod unit_of_work;

pub(in crate::service) use attempt::Attempt;
pub use chain::AuditChain;
pub use refusal_writer::RefusalWriter;
pub(in crate::service) use sessions::{OpenTenant, TenantSessions, reached};
pub(in crate::service) use unit_of_work::UnitOfWork;
