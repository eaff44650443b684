//! Restores a backup. Everything happens on a copy beside the database, which then takes its place:
//! a failed restore leaves everything as it was.

use std::fs::{self, File, TryLockError};
use std::io::{self, ErrorKind, Read};
use std::path::{Path, PathBuf};

use jiff::Timestamp;

use super::manifest::Manifest;
use super::{create, folder_of, private_folder, sqlite_file, sync_folder};
use crate::config::{Config, DatabaseConfig};
use crate::server::declaration::{Accepted, declare};
use crate::server::{ServerError, cause, files, open_store, replicas};
use crate::store::{Database, Store, newest_schema, snapshot_contents};

/// A backup to restore.
#[derive(Clone, Debug)]
pub struct Restore {
    pub file: PathBuf,
    /// Whether to replace an existing database, which is kept under another name.
    pub force: bool,
    /// Whether only to try it.
    pub dry_run: bool,
}

/// The result of a restore.
#[derive(Clone, Debug)]
pub struct Restored {
    pub manifest: Manifest,
    /// The restored database.
    pub database: PathBuf,
    /// The database that was replaced, under its new name.
    pub kept: Option<PathBuf>,
    /// What made revocations and tokens from after the backup harmless.
    pub accepted: Accepted,
}

impl Restore {
    /// Restores the backup. With [`Self::dry_run`] it does everything on a copy, and deletes it.
    pub async fn run(&self, config: &Config) -> Result<Restored, ServerError> {
        let database = sqlite_file(
            config,
            "restore it with pg_restore, and run `keyward revocations accept` afterwards",
        )?;
        let (manifest, backup) = Manifest::read(&self.file)?;
        if manifest.schema > newest_schema() {
            return Err(refused(format!(
                "the backup {} has schema version {}, and this keyward knows versions up to {}: \
                 use keyward {} or newer",
                self.file.display(),
                manifest.schema,
                newest_schema(),
                manifest.version
            )));
        }
        let kept = self.kept(database)?;
        let folder = folder_of(database);
        if !self.dry_run {
            files::create_directory(folder)?;
        }
        let _lock = self.lock(database)?;

        let failed = |error: io::Error| failed(database, &error);
        let beside = private_folder(nearest(folder)).map_err(failed)?;
        let copy = beside.path().join("keyward.db");
        let mut file = create(&copy).map_err(failed)?;
        io::copy(&mut backup.take(manifest.bytes), &mut file).map_err(failed)?;
        file.sync_all().map_err(failed)?;
        let accepted = prepare(config, &copy).await?;
        if self.dry_run {
            return Ok(Restored { manifest, database: database.to_owned(), kept, accepted });
        }
        if let Some(kept) = &kept {
            keep(database, kept).map_err(failed)?;
        }
        fs::rename(&copy, database).map_err(failed)?;
        sync_folder(database).map_err(failed)?;
        Ok(Restored { manifest, database: database.to_owned(), kept, accepted })
    }

    /// The new name of the existing database, if there is one. Refuses if that is not permitted.
    fn kept(&self, database: &Path) -> Result<Option<PathBuf>, ServerError> {
        if !database.exists() {
            return Ok(None);
        }
        let kept = beside(database, ".before");
        if !self.force {
            return Err(refused(format!(
                "there is a database {}: --force replaces it, and keeps it as {}",
                database.display(),
                kept.display()
            )));
        }
        if kept.exists() {
            return Err(refused(format!(
                "{} exists, from an earlier restore: move it away first",
                kept.display()
            )));
        }
        Ok(Some(kept))
    }

    /// Keeps servers from using the database until the restore has ended.
    fn lock(&self, database: &Path) -> Result<Option<File>, ServerError> {
        let running = || {
            refused(format!(
                "a keyward server uses {}: stop it, and restore again",
                database.display()
            ))
        };
        if self.dry_run {
            // Creates nothing. If there is no lock file, no server runs.
            return match File::open(beside(database, ".lock")) {
                Ok(file) => match file.try_lock() {
                    Ok(()) => Ok(Some(file)),
                    Err(TryLockError::WouldBlock) => Err(running()),
                    Err(TryLockError::Error(error)) => Err(failed(database, &error)),
                },
                Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
                Err(error) => Err(failed(database, &error)),
            };
        }
        match replicas::lock_database(database) {
            Ok(file) => Ok(Some(file)),
            Err(ServerError::Shared { .. }) => Err(running()),
            Err(error) => Err(error),
        }
    }
}

/// Checks and migrates the copy, and declares it as valid: a new list of revocations, and epochs
/// and revisions that were never used.
async fn prepare(config: &Config, copy: &Path) -> Result<Accepted, ServerError> {
    snapshot_contents(copy).await.map_err(|error| refused(cause(error)))?;
    let url = Database::Sqlite(copy.to_owned());
    let database = DatabaseConfig { url, ..config.database.clone() };
    let config = Config { database, ..config.clone() };
    let store = open_store(&config).await?;
    forget_servers(&store).await.map_err(|error| refused(cause(error)))?;
    let accepted = declare(&config, &store, false).await;
    // Closing the last connection moves the write-ahead log into the file.
    store.close().await;
    let accepted = accepted?;
    let log = beside(copy, "-wal");
    if fs::metadata(&log).is_ok_and(|log| log.len() > 0) {
        return Err(ServerError::Internal(format!("{} was not written back", log.display())));
    }
    File::open(copy).and_then(|file| file.sync_all()).map_err(|error| failed(copy, &error))?;
    Ok(accepted)
}

/// Removes the announcements of servers that ran when the backup was made.
async fn forget_servers(store: &Store) -> crate::error::Result<()> {
    let mut tx = store.begin().await?;
    tx.delete_server_keys_before(Timestamp::MAX).await?;
    tx.commit().await
}

/// Gives the existing database another name, with its write-ahead log, which a killed server
/// leaves. Both names exist until the new database takes the old one.
fn keep(database: &Path, kept: &Path) -> io::Result<()> {
    let (log, index) = (beside(database, "-wal"), beside(database, "-shm"));
    if log.exists() {
        fs::hard_link(&log, beside(kept, "-wal"))?;
    }
    fs::hard_link(database, kept)?;
    sync_folder(database)?;
    // SQLite would apply the old log to the new database.
    for old in [log, index] {
        match fs::remove_file(old) {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    sync_folder(database)
}

fn beside(file: &Path, suffix: &str) -> PathBuf {
    let mut path = file.as_os_str().to_owned();
    path.push(suffix);
    PathBuf::from(path)
}

/// The folder, or the nearest one above it that exists.
fn nearest(folder: &Path) -> &Path {
    let found = folder.ancestors().find(|folder| folder.is_dir());
    found.unwrap_or(Path::new("."))
}

fn refused(why: String) -> ServerError {
    ServerError::Backup(why)
}

fn failed(database: &Path, error: &io::Error) -> ServerError {
    ServerError::Backup(format!(
        "{} cannot be restored: {error}; nothing was changed",
        database.display()
    ))
}
