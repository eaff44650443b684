//! The URL of a request without query and fragment, in one spelling.

use std::fmt::{self, Display, Write};

use http::Uri;

/// The URL of a request over HTTP, normalised as RFC 3986, sections 6.2.2 and 6.2.3, permit: scheme
/// and host in lower case, no default port, no dot segments, percent-encoding only where it is
/// needed and in upper case. Query and fragment are left out (RFC 9449, section 4.2). Two URLs are
/// equal if they are the same URL.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestUrl(String);

impl RequestUrl {
    /// Reads an absolute `http` or `https` URL without user information.
    pub fn parse(url: &str) -> Option<Self> {
        // The parser of `http` accepts bytes that no URI may have.
        let is_uri = |byte: u8| byte.is_ascii_graphic() && !b"\"<>\\^`{|}".contains(&byte);
        if !url.bytes().all(is_uri) {
            return None;
        }
        let url: Uri = url.parse().ok()?;
        let scheme = url.scheme_str()?.to_ascii_lowercase();
        let default_port = match scheme.as_str() {
            "http" => 80,
            "https" => 443,
            _ => return None,
        };
        let authority = url.authority()?;
        if authority.as_str().contains(['@', '%']) || authority.host().is_empty() {
            return None;
        }
        let mut text = format!("{scheme}://{}", authority.host().to_ascii_lowercase());
        let port = match authority.as_str()[authority.host().len()..].strip_prefix(':') {
            None | Some("") => default_port,
            Some(port) => port.parse::<u16>().ok()?,
        };
        if port != default_port {
            write!(text, ":{port}").ok()?;
        }
        text.push_str(&without_dot_segments(&normal_encoding(url.path())?));
        Some(Self(text))
    }
}

impl Display for RequestUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Decodes characters that need no encoding, and writes the others with upper-case digits. `None`
/// if a percent sign starts no encoding.
fn normal_encoding(path: &str) -> Option<String> {
    let mut normal = String::with_capacity(path.len());
    let mut rest = path;
    while let Some((before, after)) = rest.split_once('%') {
        normal.push_str(before);
        let digits = after.get(..2).filter(|d| d.bytes().all(|b| b.is_ascii_hexdigit()))?;
        let byte = u8::from_str_radix(digits, 16).ok()?;
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            normal.push(char::from(byte));
        } else {
            write!(normal, "%{byte:02X}").ok()?;
        }
        rest = &after[2..];
    }
    normal.push_str(rest);
    Some(normal)
}

/// Removes the segments `.` and `..` (RFC 3986, section 5.2.4). The path starts with a slash, or is
/// empty, which means the same as a slash alone.
fn without_dot_segments(path: &str) -> String {
    let mut kept: Vec<&str> = Vec::new();
    let mut segments = path.strip_prefix('/').unwrap_or(path).split('/').peekable();
    while let Some(segment) = segments.next() {
        let is_last = segments.peek().is_none();
        match segment {
            ".." => {
                kept.pop();
            }
            "." => {}
            segment => {
                kept.push(segment);
                continue;
            }
        }
        if is_last {
            kept.push("");
        }
    }
    format!("/{}", kept.join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn normal(url: &str) -> Option<String> {
        RequestUrl::parse(url).map(|url| url.to_string())
    }

    #[test]
    fn spellings_of_one_url_are_equal() {
        let expected = normal("https://api.example/svc/token").unwrap();
        assert_eq!(expected, "https://api.example/svc/token");
        for same in [
            "HTTPS://API.Example:443/svc/token",
            "https://api.example:/svc/token",
            "https://api.example:0443/svc/token",
            "https://api.example/svc/token?x=1",
            "https://api.example/svc/token#top",
            "https://api.example/svc/token?#",
            "https://api.example/./svc/x/../token",
            "https://api.example/../svc/token",
            "https://api.example/%73vc/to%6bEn".to_lowercase().as_str(),
            "https://api.example/svc/%2E/token",
            "https://api.example/a/%2e%2E/svc/token",
        ] {
            assert_eq!(normal(same).as_ref(), Some(&expected), "{same}");
        }
        for other in [
            "http://api.example/svc/token",
            "https://api.example:8443/svc/token",
            "https://api.example:80/svc/token",
            "https://api.example/token",
            "https://api.example/svc/token/",
            "https://api.example/svc//token",
            "https://api.example/svc/Token",
            "https://api.example/svc%2Ftoken",
            "https://api.example./svc/token",
            "https://api.example.evil/svc/token",
            "https://evil/https://api.example/svc/token",
            "https://evil?https://api.example/svc/token",
        ] {
            assert!(normal(other).is_some(), "{other}");
            assert_ne!(normal(other).as_ref(), Some(&expected), "{other}");
        }
    }

    #[test]
    fn encoding_and_dot_segments_have_one_form() {
        for (url, expected) in [
            ("http://H", "http://h/"),
            ("http://h/", "http://h/"),
            ("http://h?a", "http://h/"),
            ("http://[::AB]:80/x", "http://[::ab]/x"),
            ("http://[::1]:8080", "http://[::1]:8080/"),
            ("http://h/%c3%a4%7E%2f", "http://h/%C3%A4~%2F"),
            ("http://h/a/.", "http://h/a/"),
            ("http://h/a/..", "http://h/"),
            ("http://h/a/b/../", "http://h/a/"),
            ("http://h/../../..", "http://h/"),
            ("http://h/...", "http://h/..."),
            ("http://h//", "http://h//"),
        ] {
            assert_eq!(normal(url).as_deref(), Some(expected), "{url}");
        }
    }

    #[test]
    fn other_texts_are_no_urls_of_requests() {
        for text in [
            "",
            "/svc/token",
            "api.example/svc/token",
            "//api.example/svc/token",
            "ftp://api.example/",
            "https://",
            "https:///token",
            "https://:443/token",
            "https://user@api.example/",
            "https://user:secret@api.example/",
            "https://api.example:65536/",
            "https://api.example:x/",
            "https://api.example/%",
            "https://api.example/%2",
            "https://api.example/%zz",
            "https://api.example/%é",
            "https://api%2eexample/",
            "https://api.example/a b",
            " https://api.example/",
            "https://api.example/\n",
            "https://api.example\\token",
            "https://äpi.example/",
        ] {
            assert_eq!(normal(text), None, "{text:?}");
        }
    }
}
