//! Compressed messages. Each is decompressed within the size that its method takes: a few bytes
//! of gzip can become a thousand times as many.

use std::io::Read;

use axum::body::Bytes;
use flate2::read::GzDecoder;
use tonic::Status;

use crate::error::Error;

/// The compression flag and the length before each message.
pub(super) const PREFIX: usize = 5;

/// How much is decompressed before memory for it is taken.
const STEP: usize = 4096;

/// Whether the message says that it is compressed.
pub(super) fn is_compressed(message: &[u8]) -> bool {
    message.first() == Some(&1)
}

/// The message as it was before it was compressed, with its prefix. For each part
/// `take` is asked first.
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
    fn message_is_decompressed_within_its_bound() {
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
    fn bomb_ends_at_the_bound_and_takes_no_more() {
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
    fn malformed_gzip_is_the_callers_fault() {
        let mut broken = compressed(&[1; 1000]);
        broken.truncate(20);
        for message in [&broken[..], b"\x01\0\0\0\x03abc", b"\x01\0\0\0\0"] {
            let refused = inflate(message, 1000, |_| Ok(())).unwrap_err();
            assert_eq!(refused.code(), tonic::Code::InvalidArgument, "{message:?}");
        }
    }
}
