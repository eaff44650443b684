//! Distinguished names: read from a certificate or from the text form of RFC 4514, and compared by
//! meaning.

use std::fmt::{self, Display, Write};

use x509_cert::attr::AttributeTypeAndValue;
use x509_cert::der::asn1::ObjectIdentifier;
use x509_cert::der::{Decode, Encode, Tag, Tagged, asn1::Any};
use x509_cert::name::Name;

use crate::domain::Fault;
use crate::domain::folding::fold;

/// The longest text of a name.
pub const MAX_NAME_BYTES: usize = 1024;

/// The attribute types with a keyword: those of RFC 4514, section 3, and those that certificates of
/// organisations, people and devices have. The values of all of them are compared without regard to
/// case (RFC 4519, RFC 5280 appendix A).
const KEYWORDS: &[(&str, ObjectIdentifier)] = &[
    ("CN", oid("2.5.4.3")),
    ("SN", oid("2.5.4.4")),
    ("SERIALNUMBER", oid("2.5.4.5")),
    ("C", oid("2.5.4.6")),
    ("L", oid("2.5.4.7")),
    ("ST", oid("2.5.4.8")),
    ("STREET", oid("2.5.4.9")),
    ("O", oid("2.5.4.10")),
    ("OU", oid("2.5.4.11")),
    ("TITLE", oid("2.5.4.12")),
    ("BUSINESSCATEGORY", oid("2.5.4.15")),
    ("POSTALCODE", oid("2.5.4.17")),
    ("GN", oid("2.5.4.42")),
    ("DNQUALIFIER", oid("2.5.4.46")),
    ("ORGANIZATIONIDENTIFIER", oid("2.5.4.97")),
    ("UID", oid("0.9.2342.19200300.100.1.1")),
    ("DC", oid("0.9.2342.19200300.100.1.25")),
    ("EMAILADDRESS", oid("1.2.840.113549.1.9.1")),
    ("JURISDICTIONL", oid("1.3.6.1.4.1.311.60.2.1.1")),
    ("JURISDICTIONST", oid("1.3.6.1.4.1.311.60.2.1.2")),
    ("JURISDICTIONC", oid("1.3.6.1.4.1.311.60.2.1.3")),
];

const fn oid(text: &str) -> ObjectIdentifier {
    ObjectIdentifier::new_unwrap(text)
}

/// The name of a subject. Two are equal if they have the same parts in the same order (RFC 5280,
/// section 7.1): the values of known attributes are compared folded, with runs of spaces as one,
/// whatever string type they have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DistinguishedName {
    /// In the order of the certificate: the part that [`Display`] writes last is first. Each part
    /// is a sorted set.
    parts: Vec<Vec<Attribute>>,
}

#[derive(Clone, Debug)]
struct Attribute {
    kind: ObjectIdentifier,
    value: Value,
}

#[derive(Clone, Debug)]
enum Value {
    Text(String),
    /// DER of a type that is no text.
    Der(Vec<u8>),
}

impl DistinguishedName {
    /// The name in a certificate.
    pub(super) fn of(name: &Name) -> Result<Self, Fault> {
        let parts: Vec<_> =
            name.iter_rdn().map(|part| set(part.iter().map(Attribute::of))).collect();
        Ok(Self { parts: parts.into_iter().collect::<Result<_, _>>()? })
    }

    /// Parses the text form of RFC 4514, which starts with the part that is last in the
    /// certificate. Spaces around separators are allowed, as many tools write them.
    pub fn parse(text: &str) -> Result<Self, Fault> {
        if text.trim().is_empty() {
            return Err(Fault::new("must not be empty"));
        }
        if text.len() > MAX_NAME_BYTES {
            return Err(Fault::new(format!("must have at most {MAX_NAME_BYTES} bytes")));
        }
        if text.trim_start().starts_with('/') {
            return Err(Fault::new(
                "must be in the form of RFC 4514, such as CN=app,O=Acme: \
                 see `openssl x509 -noout -subject -nameopt RFC2253`",
            ));
        }
        let mut parser = Parser { rest: text };
        let mut parts = Vec::new();
        loop {
            let mut part = vec![parser.attribute()];
            while parser.skip('+') {
                part.push(parser.attribute());
            }
            parts.push(set(part.into_iter())?);
            if !parser.skip(',') {
                break;
            }
        }
        if !parser.rest.is_empty() {
            return Err(parser.fault("has something else than , or + after a value"));
        }
        parts.reverse();
        Ok(Self { parts })
    }
}

