//! Files and directories that only the server's own user can read, since they contain secrets.

use std::fs::{self, DirBuilder, File, OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use super::ServerError;

const PRIVATE: u32 = 0o600;
const OF_OTHERS: u32 = 0o007;
/// The suffixes of the files beside a SQLite file: the write-ahead log, its index, and Keyward's
/// lock.
const SUFFIXES: [&str; 3] = ["-wal", "-shm", ".lock"];

/// Creates a directory that no other user can read. Does not change an existing one.
pub(super) fn create_directory(path: &Path) -> Result<(), ServerError> {
    if path.as_os_str().is_empty() {
        return Ok(());
    }
    let made = DirBuilder::new().recursive(true).mode(0o700).create(path);
    made.map_err(|error| ServerError::Directory { path: path.display().to_string(), error })
}

/// Logs a warning if other users can read a directory.
pub(super) fn warn_if_readable(path: &Path) {
    let Ok(metadata) = fs::metadata(path) else {
        return;
    };
    let mode = metadata.permissions().mode() & 0o777;
    if mode & 0o077 != 0 {
        tracing::warn!(
            folder = %path.display(),
            mode = format!("{mode:03o}"),
            "other users can read the data directory; run chmod 700"
        );
    }
}

/// Creates a SQLite file that no other user can read. SQLite gives the files beside it the same
/// mode. Removes the permissions of others from an existing file, which older versions created with
/// them. Keeps the permissions of the group, since backups may need them.
pub(super) fn prepare_database(file: &Path) {
    // If this fails, opening the database fails too, and that error has the reason.
    open(file, OpenOptions::new().write(true).create_new(true)).ok();
    let companion = |suffix: &str| {
        let mut path = file.as_os_str().to_owned();
        path.push(suffix);
        PathBuf::from(path)
    };
    for path in [file.to_owned()].into_iter().chain(SUFFIXES.map(companion)) {
        remove_permissions_of_others(&path);
    }
}

fn remove_permissions_of_others(path: &Path) {
    let Ok(metadata) = fs::metadata(path) else {
        return;
    };
    let mode = metadata.permissions().mode() & 0o777;
    if mode & OF_OTHERS == 0 {
        return;
    }
    let file = path.display();
    match fs::set_permissions(path, Permissions::from_mode(mode & !OF_OTHERS)) {
        Ok(()) => {
            tracing::warn!(%file, "removed the permissions of other users from a database file");
        }
        Err(error) => {
            tracing::warn!(%file, %error, "other users can read a database file; run chmod 600");
        }
    }
}

/// Opens a file, or creates it with mode 600.
pub(super) fn open(path: &Path, options: &mut OpenOptions) -> io::Result<File> {
    options.mode(PRIVATE).open(path)
}

/// Writes a file with mode 600 atomically. Replaces an existing one.
pub fn write_private(path: &Path, text: &str) -> io::Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    let mut beside = tempfile::Builder::new()
        .prefix(".keyward.")
        .permissions(Permissions::from_mode(PRIVATE))
        .tempfile_in(folder.unwrap_or(Path::new(".")))?;
    beside.write_all(text.as_bytes())?;
    beside.as_file().sync_all()?;
    beside.persist(path).map(drop).map_err(|failed| failed.error)
}
