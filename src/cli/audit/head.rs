//! `keyward audit head`

use clap::Args;

use super::lines::{place_line, place_of};
use super::verify::logs;
use crate::cli::print::{note, print};
use crate::cli::{Failure, ServerConnection};
use crate::domain::PlaceKind;

/// Print the signed heads of audit logs, as JSON lines
///
/// Keep them outside of Keyward: with them, `keyward audit verify --head` detects that a log was
/// shortened, written again, or set back. Without a tenant, prints those of all tenants; that needs
/// the scope keyward.admin. A line also has the public key.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  keyward audit head acme
  keyward audit head > heads-$(date +%F).jsonl")]
pub(super) struct Head {
    /// The tenants: acme [default: all]
    tenants: Vec<String>,
}

impl Head {
    pub(super) async fn run(self, connection: &ServerConnection) -> Result<(), Failure> {
        for log in logs(connection, &self.tenants).await? {
            match &log.head {
                Some(head) => {
                    print(place_line(&place_of(PlaceKind::Head, head)?)?.as_bytes());
                }
                None => note(&format!("{}: no event is in the chain yet", log.name)),
            }
        }
        Ok(())
    }
}
