//! `keyward backup` and `keyward restore`

use std::path::PathBuf;

use clap::Args;
use serde_json::json;

use super::output::{Column, Output, Tabular, listed, member};
use super::{Failure, ServerOptions, revocation::note_redis_trouble};
use crate::server::{self, Restored};

/// Back up the SQLite database to a file, while the server runs
///
/// The file is one consistent state of the database, with a checksum. It appears when it is complete
/// and on disk (mode 0600). It does not have the master key, without which it is useless: keep that
/// apart from it. Run it where the server runs, with the same settings. For PostgreSQL use its own
/// tools; deploy/README.md describes the procedure.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  keyward backup /backups/keyward-$(date +%F).db
  keyward backup --data-dir /var/lib/keyward /backups/latest.db --force")]
pub(super) struct BackupCommand {
    /// The file to write
    file: PathBuf,
    /// Replace an existing file
    #[arg(long)]
    force: bool,
    #[command(flatten)]
    options: ServerOptions,
    #[command(flatten)]
    output: Output,
}

/// Restore the SQLite database from a backup, while no server runs
///
/// Checks the file, its schema and the master key first. Then nothing from after the backup is valid
/// again: older access tokens are refused, and applications get new ones with their credentials;
/// verifiers and other readers of revocations start over; epochs and etags continue with values that
/// were never used; revocations that Redis knows are put back. Changes after the backup are lost: an
/// API key that was deleted since then exists again, and must be deleted again.
///
/// An existing database is replaced only with --force, and kept as keyward.db.before. A restore that
/// fails leaves everything as it was.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  keyward restore /backups/latest.db --dry-run
  keyward restore /backups/latest.db --data-dir /var/lib/keyward --force")]
pub(super) struct RestoreCommand {
    /// A file that `keyward backup` wrote
    file: PathBuf,
    /// Replace an existing database, and keep it as keyward.db.before
    #[arg(long)]
    force: bool,
    /// Only check whether the restore would succeed
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    options: ServerOptions,
    #[command(flatten)]
    output: Output,
}

/// The result of a backup.
struct BackupReport {
    file: PathBuf,
    manifest: server::Manifest,
}

impl Tabular for BackupReport {
    const COLUMNS: &'static [Column<Self>] = &[
        listed(1, "file", |report| json!(report.file.display().to_string())),
        listed(2, "created_at", |report| json!(report.manifest.created_at)),
        listed(3, "version", |report| json!(report.manifest.version)),
        listed(4, "schema", |report| json!(report.manifest.schema)),
        listed(5, "list", |report| json!(report.manifest.list)),
        listed(6, "last_revocation", |report| json!(report.manifest.last_revocation)),
        listed(7, "master_key", |report| json!(report.manifest.master_key)),
        member("master_keys", |report| json!(report.manifest.master_keys)),
        listed(8, "bytes", |report| json!(report.manifest.bytes)),
        listed(9, "sha256", |report| json!(report.manifest.sha256)),
    ];
}

impl Tabular for Restored {
    const COLUMNS: &'static [Column<Self>] = &[
        listed(1, "database", |report| json!(report.database.display().to_string())),
        listed(2, "backup_created_at", |report| json!(report.manifest.created_at)),
        listed(3, "list_before", |report| json!(report.accepted.declared.before)),
        listed(4, "revocations_before", |report| json!(report.accepted.declared.revocations)),
        listed(5, "list", |report| json!(report.accepted.declared.after)),
        listed(6, "revocations_put_back", |report| json!(report.accepted.declared.put_back)),
        listed(7, "tenants_revoked", |report| json!(report.accepted.declared.tenants)),
        listed(8, "kept", |report| {
            json!(report.kept.as_ref().map(|path| path.display().to_string()))
        }),
    ];
}

impl BackupCommand {
    pub(super) async fn run(self) -> Result<(), Failure> {
        let config = self.options.read()?;
        let backup = server::Backup { file: self.file.clone(), force: self.force };
        let manifest = Box::pin(backup.make(&config)).await?;
        self.output.one(&BackupReport { file: self.file, manifest })?;
        self.output.done("the master key is not in this file: keep a copy of it elsewhere");
        Ok(())
    }
}

impl RestoreCommand {
    pub(super) async fn run(self) -> Result<(), Failure> {
        let config = self.options.read()?;
        let Self { file, force, dry_run, output, .. } = self;
        let restored = Box::pin(server::Restore { file, force, dry_run }.run(&config)).await?;
        restored.accepted.redis_trouble.as_deref().into_iter().for_each(note_redis_trouble);
        output.one(&restored)?;
        output.done(if dry_run {
            "this was a dry run: the backup can be restored, and nothing was changed"
        } else {
            "start the server; older access tokens are refused, and applications get new ones"
        });
        Ok(())
    }
}
