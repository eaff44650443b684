//! `keyward audit export`

use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader, BufWriter, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use clap::Args;

use super::follow::follow;
use super::lines::{ExportLine, event_line, invalid, place_line, place_of, start_line};
use crate::cli::print::note;
use crate::cli::{Failure, ServerConnection, names};
use crate::domain::{AuditCursor, ChainHash, Fault, PlaceKind};
use crate::proto::admin::WatchAuditEventsResponse;

/// After how many events the progress is shown.
const PROGRESS: u64 = 10_000;

/// Export events with their hashes and the signed head, as JSON lines
///
/// The lines are {"event":…,"hash":…}, and as the last one {"head":…}. If old events were deleted, the
/// first line is {"checkpoint":…}. An existing file is continued after its last whole line. Check a
/// file with `keyward audit verify --file`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  keyward audit export acme --file acme.jsonl
  keyward audit export acme --from 1200 > new.jsonl")]
pub(super) struct Export {
    /// The tenant: acme
    tenant: String,
    /// Begin after this event: its number, or a cursor from `WatchAuditEvents` [default: after the
    /// last event in the file, or with the oldest event]
    #[arg(long, value_name = "CURSOR", value_parser = cursor)]
    from: Option<AuditCursor>,
    /// The file to write or to continue [default: standard output]
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,
}

impl Export {
    pub(super) async fn run(self, connection: &ServerConnection) -> Result<(), Failure> {
        let parent = names::tenant(&self.tenant);
        let (out, found): (Box<dyn Write>, _) = match &self.file {
            Some(path) => {
                let (file, found) = open(path, &parent)?;
                (Box::new(BufWriter::new(file)), found)
            }
            None => (Box::new(std::io::stdout().lock()), None),
        };
        if found.is_some() && self.from.is_some() {
            return Err(Failure::usage(
                "--from: the file has events already, and is continued after the last of them; \
                 leave out --from, or choose another file",
            ));
        }
        let is_new = found.is_none();
        let cursor = found.or(self.from).map(|cursor| cursor.to_string()).unwrap_or_default();
        let tenant = names::short(&parent);
        let mut sink = Sink { out, tenant, is_new, events: 0, shown: 0, last: 0 };
        follow(connection, &parent, cursor, |message| sink.write(&message)).await?;
        let Sink { tenant, events, last, .. } = sink;
        note(&format!("{tenant}: {events} events exported, up to event {last}"));
        Ok(())
    }
}

fn cursor(text: &str) -> Result<AuditCursor, String> {
    text.parse().map_err(|fault: Fault| fault.0)
}

/// Writes the lines of messages.
struct Sink {
    out: Box<dyn Write>,
    tenant: String,
    is_new: bool,
    events: u64,
    shown: u64,
    last: i64,
}

impl Sink {
    fn write(&mut self, message: &WatchAuditEventsResponse) -> Result<(), Failure> {
        let mut text = String::new();
        if let Some(start) = &message.start {
            self.last = start.number;
            if self.is_new && start.number > 0 {
                let checkpoint = start.checkpoint.as_ref();
                let checkpoint = checkpoint.filter(|place| place.number == start.number);
                text += &if let Some(place) = checkpoint {
                    place_line(&place_of(PlaceKind::Checkpoint, place)?)?
                } else {
                    let hash = ChainHash::from_bytes(&start.hash).ok_or_else(invalid)?;
                    start_line(&self.tenant, start.number, hash)?
                };
            }
            self.is_new = false;
        }
        for record in &message.records {
            text += &event_line(&record.record, ChainHash::from_bytes(&record.hash));
            self.events += 1;
        }
        if let Some(head) = &message.head {
            text += &place_line(&place_of(PlaceKind::Head, head)?)?;
            self.last = head.number;
        }
        let written = self.out.write_all(text.as_bytes()).and_then(|()| self.out.flush());
        written.map_err(|error| Failure::new(format!("the export cannot be written: {error}")))?;
        if self.events - self.shown >= PROGRESS {
            self.shown = self.events;
            note(&format!("{} events exported", self.events));
        }
        Ok(())
    }
}

/// Opens a file to append to, and finds its last event. Cuts off a line that was not written whole.
fn open(path: &Path, parent: &str) -> Result<(File, Option<AuditCursor>), Failure> {
    let failed =
        |what: &dyn std::fmt::Display| Failure::new(format!("--file {}: {what}", path.display()));
    let mut file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        // The log has names of users and addresses.
        .mode(0o600)
        .open(path)
        .map_err(|error| failed(&error))?;
    file.try_lock().map_err(|_| failed(&"another export is writing to it"))?;
    let mut reader = BufReader::new(&file);
    let (mut whole, mut number, mut last) = (0_u64, 0_u64, None);
    let mut line = Vec::new();
    loop {
        line.clear();
        let read = reader.read_until(b'\n', &mut line).map_err(|error| failed(&error))?;
        let Some(text) = line.strip_suffix(b"\n") else { break };
        number += 1;
        let text = std::str::from_utf8(text).map_err(|error| error.to_string());
        let parsed = text.and_then(ExportLine::parse);
        let parsed = parsed.map_err(|what| {
            failed(&format!("line {number} is not of an export, and was left as it is: {what}"))
        })?;
        let (tenant, cursor) = match parsed {
            ExportLine::Start { tenant, number, hash } => {
                (tenant, AuditCursor { number, hash: Some(hash) })
            }
            ExportLine::Signed(place) => {
                (place.tenant, AuditCursor { number: place.number, hash: Some(place.hash) })
            }
            ExportLine::Event { tenant, record } => {
                (tenant, AuditCursor { number: record.number, hash: record.hash })
            }
        };
        if tenant.name() != parent {
            return Err(failed(&format!("line {number} is of {}", tenant.name())));
        }
        last = Some(cursor);
        whole += u64::try_from(read).unwrap_or_default();
    }
    drop(reader);
    file.set_len(whole).map_err(|error| failed(&error))?;
    file.seek(SeekFrom::End(0)).map_err(|error| failed(&error))?;
    Ok((file, last))
}
