//! The master key: 32 bytes outside the database, from which all other keys are derived. Without
//! it, sealed data cannot be read.

use std::fmt;
use std::fs::{File, Permissions};
use std::io::{ErrorKind, Read, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;

use aws_lc_rs::hkdf;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

#[cfg(target_os = "linux")]
use super::access_list;
use super::random;
use crate::domain::Fault;
use crate::error::{Error, Result};

const LENGTH: usize = 32;

/// The key from which all others are derived (HKDF-SHA-256).
#[derive(Clone, PartialEq, Eq, Zeroize, ZeroizeOnDrop)]
pub struct MasterKey([u8; LENGTH]);

impl fmt::Debug for MasterKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("MasterKey(…)")
    }
}

impl MasterKey {
    /// Parses 32 bytes in base64.
    pub fn parse(text: &str) -> Result<Self, Fault> {
        let wrong =
            || Fault::new("must be 32 bytes in base64, as `openssl rand -base64 32` prints");
        let bytes = Zeroizing::new(STANDARD.decode(text.trim()).map_err(|_| wrong())?);
        let key = <[u8; LENGTH]>::try_from(bytes.as_slice()).map_err(|_| wrong())?;
        Ok(Self(key))
    }

    /// Reads the key from a file. Only the owner and the process's own groups may read the file.
    pub fn from_file(path: &Path) -> Result<Self, Fault> {
        let fault = |what: &dyn fmt::Display| Fault::new(format!("{}: {what}", path.display()));
        let mut file = File::open(path).map_err(|error| fault(&error))?;
        let metadata = file.metadata().map_err(|error| fault(&error))?;
        let mode = effective_mode(&file, metadata.permissions().mode()).map_err(|w| fault(&w))?;
        check_mode(mode, metadata.gid()).map_err(|what| fault(&what))?;
        let mut text = Zeroizing::new(String::new());
        file.read_to_string(&mut text).map_err(|error| fault(&error))?;
        Self::parse(&text).map_err(|wrong| fault(&wrong.0))
    }

    /// Creates a file with a new key, readable only by its owner. If the file exists, its key is
    /// read.
    pub fn create_file(path: &Path) -> Result<Self, Fault> {
        let fault = |error: &dyn fmt::Display| Fault::new(format!("{}: {error}", path.display()));
        let mut key = Self([0; LENGTH]);
        random::fill(&mut key.0).map_err(|error| fault(&error))?;
        let text = Zeroizing::new(format!("{}\n", STANDARD.encode(key.0)));
        match write_whole(path, text.as_bytes()) {
            Ok(()) => Ok(key),
            Err(error) if error.kind() == ErrorKind::AlreadyExists => Self::from_file(path),
            Err(error) => Err(fault(&error)),
        }
    }

    /// Derives a key for one purpose. Keys for different purposes are independent.
    pub fn derive(&self, purpose: &'static str) -> Result<Zeroizing<[u8; 32]>> {
        let prk = hkdf::Salt::new(hkdf::HKDF_SHA256, b"keyward").extract(&self.0);
        let info = [purpose.as_bytes()];
        let mut key = Zeroizing::new([0; 32]);
        prk.expand(&info, hkdf::HKDF_SHA256)
            .and_then(|okm| okm.fill(key.as_mut_slice()))
            .map_err(|_| Error::internal("the key could not be derived"))?;
        Ok(key)
    }

    /// Eight characters that identify the key without revealing it. Stored next to sealed data, so
    /// that the key can be replaced in the future.
    pub fn id(&self) -> Result<String> {
        let [a, b, c, d, ..] = *self.derive("key id")?;
        Ok(format!("{:08x}", u32::from_be_bytes([a, b, c, d])))
    }
}

/// Refuses a file that others can read. Files of Kubernetes volumes belong to the pod's `fsGroup`
/// and are readable for it, so groups of the process are accepted.
fn check_mode(mode: u32, group: u32) -> Result<(), String> {
    let shown = mode & 0o777;
    if mode & 0o007 != 0 {
        return Err(format!("has mode {shown:03o}; others must not read it: run chmod 600"));
    }
    if mode & 0o030 != 0 {
        return Err(format!("has mode {shown:03o}; its group must not write to it: run chmod 640"));
    }
    if mode & 0o040 != 0 && !is_own_group(group) {
        return Err(format!(
            "has mode {shown:03o}, and the process is not in its group: run chmod 600"
        ));
    }
    Ok(())
}

/// The mode of a file, with what its group may really do.
#[cfg(target_os = "linux")]
fn effective_mode(file: &File, mode: u32) -> Result<u32, String> {
    let user = rustix::process::geteuid().as_raw();
    access_list::effective_mode(
        file,
        mode,
        &access_list::AccessListReader { user, has_group: &is_own_group },
    )
}

#[cfg(not(target_os = "linux"))]
#[expect(clippy::unnecessary_wraps, reason = "as on Linux")]
fn effective_mode(_file: &File, mode: u32) -> Result<u32, String> {
    Ok(mode)
}

/// Whether the process has this effective or supplementary group.
#[cfg(target_os = "linux")]
fn is_own_group(group: u32) -> bool {
    use rustix::process::{getegid, getgroups};
    getegid().as_raw() == group
        || getgroups().is_ok_and(|groups| groups.iter().any(|own| own.as_raw() == group))
}

#[cfg(not(target_os = "linux"))]
fn is_own_group(_group: u32) -> bool {
    false
}

/// Writes a file that only its owner can read, atomically: first to a temporary file, which is
/// synced, and then linked under its name. Linking fails if the name is taken.
fn write_whole(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    let folder = folder.unwrap_or(Path::new("."));
    // A unique name: a killed process leaves its file behind, and in a container the next process
    // has the same id.
    let mut beside = tempfile::Builder::new()
        .prefix(".master.key.")
        .permissions(Permissions::from_mode(0o600))
        .tempfile_in(folder)?;
    beside.write_all(bytes)?;
    beside.as_file().sync_all()?;
    beside.persist_noclobber(path).map_err(|failed| failed.error)?;
    // Syncs the folder, so that the file survives a crash before anything is sealed with the key.
    File::open(folder)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn leftover_file_of_a_killed_process_does_not_block_key_creation() {
        let folder = tempfile::TempDir::new().unwrap();
        let path = folder.path().join("master.key");
        // The file of a process with the same id, as the first process of every container has.
        std::fs::write(path.with_extension(format!("{}.new", std::process::id())), "").unwrap();
        let made = MasterKey::create_file(&path).unwrap();
        let bits = std::fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(bits & 0o777, 0o600);
        assert_eq!(MasterKey::from_file(&path).unwrap().id().unwrap(), made.id().unwrap());
        let again = MasterKey::create_file(&path).unwrap();
        assert_eq!(again.id().unwrap(), made.id().unwrap(), "the existing key is read");
        assert_eq!(
            std::fs::read_dir(folder.path()).unwrap().count(),
            2,
            "no temporary file is left"
        );
    }
}
