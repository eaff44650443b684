//! `keyward audit verify`

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};

use clap::Args;
use serde_json::json;

use super::file::verify_file;
use super::follow::follow;
use super::lines::{self, ExportLine, invalid, place_of};
use crate::cli::client::{Authorized, Limit, all_pages};
use crate::cli::output::{Column, Tabular, listed};
use crate::cli::print::note;
use crate::cli::{Failure, ServerConnection, names};
use crate::domain::audit_check::identity;
use crate::domain::{ChainCheck, ChainFault, ChainHash, ChainedRecord, PlaceKind, SignedPlace};
use crate::keys::audit::is_signed;
use crate::proto::admin as pb;
use crate::proto::admin::audit_service_client::AuditServiceClient;

/// After how many events the progress is shown.
const PROGRESS: u64 = 100_000;

/// Verify that no event was changed, deleted or reordered
///
/// Reads the events and recomputes every hash, up to the signed head. Names the first event that does
/// not fit. Without a tenant, verifies the logs of all tenants; that needs the scope keyward.admin.
///
/// A log alone does not show that its newest events and its head were replaced by older ones. Keep
/// heads outside of Keyward (`keyward audit head`, or the last line of an export), and pass them with
/// --head. Their public keys are then the trusted ones, unless --key names others.
#[derive(Debug, Args)]
#[command(after_help = "\
Exit codes: 0 verified; 10 an event was changed; 11 events are missing; 12 events are in another
order; 13 the newest events are missing; 14 the whole log is gone; 15 the log was set back to an older
state; 16 the log was written again; 17 a signature is wrong or of an unknown key. With several logs,
the code of the first one that does not verify. 1 to 5 as for all commands.

Examples:
  keyward audit verify acme
  keyward audit verify --head heads-2027-01-31.jsonl
  keyward audit verify --file acme.jsonl --key PUBLIC_KEY")]
pub(super) struct VerifyAudit {
    /// The tenants: acme [default: all]
    tenants: Vec<String>,
    /// A file with heads that were kept outside of Keyward, or an earlier export
    #[arg(long, value_name = "FILE")]
    head: Option<PathBuf>,
    /// Verify this export. Does not need the server
    #[arg(long, value_name = "FILE", conflicts_with = "tenants")]
    file: Option<PathBuf>,
    /// A public key that may sign heads, as `keyward audit head` prints it [default: those in --head,
    /// or else any]
    #[arg(long, value_name = "KEY", value_parser = lines::key)]
    key: Vec<Vec<u8>>,
}

/// What is expected of logs.
pub(super) struct Trust {
    pub(super) keys: BTreeSet<Vec<u8>>,
    /// Heads from outside, by tenant.
    pub(super) heads: BTreeMap<String, Vec<SignedPlace>>,
}

/// The result for one log.
#[derive(Debug)]
struct VerifiedLog {
    tenant: String,
    result: &'static str,
    events: u64,
    last: i64,
    message: String,
}

impl Tabular for VerifiedLog {
    const COLUMNS: &'static [Column<Self>] = &[
        listed(1, "tenant", |log| json!(log.tenant)),
        listed(1, "result", |log| json!(log.result)),
        listed(3, "events", |log| json!(log.events)),
        listed(4, "last", |log| json!(log.last)),
        listed(2, "message", |log| json!(log.message)),
    ];
}

/// The exit code and the reason of a fault.
fn code(fault: &ChainFault) -> (u8, &'static str) {
    match fault {
        ChainFault::Changed(_) | ChainFault::HashChanged(_) => (10, "AUDIT_EVENT_CHANGED"),
        ChainFault::Missing(..) => (11, "AUDIT_EVENT_MISSING"),
        ChainFault::Reordered { .. } => (12, "AUDIT_EVENT_REORDERED"),
        ChainFault::TailMissing { .. } => (13, "AUDIT_TAIL_MISSING"),
        ChainFault::Gone { .. } => (14, "AUDIT_LOG_GONE"),
        ChainFault::RolledBack { .. } => (15, "AUDIT_LOG_ROLLED_BACK"),
        ChainFault::Rewritten { .. } => (16, "AUDIT_LOG_REWRITTEN"),
        ChainFault::Signature { .. } => (17, "AUDIT_SIGNATURE_WRONG"),
    }
}

/// Why a log was not verified.
pub(super) enum VerificationStop {
    Fault(ChainFault),
    Failure(Failure),
}

impl From<ChainFault> for VerificationStop {
    fn from(fault: ChainFault) -> Self {
        Self::Fault(fault)
    }
}

impl From<Failure> for VerificationStop {
    fn from(failure: Failure) -> Self {
        Self::Failure(failure)
    }
}

