//! Parsing of request paths.
//!
//! Keyward matches a path against the endpoint rules, and then a backend parses the same path
//! again. If the two interpreted it differently, a client could reach one resource with the scopes
//! of another. Therefore there is one interpretation, and paths that could be interpreted
//! differently are refused.

use std::borrow::Cow;

/// The decoded segments of a request path, without the query.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestPath<'a> {
    segments: Vec<Cow<'a, str>>,
}

/// Why a path is refused, as a predicate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PathFault {
    #[error("must begin with a slash")]
    NotAbsolute,
    #[error("must have at most 4096 bytes")]
    TooLong,
    #[error("must have at most 64 segments")]
    TooManySegments,
    /// Some backends merge consecutive slashes.
    #[error("must not have empty segments")]
    EmptySegment,
    /// `.` and `..`, plain or escaped.
    #[error("must not have segments of dots")]
    DotSegment,
    /// A `%` without two hexadecimal digits after it.
    #[error("must not have broken escapes")]
    BrokenEscape,
    /// An escaped escape, which decodes to another path the second time.
    #[error("must not be escaped twice")]
    EscapedTwice,
    #[error("must be UTF-8 where it is escaped")]
    NotUtf8,
    /// A character that some systems treat as a separator, or an invisible one.
    #[error("must not have control characters, and none of / \\ ; ? # within a segment")]
    Separator,
}

/// Characters that Unicode compatibility forms map to dots, and to the separators `/ \ % ; ? #`.
const DOTS: [char; 7] =
    ['\u{2024}', '\u{2025}', '\u{2026}', '\u{fe19}', '\u{fe30}', '\u{fe52}', '\u{ff0e}'];
const SEPARATORS: [char; 21] = [
    '\u{37e}', '\u{2047}', '\u{2048}', '\u{2049}', '\u{2100}', '\u{2101}', '\u{2105}', '\u{2106}',
    '\u{fe14}', '\u{fe16}', '\u{fe54}', '\u{fe56}', '\u{fe5f}', '\u{fe68}', '\u{fe6a}', '\u{ff03}',
    '\u{ff05}', '\u{ff0f}', '\u{ff1b}', '\u{ff1f}', '\u{ff3c}',
];

impl<'a> RequestPath<'a> {
    /// The maximum length, without the query.
    pub const MAX_BYTES: usize = 4096;
    pub const MAX_SEGMENTS: usize = 64;

    /// Parses a path as it was sent, with escapes. The query and one trailing slash are ignored.
    pub fn parse(raw: &'a str) -> Result<Self, PathFault> {
        let path = raw.split_once('?').map_or(raw, |(path, _)| path);
        if path.len() > Self::MAX_BYTES {
            return Err(PathFault::TooLong);
        }
        let rest = path.strip_prefix('/').ok_or(PathFault::NotAbsolute)?;
        if rest.is_empty() {
            return Ok(Self { segments: Vec::new() });
        }
        let mut segments = Vec::new();
        for raw in rest.strip_suffix('/').unwrap_or(rest).split('/') {
            if segments.len() == Self::MAX_SEGMENTS {
                return Err(PathFault::TooManySegments);
            }
            segments.push(segment(raw)?);
        }
        Ok(Self { segments })
    }

    /// The decoded segments.
    pub fn segments(&self) -> impl ExactSizeIterator<Item = &str> {
        self.segments.iter().map(AsRef::as_ref)
    }
}

fn segment(raw: &str) -> Result<Cow<'_, str>, PathFault> {
    let decoded = decoded(raw)?;
    if decoded.is_empty() {
        return Err(PathFault::EmptySegment);
    }
    // Some systems remove trailing dots and spaces and interpret the rest.
    if decoded.chars().all(|c| c == '.' || c.is_whitespace() || DOTS.contains(&c)) {
        return Err(PathFault::DotSegment);
    }
    let separates = |c: char| {
        c.is_control() || matches!(c, '/' | '\\' | ';' | '?' | '#') || SEPARATORS.contains(&c)
    };
    if decoded.chars().any(separates) {
        return Err(PathFault::Separator);
    }
    let escape = |bytes: &[u8]| bytes[0] == b'%' && bytes[1..].iter().all(u8::is_ascii_hexdigit);
    if decoded.as_bytes().windows(3).any(escape) {
        return Err(PathFault::EscapedTwice);
    }
    Ok(decoded)
}

