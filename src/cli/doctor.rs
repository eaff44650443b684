//! `keyward doctor`

use clap::Args;
use serde_json::json;
use tonic::Code;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;

use super::client::connect;
use super::output::{Column, Output, Tabular, listed};
use super::servers::SavedTls;
use super::tls::{ConnectionSecurity, TlsFlags};
use super::{Failure, ServerOptions};
use crate::server::{Finding, Level, examine};

/// Check the settings, this machine, the database and Redis, and say what to do
///
/// Run it where the server runs, with the same settings; the server can be running. It changes
/// nothing. Each check is ok, a warning (something is or will be wrong) or an error (the server does
/// not start, or does not do what it promises).
///
/// Exit codes: 0 no warning; 6 warnings (0 with --allow-warnings); 1 errors; 2 wrong settings.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  keyward doctor --config /etc/keyward.toml
  keyward doctor --allow-warnings -o json
  keyward doctor --server http://127.0.0.1:50051")]
pub(super) struct Doctor {
    /// Exit with 0 if there are warnings, but no errors
    #[arg(long)]
    allow_warnings: bool,
    /// Also ask this running server (its gRPC address) whether it is ready
    #[arg(long, value_name = "URL")]
    server: Option<String>,
    #[command(flatten)]
    tls: TlsFlags,
    #[command(flatten)]
    options: ServerOptions,
    #[command(flatten)]
    output: Output,
}

impl Tabular for Finding {
    const COLUMNS: &'static [Column<Self>] = &[
        listed(1, "level", |finding| json!(finding.level.as_str())),
        listed(2, "check", |finding| json!(finding.check)),
        listed(3, "found", |finding| json!(finding.found)),
        listed(4, "advice", |finding| json!(finding.advice)),
    ];
}

impl Doctor {
    pub(super) async fn run(self) -> Result<(), Failure> {
        let config = self.options.read()?;
        let mut findings = examine(&config).await;
        if let Some(server) = &self.server {
            let security = self.tls.with_saved(SavedTls::default())?;
            findings.push(readiness(server, &security).await);
        }
        // The worst ones first.
        findings.sort_by_key(|finding| std::cmp::Reverse(finding.level));
        self.output.many(&findings)?;
        let count = |level| findings.iter().filter(|finding| finding.level == level).count();
        let (errors, warnings) = (count(Level::Error), count(Level::Warning));
        if errors > 0 {
            return Err(Failure::new(format!(
                "{}, {}",
                counted(errors, "error"),
                counted(warnings, "warning")
            )));
        }
        if warnings > 0 && !self.allow_warnings {
            return Err(Failure::warnings(counted(warnings, "warning")));
        }
        Ok(())
    }
}

fn counted(count: usize, what: &str) -> String {
    format!("{count} {what}{}", if count == 1 { "" } else { "s" })
}

/// Asks a running server for its health.
async fn readiness(server: &str, security: &ConnectionSecurity) -> Finding {
    const CHECK: &str = "server";
    let asked = async {
        let mut health = HealthClient::new(connect(server, security).await?);
        let answer = health.check(HealthCheckRequest::default()).await;
        Ok::<_, Failure>(answer.map(|answer| answer.into_inner().status()))
    };
    let not_ready = |found: String| {
        Finding::error(CHECK, found, "its /readyz on ops.listen says which dependency is away")
    };
    match asked.await {
        Ok(Ok(ServingStatus::Serving)) => Finding::ok(CHECK, format!("{server} is ready")),
        Ok(Ok(_)) => not_ready(format!("{server} is not ready")),
        Ok(Err(status)) if status.code() == Code::Unavailable => {
            not_ready(format!("{server} is not ready: {}", status.message()))
        }
        Ok(Err(status)) => not_ready(format!("{server}: {}", status.message())),
        Err(failure) => {
            let (_, why) = failure.into_parts();
            Finding::error(CHECK, why, "start the server, or correct --server")
        }
    }
}