/// A part of a name, sorted. An attribute type can be in it once.
fn set(part: impl Iterator<Item = Result<Attribute, Fault>>) -> Result<Vec<Attribute>, Fault> {
    let mut part: Vec<_> = part.collect::<Result<_, _>>()?;
    part.sort_by_key(|attribute| attribute.kind);
    if part.windows(2).any(|two| matches!(two, [a, b] if a.kind == b.kind)) {
        return Err(Fault::new("must not have an attribute twice in one part"));
    }
    Ok(part)
}

impl Attribute {
    fn of(attribute: &AttributeTypeAndValue) -> Result<Self, Fault> {
        let value = Value::of(&attribute.value)?;
        Ok(Self { kind: attribute.oid, value })
    }

    fn keyword(&self) -> Option<&'static str> {
        KEYWORDS.iter().find(|(_, kind)| *kind == self.kind).map(|(keyword, _)| *keyword)
    }
}

impl PartialEq for Attribute {
    fn eq(&self, other: &Self) -> bool {
        if self.kind != other.kind {
            return false;
        }
        match (&self.value, &other.value) {
            // The matching rule of a type without a keyword is not known here.
            (Value::Text(one), Value::Text(other)) if self.keyword().is_none() => one == other,
            (Value::Text(one), Value::Text(other)) => prepared(one) == prepared(other),
            (Value::Der(one), Value::Der(other)) => one == other,
            (Value::Text(_), Value::Der(_)) | (Value::Der(_), Value::Text(_)) => false,
        }
    }
}

impl Eq for Attribute {}

/// A text as `caseIgnoreMatch` compares it (RFC 4518).
fn prepared(text: &str) -> String {
    let folded = fold(text);
    folded.split_whitespace().collect::<Vec<_>>().join(" ")
}

impl Value {
    fn of(value: &Any) -> Result<Self, Fault> {
        let bytes = value.value();
        let ascii = || bytes.is_ascii().then(|| String::from_utf8_lossy(bytes).into_owned());
        let text = match value.tag() {
            Tag::Utf8String => String::from_utf8(bytes.to_vec()).ok(),
            Tag::BmpString => {
                let (units, odd) = bytes.as_chunks();
                let units: Vec<_> = units.iter().map(|unit| u16::from_be_bytes(*unit)).collect();
                if odd.is_empty() { String::from_utf16(&units).ok() } else { None }
            }
            // The characters of a TeletexString beyond ASCII depend on who wrote it.
            Tag::PrintableString | Tag::Ia5String | Tag::NumericString | Tag::TeletexString => {
                ascii()
            }
            _ => None,
        };
        match text {
            Some(text) => Ok(Self::Text(text)),
            None => Ok(Self::Der(value.to_der().map_err(|_| Fault::new("cannot be read"))?)),
        }
    }
}

/// Reads the text form from the left.
struct Parser<'a> {
    rest: &'a str,
}

impl Parser<'_> {
    /// A fault, with the text that follows.
    fn fault(&self, what: &str) -> Fault {
        let next: String = self.rest.chars().take(20).collect();
        Fault::new(format!("{what}, at {next:?}; it must be as in CN=app,O=Acme (RFC 4514)"))
    }

    /// Skips a separator, if it is next.
    fn skip(&mut self, separator: char) -> bool {
        let next = self.rest.strip_prefix(separator);
        self.rest = next.unwrap_or(self.rest);
        next.is_some()
    }

    fn attribute(&mut self) -> Result<Attribute, Fault> {
        self.rest = self.rest.trim_start_matches(' ');
        let Some((name, rest)) = self.rest.split_once('=') else {
            return Err(self.fault("has a part without ="));
        };
        let kind = kind(name.trim_end_matches(' '))
            .ok_or_else(|| self.fault("has an attribute that is not known; use its OID"))?;
        self.rest = rest.trim_start_matches(' ');
        let value = if self.skip('#') { self.encoded() } else { self.text() }?;
        Ok(Attribute { kind, value })
    }

    /// The hexadecimal DER of a value (RFC 4514, section 2.4).
    fn encoded(&mut self) -> Result<Value, Fault> {
        let end = self.rest.find([',', '+']).unwrap_or(self.rest.len());
        let (digits, rest) = self.rest.split_at(end);
        let digits = digits.trim_end_matches(' ');
        let der = hex(digits).and_then(|der| Any::from_der(&der).ok());
        let der = der.ok_or_else(|| self.fault("has a # that is not followed by DER in hex"))?;
        self.rest = rest;
        Value::of(&der)
    }

    /// A value with escapes (RFC 4514, section 3).
    fn text(&mut self) -> Result<Value, Fault> {
        let mut bytes = Vec::new();
        // Spaces at the end do not count, unless they are escaped.
        let mut kept = 0;
        loop {
            let mut next = self.rest.chars();
            match next.next() {
                None | Some(',' | '+') => break,
                Some('"' | ';' | '<' | '>' | '\0') => {
                    return Err(self.fault("has a special character without a backslash"));
                }
                Some('\\') => {
                    let (byte, rest) =
                        escaped(next.as_str()).ok_or_else(|| self.fault("has a wrong escape"))?;
                    bytes.push(byte);
                    kept = bytes.len();
                    self.rest = rest;
                    continue;
                }
                Some(c) => {
                    bytes.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
                    kept = if c == ' ' { kept } else { bytes.len() };
                }
            }
            self.rest = next.as_str();
        }
        bytes.truncate(kept);
        if bytes.is_empty() {
            return Err(self.fault("has an empty value"));
        }
        let text = String::from_utf8(bytes).map_err(|_| self.fault("has escapes of no text"))?;
        Ok(Value::Text(text))
    }
}

