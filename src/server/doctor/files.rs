//! Files with secrets, and the room on their disk.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use super::Finding;
use crate::config::{Config, MasterKeySource};
use crate::store::Database;

/// With less room, the next hours can fill the disk.
const LITTLE_ROOM: u64 = 1 << 30;
/// With less room, writes are about to fail.
const NO_ROOM: u64 = 64 << 20;

pub(super) fn findings(config: &Config) -> Vec<Finding> {
    let mut all = vec![permissions(config)];
    all.extend(first_credential(config));
    all.extend(room(config));
    all
}

fn mode(path: &Path) -> Option<u32> {
    fs::metadata(path).ok().map(|metadata| metadata.permissions().mode() & 0o777)
}

fn permissions(config: &Config) -> Finding {
    const CHECK: &str = "files";
    let mut open = Vec::new();
    let mut look = |path: &Path, forbidden: u32, correct: &str| {
        if let Some(mode) = mode(path).filter(|mode| mode & forbidden != 0) {
            open.push(format!("{} ({mode:03o}, not {correct})", path.display()));
        }
    };
    look(&config.data_dir, 0o077, "700");
    for source in [Some(&config.master_key), config.additional_master_key.as_ref()] {
        if let Some(MasterKeySource::File { path, .. }) = source {
            look(path, 0o037, "600");
        }
    }
    if let Database::Sqlite(file) = &config.database.url {
        for suffix in ["", "-wal", "-shm", ".before"] {
            let mut path = file.as_os_str().to_owned();
            path.push(suffix);
            look(Path::new(&path), 0o007, "600");
        }
    }
    if open.is_empty() {
        return Finding::ok(CHECK, "other users read no file of the server");
    }
    Finding::warning(
        CHECK,
        format!("other users can read {}", open.join(", ")),
        "use chmod, and find out who may have read them",
    )
}

fn first_credential(config: &Config) -> Option<Finding> {
    let file = config.data_dir.join("admin.env");
    file.exists().then(|| {
        Finding::warning(
            "admin_env",
            format!("{} has the first admin credential in plain text", file.display()),
            "move it to a safe place and delete the file",
        )
    })
}

/// The room on the disk of the database, or of the data folder.
fn room(config: &Config) -> Option<Finding> {
    const CHECK: &str = "disk";
    let folder = match &config.database.url {
        Database::Sqlite(file) => file.parent().filter(|folder| !folder.as_os_str().is_empty()),
        Database::Postgres(_) => Some(config.data_dir.as_path()),
    };
    let folder = folder.unwrap_or(Path::new("."));
    let disk = rustix::fs::statvfs(folder).ok()?;
    let free = disk.f_bavail.saturating_mul(disk.f_frsize);
    let size = match &config.database.url {
        Database::Sqlite(file) => fs::metadata(file).map_or(0, |metadata| metadata.len()),
        Database::Postgres(_) => 0,
    };
    Some(judge(CHECK, folder, free, size))
}

fn judge(check: &'static str, folder: &Path, free: u64, database: u64) -> Finding {
    let found = format!("{} has {} MiB free", folder.display(), free >> 20);
    if free < NO_ROOM {
        Finding::error(check, found, "make room now: changes and revocations are about to fail")
    } else if free < LITTLE_ROOM.max(database) {
        let advice = "make room; a backup or a restore needs as much as the database again";
        Finding::warning(check, found, advice)
    } else {
        Finding::ok(check, found)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::server::doctor::Level;

    #[test]
    fn room_is_compared_with_the_size_of_the_database() {
        let level = |free, database| judge("disk", Path::new("/"), free, database).level;
        assert_eq!(level(NO_ROOM - 1, 0), Level::Error);
        assert_eq!(level(LITTLE_ROOM - 1, 0), Level::Warning);
        assert_eq!(level(5 << 30, 1 << 30), Level::Ok);
        assert_eq!(level(5 << 30, 6 << 30), Level::Warning);
    }
}
