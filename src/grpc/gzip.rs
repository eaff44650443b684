//! Decompresses messages up to the size limit of their method. Gzip can expand data by a factor of
//! a thousand.

use std::io::Read;

use axum::body::Bytes;
use flate2::read::GzDecoder;
use tonic::Status;

use crate::error::Error;

/// The size of the prefix before each message: the compression flag and the length.
pub(super) const PREFIX: usize = 5;

/// The number of bytes that are decompressed at a time, before memory is taken for them.
const STEP: usize = 4096;

/// Whether the compression flag of a message is set.
pub(super) fn is_compressed(message: &[u8]) -> bool {
    message.first() == Some(&1)
}

/// Decompresses a message, and returns it with a new prefix. Calls `take` for each part before the
/// part is stored.
pub(super) fn inflate(
    message: &[u8],
    max_bytes: usize,
    mut take: impl FnMut(usize) -> Result<(), Status>,
) -> Result<Bytes, Status> {
    let malformed = |_| Status::invalid_argument("the message is not well-formed gzip");
    let mut decoder = GzDecoder::new(message.get(PREFIX..).unwrap_or_default());
    let mut inflated = vec![0; PREFIX];
    let mut part = [0; STEP];
    loop {
        let count = decoder.read(&mut part).map_err(malformed)?;
        if count == 0 {
            break;
        }
        if inflated.len() - PREFIX + count > max_bytes {
            let form = " once it is decompressed";
            return Err(Error::RequestTooLarge { max_bytes, form }.into());
        }
        take(count)?;
        inflated.extend_from_slice(&part[..count]);
    }
    let length = u32::try_from(inflated.len() - PREFIX).unwrap_or(u32::MAX);
    inflated[1..PREFIX].copy_from_slice(&length.to_be_bytes());
    Ok(inflated.into())
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use flate2::Compression;
    use flate2::write::GzEncoder;

    use super::*;

    fn compressed(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(vec![1, 0, 0, 0, 0], Compression::best());
        encoder.write_all(bytes).unwrap();
        let mut message = encoder.finish().unwrap();
        let length = u32::try_from(message.len() - PREFIX).unwrap();
        message[1..PREFIX].copy_from_slice(&length.to_be_bytes());
        message
    }

    #[test]
    fn message_is_decompressed_up_to_the_limit() {
        let bytes = vec![7; 10_000];
        let mut taken = 0;
        let inflated = inflate(&compressed(&bytes), 10_000, |count| {
            taken += count;
            Ok(())
        });
        let inflated = inflated.unwrap();
        assert_eq!((&inflated[..PREFIX], taken), (&[0, 0, 0, 0x27, 0x10][..], 10_000));
        assert_eq!(inflated[PREFIX..], bytes);
        let refused = inflate(&compressed(&bytes), 9_999, |_| Ok(())).unwrap_err();
        assert_eq!(refused.code(), tonic::Code::ResourceExhausted);
        assert_eq!(inflate(&compressed(b""), 0, |_| Ok(())).unwrap(), [0; PREFIX][..]);
    }

    #[test]
    fn gzip_bomb_is_refused_at_the_limit() {
        let bomb = compressed(&vec![0; 10_000_000]);
        assert!(bomb.len() < 11_000);
        let mut taken = 0;
        let refused = inflate(&bomb, 65_536, |count| {
            taken += count;
            Ok(())
        });
        assert_eq!(refused.unwrap_err().code(), tonic::Code::ResourceExhausted);
        assert!(taken <= 65_536, "{taken}");
    }

    #[test]
    fn malformed_gzip_is_an_invalid_argument() {
        let mut broken = compressed(&[1; 1000]);
        broken.truncate(20);
        for message in [&broken[..], b"\x01\0\0\0\x03abc", b"\x01\0\0\0\0"] {
            let refused = inflate(message, 1000, |_| Ok(())).unwrap_err();
            assert_eq!(refused.code(), tonic::Code::InvalidArgument, "{message:?}");
        }
    }
}
