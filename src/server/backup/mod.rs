//! Backups of a SQLite database: made while a server runs, and restored while none does.

mod manifest;
mod restore;

use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, Seek, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use super::{ServerError, cause, files};
use crate::clock::Clock;
use crate::config::Config;
use crate::store::{Database, copy_database, snapshot_contents, snapshot_master_keys};

pub use manifest::Manifest;
pub use restore::{Restore, Restored};

/// A backup to make.
#[derive(Clone, Debug)]
pub struct Backup {
    /// The file to write.
    pub file: PathBuf,
    /// Whether to replace an existing file.
    pub force: bool,
}

impl Backup {
    /// Makes the backup. The file appears only when it is complete and durable.
    pub async fn make(&self, config: &Config) -> Result<Manifest, ServerError> {
        let database = sqlite_file(config, "back it up with pg_dump or by archiving its log")?;
        if !database.exists() {
            return Err(ServerError::Backup(format!(
                "there is no database {}: check data_dir and database.url",
                database.display()
            )));
        }
        if !self.force && self.file.exists() {
            return Err(ServerError::Backup(format!(
                "{} exists: choose another name, or replace it with --force",
                self.file.display()
            )));
        }
        let failed = |error: io::Error| self.failed(&error);
        let folder = private_folder(folder_of(&self.file)).map_err(failed)?;
        let copy = folder.path().join("keyward.db");
        create(&copy).map_err(failed)?;
        copy_database(database, &copy).await.map_err(|error| self.failed(&cause(error)))?;
        let contents =
            snapshot_contents(&copy).await.map_err(|error| self.failed(&cause(error)))?;
        let master_keys =
            snapshot_master_keys(&copy).await.map_err(|error| self.failed(&cause(error)))?;
        let mut file = OpenOptions::new().read(true).append(true).open(&copy).map_err(failed)?;
        file.rewind().map_err(failed)?;
        let manifest = Manifest {
            keyward_backup: Manifest::FORMAT,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            created_at: Clock::system().now().to_string(),
            schema: contents.schema,
            list: contents.list,
            last_revocation: contents.last_revocation,
            master_key: contents.master_key,
            master_keys,
            bytes: file.metadata().map_err(failed)?.len(),
            sha256: manifest::sha256(&mut file).map_err(failed)?,
        };
        file.write_all(manifest.line()?.as_bytes()).map_err(failed)?;
        file.sync_all().map_err(failed)?;
        fs::rename(&copy, &self.file).map_err(failed)?;
        sync_folder(&self.file).map_err(failed)?;
        Ok(manifest)
    }

    fn failed(&self, why: &dyn std::fmt::Display) -> ServerError {
        ServerError::Backup(format!(
            "the backup {} cannot be written: {why}; nothing was left behind",
            self.file.display()
        ))
    }
}

/// The configured SQLite file.
fn sqlite_file<'a>(config: &'a Config, otherwise: &str) -> Result<&'a Path, ServerError> {
    match &config.database.url {
        Database::Sqlite(file) => Ok(file),
        Database::Postgres(_) => Err(ServerError::Backup(format!(
            "this command is for SQLite, and {} is PostgreSQL: {otherwise} (deploy/README.md, \
             \"Backup and restore\")",
            config.database.url
        ))),
    }
}

/// The folder of a file.
fn folder_of(file: &Path) -> &Path {
    let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty());
    folder.unwrap_or(Path::new("."))
}

/// A folder for what is not complete yet. It is deleted with everything in it.
fn private_folder(parent: &Path) -> io::Result<tempfile::TempDir> {
    tempfile::Builder::new()
        .prefix(".keyward.")
        .permissions(Permissions::from_mode(0o700))
        .tempdir_in(parent)
}

/// Creates an empty file with mode 600.
fn create(path: &Path) -> io::Result<File> {
    files::open(path, OpenOptions::new().write(true).create_new(true))
}

/// Makes a new name in a folder durable.
fn sync_folder(file: &Path) -> io::Result<()> {
    File::open(folder_of(file))?.sync_all()
}