/// The attribute type of a keyword or a dotted OID.
fn kind(name: &str) -> Option<ObjectIdentifier> {
    if name.starts_with(|c: char| c.is_ascii_digit()) {
        return ObjectIdentifier::new(name).ok();
    }
    let name = if name.eq_ignore_ascii_case("E") { "EMAILADDRESS" } else { name };
    let known = KEYWORDS.iter().find(|(keyword, _)| keyword.eq_ignore_ascii_case(name));
    known.map(|(_, kind)| *kind)
}

/// The byte of an escape after its backslash, and what follows.
fn escaped(after: &str) -> Option<(u8, &str)> {
    let first = after.chars().next()?;
    if " \"#=\\+,;<>".contains(first) {
        return Some((u8::try_from(first).ok()?, after.get(1..)?));
    }
    let digits = after.get(..2)?;
    Some((*hex(digits)?.first()?, after.get(2..)?))
}

pub(super) fn hex(digits: &str) -> Option<Vec<u8>> {
    let (pairs, odd) = digits.as_bytes().as_chunks::<2>();
    if !odd.is_empty() || pairs.is_empty() {
        return None;
    }
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    pairs.iter().map(|[high, low]| Some(digit(*high)? << 4 | digit(*low)?)).collect()
}

/// The text form of RFC 4514.
impl Display for DistinguishedName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, part) in self.parts.iter().rev().enumerate() {
            f.write_str(if index == 0 { "" } else { "," })?;
            for (index, attribute) in part.iter().enumerate() {
                f.write_str(if index == 0 { "" } else { "+" })?;
                attribute.fmt(f)?;
            }
        }
        Ok(())
    }
}

