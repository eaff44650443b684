//! Files and folders that only the server's own user can read: what is in them is all that the
//! service knows.

use std::fs::{self, DirBuilder, File, OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use super::StartError;

const PRIVATE: u32 = 0o600;
const OF_OTHERS: u32 = 0o007;
/// Beside a SQLite file: its write-ahead log, the log's index, and our lock.
const COMPANIONS: [&str; 3] = ["-wal", "-shm", ".lock"];

/// Makes a folder that no other user can look into; one that is there stays as it is.
pub(super) fn make_folder(path: &Path) -> Result<(), StartError> {
    if path.as_os_str().is_empty() {
        return Ok(());
    }
    let made = DirBuilder::new().recursive(true).mode(0o700).create(path);
    made.map_err(|error| StartError::Folder { path: path.display().to_string(), error })
}

/// Says that a folder can be looked into by others, if it can.
pub(super) fn warn_of_folder(path: &Path) {
    let Ok(metadata) = fs::metadata(path) else {
        return;
    };
    let mode = metadata.permissions().mode() & 0o777;
    if mode & 0o077 != 0 {
        tracing::warn!(
            folder = %path.display(),
            mode = format!("{mode:03o}"),
            "the data folder can be looked into by others: chmod 700"
        );
    }
}

/// Makes a SQLite file that no other user can read: SQLite gives its companions the same mode.
/// One that others can read, as older versions made it, is closed to them. What its group may do
/// stays as it is: backups may rest on it.
pub(super) fn prepare_database(file: &Path) {
    // What cannot be made here, SQLite cannot make either, and says why.
    open(file, OpenOptions::new().write(true).create_new(true)).ok();
    let companion = |suffix: &str| {
        let mut path = file.as_os_str().to_owned();
        path.push(suffix);
        PathBuf::from(path)
    };
    for path in [file.to_owned()].into_iter().chain(COMPANIONS.map(companion)) {
        close_to_others(&path);
    }
}

fn close_to_others(path: &Path) {
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
            tracing::warn!(%file, "a file of the database was readable by others; now it is not");
        }
        Err(error) => {
            tracing::warn!(%file, %error, "a file of the database is readable by others: chmod 600");
        }
    }
}

/// Opens a file; one that is made is private.
pub(super) fn open(path: &Path, options: &mut OpenOptions) -> io::Result<File> {
    options.mode(PRIVATE).open(path)
}

/// Writes a private file, whole or not at all, in place of one that may be there.
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
