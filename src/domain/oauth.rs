//! Rules of OAuth 2.0 that more than one interface follows.

/// The value of `Authorization` (RFC 9110, section 11.6.2), over HTTP and in gRPC metadata.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Authorization<'a> {
    /// `Basic`, with what follows (RFC 7617).
    Basic(&'a str),
    /// `Bearer`, with the token (RFC 6750).
    Bearer(&'a str),
    /// `DPoP`, with the token (RFC 9449, section 7.1).
    Dpop(&'a str),
    /// Another scheme.
    Other,
}

impl<'a> Authorization<'a> {
    /// Reads the value of the header. `None` if there is nothing after the scheme.
    pub fn parse(value: &'a str) -> Option<Self> {
        let (scheme, rest) = value.split_once(' ')?;
        let rest = rest.trim();
        Some(if scheme.eq_ignore_ascii_case("bearer") {
            Self::Bearer(rest)
        } else if scheme.eq_ignore_ascii_case("basic") {
            Self::Basic(rest)
        } else if scheme.eq_ignore_ascii_case("dpop") {
            Self::Dpop(rest)
        } else {
            Self::Other
        })
    }
}

/// A text as the `error_description` of OAuth 2.0: printable ASCII without `"` and `\` (RFC 6749,
/// section 5.2).
pub fn error_description(text: &str) -> String {
    text.chars()
        .map(|c| match c {
            '"' | '`' => '\'',
            ' '..='~' if c != '\\' => c,
            _ => '?',
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scheme_is_read_in_any_case_and_needs_credentials() {
        assert!(Authorization::parse("bearer  T ") == Some(Authorization::Bearer("T")));
        assert!(Authorization::parse("BASIC aWQ6") == Some(Authorization::Basic("aWQ6")));
        for scheme in ["DPoP", "dpop", "DPOP", "dPoP"] {
            let value = format!("{scheme} T");
            assert!(Authorization::parse(&value) == Some(Authorization::Dpop("T")), "{scheme}");
        }
        for scheme in ["Bearer", "bearer", "BEARER"] {
            let value = format!("{scheme} T");
            assert!(Authorization::parse(&value) == Some(Authorization::Bearer("T")), "{scheme}");
        }
        assert!(Authorization::parse("Digest T") == Some(Authorization::Other));
        assert!(Authorization::parse("BearerT").is_none());
    }
}