impl Display for Attribute {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.keyword() {
            Some(keyword) => write!(f, "{keyword}=")?,
            None => write!(f, "{}=", self.kind)?,
        }
        match &self.value {
            Value::Text(text) => {
                let last = text.chars().count().saturating_sub(1);
                for (index, c) in text.chars().enumerate() {
                    match c {
                        '"' | '+' | ',' | ';' | '<' | '>' | '\\' => write!(f, "\\{c}")?,
                        '#' | ' ' if index == 0 => write!(f, "\\{c}")?,
                        ' ' if index == last => f.write_str("\\ ")?,
                        c if c.is_ascii_control() => write!(f, "\\{:02x}", u32::from(c))?,
                        c => f.write_char(c)?,
                    }
                }
                Ok(())
            }
            Value::Der(der) => {
                f.write_char('#')?;
                der.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> DistinguishedName {
        DistinguishedName::parse(text).unwrap()
    }

    /// A name from DER, with these string types.
    fn encoded(parts: &[&[(&str, Tag, &[u8])]]) -> DistinguishedName {
        let attribute = |(keyword, tag, bytes): &(&str, Tag, &[u8])| AttributeTypeAndValue {
            oid: kind(keyword).unwrap(),
            value: Any::new(*tag, *bytes).unwrap(),
        };
        let part =
            |part: &&[(&str, Tag, &[u8])]| set(part.iter().map(|a| Attribute::of(&attribute(a))));
        DistinguishedName { parts: parts.iter().map(|p| part(p).unwrap()).collect() }
    }

    #[test]
    fn names_are_compared_by_meaning() {
        for (one, other) in [
            ("CN=app,O=Acme", "cn=APP, o=acme"),
            ("CN=app,O=Acme  Corp", "CN = app , O = Acme Corp "),
            ("CN=a+OU=b,O=c", "OU=b+CN=a,O=c"),
            ("CN=a\\,b", "CN=a\\2cb"),
            ("CN=Lu\\C4\\8Di\\C4\\87", "CN=Lučić"),
            ("CN=Cafe\u{301}", "CN=CAF\u{c9}"),
            ("2.5.4.3=app", "CN=app"),
            ("CN=#0c03617070", "CN=app"),
            ("CN=#1303617070", "CN=app"),
            ("E=a@b.test", "emailAddress=A@B.test"),
            ("1.2.3.4=Text", "1.2.3.4=#0c0454657874"),
        ] {
            assert_eq!(parse(one), parse(other), "{one} {other}");
        }
        for (one, other) in [
            ("CN=app,O=Acme", "O=Acme,CN=app"),
            ("CN=app,O=Acme", "CN=app"),
            ("CN=app,O=Acme", "CN=app+O=Acme"),
            ("CN=app", "OU=app"),
            ("CN=a b", "CN=ab"),
            ("CN=a,CN=b", "CN=b,CN=a"),
            ("CN=a\\,O=b", "CN=a,O=b"),
            ("1.2.3.4=Text", "1.2.3.4=text"),
            ("CN=app\\00", "CN=app"),
        ] {
            assert_ne!(parse(one), parse(other), "{one} {other}");
        }
    }

    #[test]
    fn string_types_of_certificates_are_read() {
        let wanted = parse("CN=Zo\u{eb},O=Acme");
        let acme: &[(&str, Tag, &[u8])] = &[("O", Tag::PrintableString, b"ACME")];
        for (tag, bytes) in [
            (Tag::Utf8String, "zoë".as_bytes()),
            (Tag::BmpString, &[0, b'Z', 0, b'o', 0, 0xeb][..]),
        ] {
            assert_eq!(encoded(&[acme, &[("CN", tag, bytes)]]), wanted, "{tag}");
        }
        // Not text in every reading, so only its DER is equal.
        let teletex = encoded(&[acme, &[("CN", Tag::TeletexString, &[b'Z', b'o', 0xeb])]]);
        assert_ne!(teletex, wanted);
        assert_eq!(teletex, parse(&teletex.to_string()));
        assert_ne!(encoded(&[&[("CN", Tag::BmpString, &[0xd8, 0])]]), wanted);
    }

    #[test]
    fn text_form_can_be_parsed_again() {
        for text in [
            "CN=app,O=Acme",
            "CN=\\ a\\, b\\+c\\ ,OU=\\#1+UID=x\\\\y",
            "1.2.3.4=\\0a",
            "CN=#0401ff",
            "STREET=a=b",
        ] {
            let name = parse(text);
            assert_eq!(name.to_string(), text);
            assert_eq!(parse(&name.to_string()), name);
        }
    }

    #[test]
    fn malformed_names_are_refused() {
        let long = format!("CN={}", "a".repeat(MAX_NAME_BYTES));
        for text in [
            "",
            "  ",
            "app",
            "=app",
            "CN=",
            "CN= ",
            "CN=a,",
            "CN=a,,O=b",
            "CN=a+",
            "XX=a",
            "1.2.=a",
            "CN=a;O=b",
            "CN=\"a\"",
            "CN=a\\",
            "CN=a\\x",
            "CN=a\\4",
            "CN=\\ff",
            "CN=#",
            "CN=#0c",
            "CN=#0c0",
            "CN=#zz",
            "CN=<a>",
            "/CN=app/O=Acme",
            "CN=a+CN=b",
            &long,
        ] {
            assert!(DistinguishedName::parse(text).is_err(), "{text}");
        }
        assert!(DistinguishedName::parse("/CN=a").unwrap_err().0.contains("RFC2253"));
    }

    #[test]
    fn parser_ends_on_any_text() {
        use proptest::prelude::*;
        proptest!(|(text in "[CNO=,+\\\\#0-9a-f \"é]{0,40}")| {
            if let Ok(name) = DistinguishedName::parse(&text) {
                prop_assert_eq!(&DistinguishedName::parse(&name.to_string()).unwrap(), &name);
            }
        });
    }
}
