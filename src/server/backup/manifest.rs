//! The file of a backup: a SQLite database, and after it one line of JSON, the manifest. SQLite
//! ignores what follows the last page, so that the file can also be opened as a database.

use std::fmt::Write;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::Path;

use aws_lc_rs::digest;
use serde::{Deserialize, Serialize};

use crate::server::ServerError;

/// The version of the format.
const FORMAT: u32 = 1;
/// The maximum length of a manifest in bytes.
const MAX_LENGTH: u64 = 4096;
const BUFFER: usize = 1 << 20;

/// Describes the database of a backup.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq, Serialize)]
pub struct Manifest {
    /// The version of the format.
    pub keyward_backup: u32,
    /// The version of Keyward that made the backup.
    pub version: String,
    /// In RFC 3339.
    pub created_at: String,
    /// The version of the schema.
    pub schema: i64,
    /// The name of the list of revocations.
    pub list: String,
    /// The number of the last revocation.
    pub last_revocation: i64,
    /// The id of the master key that the data is sealed with. The key itself is not in the backup.
    pub master_key: Option<String>,
    /// The ids of all master keys that something in it needs: sealed values and hashes of secrets.
    /// Backups of older versions do not have this.
    #[serde(default)]
    pub master_keys: Vec<String>,
    /// The length of the database.
    pub bytes: u64,
    /// The SHA-256 of the database, in hexadecimal.
    pub sha256: String,
}

impl Manifest {
    pub(super) const FORMAT: u32 = FORMAT;

    /// The line at the end of the file.
    pub(super) fn line(&self) -> Result<String, ServerError> {
        let json = serde_json::to_string(self);
        json.map(|json| format!("\n{json}\n")).map_err(|e| ServerError::Internal(e.to_string()))
    }

    /// Reads the manifest of a backup, and checks that the database in the file is the one that it
    /// describes.
    pub(super) fn read(path: &Path) -> Result<(Self, File), ServerError> {
        let fault =
            |what: &str| ServerError::Backup(format!("the backup {} {what}", path.display()));
        let unreadable = |error: io::Error| fault(&format!("cannot be read: {error}"));
        let mut file = File::open(path).map_err(unreadable)?;
        let (length, tail) = tail(&mut file).map_err(unreadable)?;
        let incomplete = || fault("is not a complete backup of Keyward: its last line is missing");
        let text = tail.strip_suffix(b"\n").ok_or_else(incomplete)?;
        let start = text.iter().rposition(|byte| *byte == b'\n').ok_or_else(incomplete)?;
        let manifest: Self =
            serde_json::from_slice(&text[start + 1..]).map_err(|_| incomplete())?;
        if manifest.keyward_backup != FORMAT {
            return Err(fault("has a format that this version of keyward does not know"));
        }
        let line = u64::try_from(tail.len() - start).unwrap_or(u64::MAX);
        if manifest.bytes.checked_add(line) != Some(length) {
            return Err(fault("has another length than its manifest says: it is damaged"));
        }
        file.rewind().map_err(unreadable)?;
        let found = sha256(&mut (&file).take(manifest.bytes)).map_err(unreadable)?;
        if found != manifest.sha256 {
            return Err(fault("has another checksum than its manifest says: it is damaged"));
        }
        file.rewind().map_err(unreadable)?;
        Ok((manifest, file))
    }
}

/// The length of a file, and its last bytes.
fn tail(file: &mut File) -> io::Result<(u64, Vec<u8>)> {
    let length = file.metadata()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(MAX_LENGTH)))?;
    let mut tail = Vec::new();
    file.read_to_end(&mut tail)?;
    Ok((length, tail))
}

/// The SHA-256 of everything that can be read, in hexadecimal.
pub(super) fn sha256(from: &mut impl Read) -> io::Result<String> {
    let mut hash = digest::Context::new(&digest::SHA256);
    let mut buffer = vec![0; BUFFER];
    loop {
        let count = from.read(&mut buffer)?;
        if count == 0 {
            break;
        }
        hash.update(&buffer[..count]);
    }
    let hash = hash.finish();
    let mut text = String::new();
    for byte in hash.as_ref() {
        // Writing to a string cannot fail.
        write!(text, "{byte:02x}").ok();
    }
    Ok(text)
}