fn decoded(raw: &str) -> Result<Cow<'_, str>, PathFault> {
    let Some((plain, _)) = raw.split_once('%') else {
        return Ok(Cow::Borrowed(raw));
    };
    let mut bytes = plain.as_bytes().to_vec();
    let mut rest = raw[plain.len()..].bytes();
    while let Some(byte) = rest.next() {
        let byte = match byte {
            b'%' => (hex(rest.next())? << 4) | hex(rest.next())?,
            plain => plain,
        };
        bytes.push(byte);
    }
    String::from_utf8(bytes).map(Cow::Owned).map_err(|_| PathFault::NotUtf8)
}

fn hex(digit: Option<u8>) -> Result<u8, PathFault> {
    match digit {
        Some(digit @ b'0'..=b'9') => Ok(digit - b'0'),
        Some(digit @ b'a'..=b'f') => Ok(digit - b'a' + 10),
        Some(digit @ b'A'..=b'F') => Ok(digit - b'A' + 10),
        _ => Err(PathFault::BrokenEscape),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn valid_paths_are_decoded_once() {
        let many = "/a".repeat(64);
        let long = format!("/{}", "a".repeat(4095));
        let long_query = format!("/v1?{}", "q".repeat(60_000));
        for (raw, segments) in [
            ("/", &[][..]),
            ("/?a=/b", &[]),
            ("/v1/calls", &["v1", "calls"]),
            ("/v1/calls/", &["v1", "calls"]),
            ("/v1/calls/?x", &["v1", "calls"]),
            ("/v1/calls?../..;#%", &["v1", "calls"]),
            ("/v1/c%61lls", &["v1", "calls"]),
            ("/v1/C%61LLS", &["v1", "CaLLS"]),
            ("/v1/%2B1%20555", &["v1", "+1 555"]),
            ("/v1/a+b", &["v1", "a+b"]),
            ("/v1/%21a+b", &["v1", "!a+b"]),
            ("/v1/100%25", &["v1", "100%"]),
            ("/v1/100%25zz", &["v1", "100%zz"]),
            ("/v1/%c3%a4", &["v1", "ä"]),
            ("/v1/ä", &["v1", "ä"]),
            ("/v1/a.b..c", &["v1", "a.b..c"]),
            ("/v1/.well-known", &["v1", ".well-known"]),
            ("/v1/things:batch@x,y(z)!$&'*=~", &["v1", "things:batch@x,y(z)!$&'*=~"]),
            ("/v1/https:", &["v1", "https:"]),
            (&many, &["a"; 64]),
            (&long, &[&long[1..]]),
            (&long_query, &["v1"]),
        ] {
            let path = RequestPath::parse(raw).unwrap_or_else(|fault| panic!("{raw}: {fault}"));
            assert_eq!(path.segments().collect::<Vec<_>>(), segments, "{raw}");
        }
    }

    #[test]
    fn ambiguous_paths_are_refused() {
        use PathFault::{
            BrokenEscape, DotSegment, EmptySegment, EscapedTwice, NotAbsolute, NotUtf8, Separator,
            TooLong, TooManySegments,
        };
        let many = "/a".repeat(65);
        let long = format!("/{}", "a".repeat(4096));
        for (raw, fault) in [
            ("", NotAbsolute),
            ("?x", NotAbsolute),
            ("*", NotAbsolute),
            ("v1/calls", NotAbsolute),
            (" /v1", NotAbsolute),
            ("\\v1", NotAbsolute),
            ("%2Fv1", NotAbsolute),
            ("http://host/v1", NotAbsolute),
            (&long, TooLong),
            (&many, TooManySegments),
            // Some backends merge two slashes, others read a host after them.
            ("//", EmptySegment),
            ("//host/v1", EmptySegment),
            ("/v1//calls", EmptySegment),
            ("/v1/calls//", EmptySegment),
            // Path traversal, plain and escaped.
            ("/v1/public/../admin", DotSegment),
            ("/v1/./calls", DotSegment),
            ("/v1/..", DotSegment),
            ("/..", DotSegment),
            ("/v1/.../admin", DotSegment),
            ("/v1/%2e%2e/admin", DotSegment),
            ("/v1/.%2E/admin", DotSegment),
            ("/v1/%2e", DotSegment),
            ("/v1/%e2%80%a5/admin", DotSegment),
            ("/v1/%ef%bc%8e%ef%bc%8e/admin", DotSegment),
            ("/v1/．./admin", DotSegment),
            ("/v1/..%2fadmin", Separator),
            ("/v1/..%5cadmin", Separator),
            ("/v1/..\\admin", Separator),
            ("/v1/public;/../admin", Separator),
            ("/v1/..;/admin", Separator),
            // One segment for some systems, two for others.
            ("/v1/calls%2fadmin", Separator),
            ("/v1/calls%2Fadmin", Separator),
            ("/v1/calls\\admin", Separator),
            ("/v1/calls%5Cadmin", Separator),
            ("/v1/calls%ef%bc%8fadmin", Separator),
            ("/v1/calls／admin", Separator),
            // Characters that end the path for some systems.
            ("/v1/admin;x=1", Separator),
            ("/v1/admin%3bx=1", Separator),
            ("/v1/admin%3f", Separator),
            ("/v1/admin%23", Separator),
            ("/v1/admin#", Separator),
            ("/v1/admin#/x?y", Separator),
            ("/v1/admin%00", Separator),
            ("/v1/admin%00.png", Separator),
            ("/v1/admin\0", Separator),
            ("/v1/admin%0d%0a", Separator),
            ("/v1/admin%0A", Separator),
            ("/v1/admin\t", Separator),
            ("/v1/admin%7f", Separator),
            ("/v1/admin%c2%85", Separator),
            // Decoded twice, these are other paths.
            ("/v1/%252e%252e/admin", EscapedTwice),
            ("/v1/calls%252Fadmin", EscapedTwice),
            ("/v1/%2561dmin", EscapedTwice),
            ("/v1/%25252e", EscapedTwice),
            ("/v1/%25%32%65", EscapedTwice),
            // Decoders disagree about these.
            ("/v1/%", BrokenEscape),
            ("/v1/%2", BrokenEscape),
            ("/v1/%2/admin", BrokenEscape),
            ("/v1/%zz", BrokenEscape),
            ("/v1/%+2", BrokenEscape),
            ("/v1/%u002e%u002e/admin", BrokenEscape),
            ("/v1/%%32e", BrokenEscape),
            ("/v1/%ä0", BrokenEscape),
            ("/v1/%c0%ae%c0%ae/admin", NotUtf8),
            ("/v1/%c0%af", NotUtf8),
            ("/v1/%e0%80%af", NotUtf8),
            ("/v1/%ff", NotUtf8),
            ("/v1/%c3", NotUtf8),
            ("/v1/%c3/%a4", NotUtf8),
            ("/v1/%ed%a0%80", NotUtf8),
        ] {
            assert_eq!(RequestPath::parse(raw), Err(fault), "{raw:?}");
        }
    }

    #[test]
    fn every_escaped_ascii_byte_is_decoded_or_refused() {
        for byte in 0..=0x7f_u8 {
            let raw = format!("/x%{byte:02x}y");
            let plain = format!("x{}y", char::from(byte));
            let read = RequestPath::parse(&raw);
            if byte.is_ascii_control() || b"/\\;?#".contains(&byte) {
                assert_eq!(read, Err(PathFault::Separator), "{raw}");
            } else {
                assert_eq!(read.unwrap().segments().collect::<Vec<_>>(), [plain], "{raw}");
            }
        }
    }
}
