//! A request as a gateway describes it.

use std::borrow::Cow;

/// A request of a client of the gateway.
#[derive(Clone, Debug)]
pub struct DescribedRequest<'a> {
    pub method: &'a str,
    /// The path and the query, as the client sent them.
    pub target: &'a str,
    pub headers: DescribedHeaders<'a>,
    /// The client's certificate as the gateway writes it. `None` or empty: it showed none.
    pub certificate: Option<&'a str>,
}

/// The headers of a request, repeats included. Names are in lower case.
#[derive(Clone, Debug, Default)]
pub struct DescribedHeaders<'a>(Vec<(Cow<'a, str>, &'a [u8])>);

/// Why a request is refused before its credential is looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RequestFault {
    /// It is malformed or ambiguous. The text says what is.
    Ambiguous(String),
    /// There is no credential of a kind that is known here.
    NoCredential,
    /// A token with the scheme `DPoP`, and why its proof cannot be accepted.
    NoProof(&'static str),
}

impl RequestFault {
    pub(super) fn ambiguous(text: impl Into<String>) -> Self {
        Self::Ambiguous(text.into())
    }
}

impl<'a> DescribedHeaders<'a> {
    pub fn push(&mut self, name: &'a str, value: &'a [u8]) {
        let is_lower = !name.bytes().any(|b| b.is_ascii_uppercase());
        let name = if is_lower { name.into() } else { name.to_ascii_lowercase().into() };
        self.0.push((name, value));
    }

    /// The values of a header, whose name is in lower case.
    pub fn values(&self, name: &str) -> impl Iterator<Item = &'a [u8]> {
        self.0.iter().filter(move |(other, _)| other == name).map(|(_, value)| *value)
    }

    /// The value of a header that must not be repeated.
    pub fn single(&self, name: &str) -> Result<Option<&'a str>, RequestFault> {
        let mut values = self.values(name);
        let Some(value) = values.next() else { return Ok(None) };
        if values.next().is_some() {
            return Err(RequestFault::Ambiguous(format!("the header {name} is repeated")));
        }
        match str::from_utf8(value) {
            Ok(value) if value.is_ascii() => Ok(Some(value.trim())),
            _ => Err(RequestFault::Ambiguous(format!("the header {name} must be ASCII"))),
        }
    }

    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(|(name, _)| name.as_ref())
    }
}

impl<'a> FromIterator<(&'a str, &'a [u8])> for DescribedHeaders<'a> {
    fn from_iter<T: IntoIterator<Item = (&'a str, &'a [u8])>>(each: T) -> Self {
        let mut headers = Self::default();
        for (name, value) in each {
            headers.push(name, value);
        }
        headers
    }
}