impl VerifyAudit {
    pub(super) async fn run(self, connection: &ServerConnection) -> Result<(), Failure> {
        let trust = Trust::new(self.head.as_deref(), self.key)?;
        if let Some(file) = &self.file {
            let (tenant, checked) = verify_file(file, &trust)?;
            return report(connection, vec![(tenant, checked)]);
        }
        let mut results = Vec::new();
        let mut left = trust.heads.clone();
        for log in logs(connection, &self.tenants).await? {
            let tenant = names::short(log.name.trim_end_matches("/auditLog"));
            left.remove(&tenant);
            let checked = match verify_log(connection, &tenant, &log, &trust).await {
                Ok(check) => Ok(check),
                Err(VerificationStop::Fault(fault)) => Err(fault),
                Err(VerificationStop::Failure(failure)) => return Err(failure),
            };
            results.push((tenant, checked));
        }
        if self.tenants.is_empty() {
            // The server knows nothing of these tenants.
            for (tenant, heads) in left {
                let head = heads.iter().map(|head| head.number).max().unwrap_or_default();
                results.push((tenant, Err(ChainFault::Gone { head })));
            }
        }
        report(connection, results)
    }
}

/// Prints the results. Fails with the code of the first fault.
fn report(
    connection: &ServerConnection,
    results: Vec<(String, Result<ChainCheck, ChainFault>)>,
) -> Result<(), Failure> {
    let all = results.len();
    let mut failed = Vec::new();
    let logs: Vec<_> = results
        .into_iter()
        .map(|(tenant, checked)| match checked {
            Ok(check) => VerifiedLog {
                tenant,
                result: "verified",
                events: check.records(),
                last: check.last(),
                message: String::new(),
            },
            Err(fault) => {
                let (code, reason) = code(&fault);
                failed.push((code, reason, format!("{tenant}: {fault}")));
                let message = fault.to_string();
                VerifiedLog { tenant, result: reason, events: 0, last: 0, message }
            }
        })
        .collect();
    connection.output.many(&logs)?;
    match failed.first() {
        None => Ok(()),
        Some((code, reason, message)) if failed.len() == 1 => {
            Err(Failure::audit(*code, reason, message))
        }
        Some((code, reason, message)) => {
            let count = failed.len();
            let message = format!("{count} of {all} logs do not verify; the first is {message}");
            Err(Failure::audit(*code, reason, message))
        }
    }
}

/// The logs of these tenants, or of all.
pub(super) async fn logs(
    connection: &ServerConnection,
    tenants: &[String],
) -> Result<Vec<pb::AuditLog>, Failure> {
    if tenants.is_empty() {
        let work = async |channel: Authorized| {
            let pages = all_pages(Limit::NONE, async |page_size, page_token| {
                let request = pb::ListAuditLogsRequest { page_size, page_token };
                let mut client = AuditServiceClient::new(channel.clone());
                let page = client.list_audit_logs(request).await?.into_inner();
                Ok((page.logs, page.next_page_token))
            });
            Ok(pages.await?.items)
        };
        return connection.call(None, work).await;
    }
    let mut logs = Vec::with_capacity(tenants.len());
    for tenant in tenants {
        let parent = names::tenant(tenant);
        let request = pb::GetAuditLogRequest { name: format!("{parent}/auditLog") };
        let work = async |channel: Authorized| {
            let mut client = AuditServiceClient::new(channel);
            Ok(client.get_audit_log(request).await?.into_inner().log.unwrap_or_default())
        };
        logs.push(connection.call(Some(&parent), work).await?);
    }
    Ok(logs)
}

/// Verifies the log of a tenant on the server.
async fn verify_log(
    connection: &ServerConnection,
    tenant: &str,
    log: &pb::AuditLog,
    trust: &Trust,
) -> Result<ChainCheck, VerificationStop> {
    let outside = trust.heads.get(tenant).into_iter().flatten();
    let highest = outside.clone().map(|head| head.number).max();
    if log.head.is_none() && (log.last_number == 0 || highest.is_some()) {
        return Err(ChainFault::Gone { head: highest.unwrap_or_default() }.into());
    }
    let mut check = None;
    let (mut fault, mut shown) = (None, 0);
    let mut receive = |message: pb::WatchAuditEventsResponse| -> Result<(), VerificationStop> {
        if let Some(start) = &message.start
            && check.is_none()
        {
            let mut begun = begin(connection, tenant, start, trust)?;
            for head in outside.clone() {
                begun.expect(head.clone())?;
            }
            check = Some(begun);
        }
        let check = check.as_mut().ok_or_else(invalid)?;
        for record in message.records {
            let number = identity(&record.record).map_or(0, |(_, number)| number);
            let hash = ChainHash::from_bytes(&record.hash);
            check.add(ChainedRecord { number, record: record.record, hash })?;
        }
        if check.records() - shown >= PROGRESS {
            shown = check.records();
            note(&format!("{tenant}: {shown} events verified, up to event {}", check.last()));
        }
        if let Some(head) = &message.head {
            let head = trust.place(place_of(PlaceKind::Head, head)?)?;
            let number = head.number;
            check.expect(head)?;
            check.end(Some(number))?;
        }
        Ok(())
    };
    let parent = names::tenant(tenant);
    let followed = follow(connection, &parent, String::new(), |message| {
        receive(message).map_err(|stop| match stop {
            VerificationStop::Failure(failure) => failure,
            VerificationStop::Fault(found) => {
                fault = Some(found);
                Failure::new("the log does not verify")
            }
        })
    });
    let followed = followed.await;
    if let Some(fault) = fault {
        return Err(fault.into());
    }
    followed?;
    if log.head.is_none() {
        note(&format!("{tenant}: no event is in the chain yet"));
    }
    Ok(check.ok_or_else(invalid)?)
}

