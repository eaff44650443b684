//! Random numbers. All other files are kept from calling the generator by a lint, so that
//! randomness has one source.

use crate::error::{Error, Result};

const BASE62: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

/// Fills a buffer with random bytes.
pub fn fill(buffer: &mut [u8]) -> Result<()> {
    #[expect(clippy::disallowed_methods, reason = "the only caller of the generator")]
    aws_lc_rs::rand::fill(buffer).map_err(|_| Error::internal("the random generator failed"))
}

/// Appends `count` random characters of `[0-9A-Za-z]`, uniformly distributed.
pub fn push_base62(text: &mut String, count: usize) -> Result<()> {
    let mut wanted = count;
    while wanted > 0 {
        let mut bytes = [0; 64];
        fill(&mut bytes)?;
        // 248 is the largest multiple of 62 in a byte. Larger values would prefer some characters.
        for byte in bytes.into_iter().filter(|b| *b < 248).take(wanted) {
            text.push(char::from(BASE62[usize::from(byte % 62)]));
            wanted -= 1;
        }
    }
    Ok(())
}

/// Formats `number` as six characters of `[0-9A-Za-z]`.
pub fn base62(mut number: u32) -> String {
    let mut digits = [b'0'; 6];
    for digit in digits.iter_mut().rev() {
        *digit = BASE62[(number % 62) as usize];
        number /= 62;
    }
    digits.into_iter().map(char::from).collect()
}

/// A version 7 UUID (RFC 9562), as 32 hexadecimal digits. Ids sort by creation time.
#[cfg(feature = "server")]
pub fn id(now: jiff::Timestamp) -> Result<String> {
    let mut random = [0; 10];
    fill(&mut random)?;
    let millis = u64::try_from(now.as_millisecond()).unwrap_or_default();
    let uuid = uuid::Builder::from_unix_timestamp_millis(millis, &random).into_uuid();
    Ok(uuid.simple().to_string())
}
