//! The access control list of a file. If a file has one, the permissions of its group in the mode are
//! the mask of the list (acl(5)), and not what the group may do. systemd passes credentials
//! (`LoadCredential=`) as files of root that a list opens to the user of the service: mode 0440.

use std::fs::File;

/// The attribute of Linux with the list, and the version of its format.
const ATTRIBUTE: &str = "system.posix_acl_access";
const VERSION: [u8; 4] = [2, 0, 0, 0];
/// More entries than a file with a secret can need.
const MAX_BYTES: usize = 4 + 64 * ENTRY;
const ENTRY: usize = 8;

const NAMED_USER: u16 = 0x02;
const GROUP: u16 = 0x04;
const NAMED_GROUP: u16 = 0x08;
const MASK: u16 = 0x10;

/// Who reads a file: this process.
pub(super) struct AccessListReader<'a> {
    pub(super) user: u32,
    pub(super) has_group: &'a dyn Fn(u32) -> bool,
}

/// The mode of a file, with what its group may do according to its list. An error if the list gives
/// other users anything.
pub(super) fn effective_mode(
    file: &File,
    mode: u32,
    reader: &AccessListReader<'_>,
) -> Result<u32, String> {
    let mut bytes = [0_u8; MAX_BYTES];
    match rustix::fs::fgetxattr(file, ATTRIBUTE, &mut bytes[..]) {
        Ok(length) => with_list(bytes.get(..length).unwrap_or_default(), mode, reader),
        // No list, or a file system without them.
        Err(rustix::io::Errno::NODATA | rustix::io::Errno::NOTSUP) => Ok(mode),
        Err(error) => Err(format!("its access control list cannot be read: {error}")),
    }
}

fn with_list(list: &[u8], mode: u32, reader: &AccessListReader<'_>) -> Result<u32, String> {
    let entries = list.strip_prefix(&VERSION).and_then(entries);
    let entries = entries.ok_or("its access control list has an unknown format")?;
    let mask = entries.iter().find(|(tag, ..)| *tag == MASK).map_or(7, |(_, bits, _)| *bits);
    let mut group = 0;
    for (tag, bits, id) in entries {
        let bits = bits & mask;
        match tag {
            GROUP => group = bits,
            // Root can read every file.
            NAMED_USER if bits != 0 && id != reader.user && id != 0 => return Err(opened()),
            NAMED_GROUP if bits != 0 && !(reader.has_group)(id) => return Err(opened()),
            _ => {}
        }
    }
    Ok((mode & !0o070) | (u32::from(group) << 3))
}

fn opened() -> String {
    "has an access control list that lets others read it: run setfacl --remove-all".to_owned()
}

/// Tag, permissions and id of each entry.
fn entries(list: &[u8]) -> Option<Vec<(u16, u16, u32)>> {
    let (entries, rest) = list.as_chunks::<ENTRY>();
    let parts = entries.iter().map(|&[a, b, c, d, e, f, g, h]| {
        (u16::from_le_bytes([a, b]), u16::from_le_bytes([c, d]), u32::from_le_bytes([e, f, g, h]))
    });
    rest.is_empty().then(|| parts.collect())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    const NO_ID: u32 = u32::MAX;
    const OWNER: (u16, u16, u32) = (0x01, 4, NO_ID);
    const OTHERS: (u16, u16, u32) = (0x20, 0, NO_ID);

    fn list(between: &[(u16, u16, u32)]) -> Vec<u8> {
        let entries = [OWNER].into_iter().chain(between.iter().copied()).chain([OTHERS]);
        let bytes = entries.flat_map(|(tag, bits, id)| {
            [&tag.to_le_bytes()[..], &bits.to_le_bytes(), &id.to_le_bytes()].concat()
        });
        VERSION.into_iter().chain(bytes).collect()
    }

    /// As a process of user 10001 with the group 10002.
    fn read(list: &[u8]) -> Result<u32, String> {
        with_list(
            list,
            0o440,
            &AccessListReader { user: 10_001, has_group: &|group| group == 10_002 },
        )
    }

    #[test]
    fn list_for_the_own_user_opens_nothing_to_the_group() {
        let credential = [(NAMED_USER, 4, 10_001), (GROUP, 0, NO_ID), (MASK, 4, NO_ID)];
        assert_eq!(read(&list(&credential)), Ok(0o400));
        let of_group = [(NAMED_GROUP, 4, 10_002), (GROUP, 0, NO_ID), (MASK, 4, NO_ID)];
        assert_eq!(read(&list(&of_group)), Ok(0o400));
    }

    #[test]
    fn list_for_others_is_refused() {
        let of_user = [(NAMED_USER, 4, 10_003), (GROUP, 0, NO_ID), (MASK, 4, NO_ID)];
        assert!(read(&list(&of_user)).is_err());
        let of_group = [(NAMED_GROUP, 4, 10_003), (GROUP, 0, NO_ID), (MASK, 4, NO_ID)];
        assert!(read(&list(&of_group)).is_err());
        let masked = [(NAMED_USER, 4, 10_003), (GROUP, 0, NO_ID), (MASK, 0, NO_ID)];
        assert_eq!(read(&list(&masked)), Ok(0o400), "the mask takes the right away");
        let group = [(NAMED_USER, 4, 10_001), (GROUP, 4, NO_ID), (MASK, 4, NO_ID)];
        assert_eq!(read(&list(&group)), Ok(0o440), "the mode's own rule decides");
    }

    #[test]
    fn list_of_unknown_format_is_refused() {
        let mut whole = list(&[(GROUP, 0, NO_ID)]);
        assert_eq!(read(&whole), Ok(0o400));
        whole.pop();
        assert!(read(&whole).is_err());
        assert!(read(&[3, 0, 0, 0]).is_err());
        assert!(read(&[]).is_err());
    }

    #[test]
    fn list_of_a_real_file_is_read() {
        let file = tempfile::tempfile().unwrap();
        file.set_permissions(std::fs::Permissions::from_mode(0o400)).unwrap();
        let reader = AccessListReader { user: 10_001, has_group: &|_| false };
        let mode = || file.metadata().unwrap().permissions().mode() & 0o777;
        assert_eq!(effective_mode(&file, mode(), &reader), Ok(0o400));
        let credential = list(&[(NAMED_USER, 4, 10_001), (GROUP, 0, NO_ID), (MASK, 4, NO_ID)]);
        let flags = rustix::fs::XattrFlags::empty();
        rustix::fs::fsetxattr(&file, ATTRIBUTE, &credential, flags).unwrap();
        assert_eq!(mode(), 0o440, "as systemd's credentials");
        assert_eq!(effective_mode(&file, mode(), &reader), Ok(0o400));
        let other = AccessListReader { user: 10_009, has_group: &|_| false };
        assert!(effective_mode(&file, mode(), &other).is_err());
    }
}