/// Begins where the log begins: at its first event, or after a signed checkpoint.
fn begin(
    connection: &ServerConnection,
    tenant: &str,
    start: &pb::AuditStart,
    trust: &Trust,
) -> Result<ChainCheck, VerificationStop> {
    if start.number == 0 {
        return Ok(ChainCheck::after(0, ChainHash::START));
    }
    let checkpoint = start.checkpoint.as_ref().filter(|place| place.number == start.number);
    if let Some(checkpoint) = checkpoint {
        let place = trust.place(place_of(PlaceKind::Checkpoint, checkpoint)?)?;
        note(&format!("{tenant}: events up to {} were deleted because of their age", place.number));
        return Ok(ChainCheck::after(place.number, place.hash));
    }
    if connection.as_user.is_none() {
        return Err(ChainFault::Missing(1, start.number).into());
    }
    note(&format!("{tenant}: the user sees the log from event {} on", start.number + 1));
    let hash = ChainHash::from_bytes(&start.hash).ok_or_else(invalid)?;
    Ok(ChainCheck::after(start.number, hash))
}

impl Trust {
    fn new(file: Option<&Path>, keys: Vec<Vec<u8>>) -> Result<Self, Failure> {
        let mut trust = Self { keys: keys.into_iter().collect(), heads: BTreeMap::new() };
        let Some(path) = file else { return Ok(trust) };
        let mut heads = Vec::new();
        each_line(path, "--head", |line, number| {
            // An export has the events too. Its checkpoint is no place of the log any more.
            match ExportLine::parse(line) {
                Ok(ExportLine::Signed(place)) if place.kind == PlaceKind::Head => {
                    heads.push(place);
                    Ok(())
                }
                Ok(_) => Ok(()),
                Err(what) => {
                    Err(Failure::usage(format!("--head {}: line {number}: {what}", path.display())))
                }
            }
        })?;
        if heads.is_empty() {
            return Err(Failure::usage(format!("--head {} has no head", path.display())));
        }
        if trust.keys.is_empty() {
            trust.keys = heads.iter().map(|head| head.public_key.clone()).collect();
        }
        for head in heads {
            let head = trust.place(head).map_err(|fault| {
                let (code, reason) = code(&fault);
                Failure::audit(code, reason, format!("--head {}: {fault}", path.display()))
            })?;
            trust.heads.entry(head.tenant.to_string()).or_default().push(head);
        }
        Ok(trust)
    }

    /// The place, if its signature is right and its key is trusted.
    pub(super) fn place(&self, place: SignedPlace) -> Result<SignedPlace, ChainFault> {
        let key_trusted = self.keys.is_empty() || self.keys.contains(&place.public_key);
        if key_trusted && is_signed(&place) {
            return Ok(place);
        }
        Err(ChainFault::Signature { place: Box::new(place), key_trusted })
    }
}

/// Calls `each` with the lines of a file and their numbers. A last line without a line feed was not
/// written whole, and is an error.
pub(super) fn each_line(
    path: &Path,
    flag: &str,
    mut each: impl FnMut(&str, u64) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let failed =
        |what: &dyn std::fmt::Display| Failure::usage(format!("{flag} {}: {what}", path.display()));
    let mut reader = BufReader::new(File::open(path).map_err(|error| failed(&error))?);
    let (mut line, mut number) = (String::new(), 0);
    loop {
        line.clear();
        if reader.read_line(&mut line).map_err(|error| failed(&error))? == 0 {
            return Ok(());
        }
        number += 1;
        let text = line
            .strip_suffix('\n')
            .ok_or_else(|| failed(&format!("line {number} is not whole; continue the export")))?;
        each(text, number)?;
    }
}
