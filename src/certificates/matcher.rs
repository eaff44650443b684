//! Which certificates authenticate a client (RFC 8705, section 2): what a credential is registered
//! with, parsed.

use std::sync::Arc;

use jiff::Timestamp;
use tokio_rustls::rustls::crypto::aws_lc_rs;
use tokio_rustls::rustls::pki_types::{CertificateDer, UnixTime};
use tokio_rustls::rustls::server::WebPkiClientVerifier;
use tokio_rustls::rustls::server::danger::ClientCertVerifier;
use tokio_rustls::rustls::{self, CertificateError, RootCertStore};

use super::expected_name::{ExpectedName, field};
use super::parsed::{ParsedCertificate, Validity};
use super::pem;
use crate::domain::{CertificateRule, ClientCertificate, Fault};

/// The most certificates of authorities, and the most thumbprints, of one credential.
pub const MAX_ENTRIES: usize = 8;
/// The most bytes of PEM of one credential.
pub const MAX_PEM_BYTES: usize = 64 * 1024;

/// Which certificates authenticate a client: a [`CertificateRule`], parsed.
#[derive(Clone, Debug)]
pub enum CertificateMatcher {
    Authority(AuthorityMatcher),
    SelfSigned(ThumbprintMatcher),
}

/// What is wrong with a [`CertificateRule`]. An empty field is the rule as a whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RuleFault {
    pub field: &'static str,
    pub fault: Fault,
}

/// `tls_client_auth`: a certificate of one of these authorities, with this name.
#[derive(Clone, Debug)]
pub struct AuthorityMatcher {
    authorities: Vec<CertificateDer<'static>>,
    verifier: Arc<dyn ClientCertVerifier>,
    name: ExpectedName,
}

/// `self_signed_tls_client_auth`: one of these certificates. Who signed it does not matter.
#[derive(Clone, Debug)]
pub struct ThumbprintMatcher {
    thumbprints: Vec<String>,
}

/// Why a certificate does not authenticate a client.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CertificateRefusal {
    #[error("the certificate cannot be read: it {0}")]
    Unreadable(String),
    #[error("the certificate is not valid before {0:.0}")]
    NotYetValid(Timestamp),
    #[error("the certificate has expired at {0:.0}")]
    Expired(Timestamp),
    #[error("no authority of the credential has issued the certificate: {0}")]
    UnknownAuthority(String),
    #[error("the certificate has another name than the credential")]
    OtherName,
    #[error("the certificate is none of the credential's")]
    OtherCertificate,
}

impl CertificateMatcher {
    /// Parses a rule: authorities with one name, or thumbprints.
    pub fn new(rule: &CertificateRule) -> Result<Self, RuleFault> {
        let at = |field| move |fault| RuleFault { field, fault };
        let wrong = |field, words: &str| Err(at(field)(Fault::new(words)));
        match (rule.authorities.trim().is_empty(), &rule.name, rule.thumbprints.is_empty()) {
            (true, _, true) => wrong("", "must have `authorities` and a name, or `thumbprints`"),
            (false, _, false) => {
                wrong("thumbprints", "must be empty if there are `authorities`: use one of them")
            }
            (true, Some(name), false) => {
                wrong(field(name), "must not be set with `thumbprints`, which decide alone")
            }
            (false, None, true) => wrong(
                "",
                "must have a name with `authorities`: one of subject_dn, san_dns, san_uri, \
                 san_ip and san_email",
            ),
            (true, None, false) => {
                let thumbprints = rule.thumbprints.iter().map(String::as_str);
                let matcher = ThumbprintMatcher::new(thumbprints).map_err(at("thumbprints"))?;
                Ok(Self::SelfSigned(matcher))
            }
            (false, Some(name), true) => {
                let name = ExpectedName::new(name).map_err(at(field(name)))?;
                let matcher =
                    AuthorityMatcher::new(&rule.authorities, name).map_err(at("authorities"))?;
                Ok(Self::Authority(matcher))
            }
        }
    }

    /// The rule in the form that is stored: equal rules are equal texts, and what is no certificate
    /// is left out.
    pub fn into_rule(self) -> CertificateRule {
        match self {
            Self::Authority(AuthorityMatcher { authorities, name, .. }) => CertificateRule {
                authorities: authorities.iter().map(pem::encode).collect(),
                name: Some(name.into_domain()),
                thumbprints: Vec::new(),
            },
            Self::SelfSigned(ThumbprintMatcher { thumbprints }) => {
                CertificateRule { thumbprints, ..CertificateRule::default() }
            }
        }
    }

    /// Whether this certificate authenticates the client at `now`.
    pub fn check(
        &self,
        presented: &ClientCertificate,
        now: Timestamp,
    ) -> Result<(), CertificateRefusal> {
        let certificate = current(presented, now)?;
        match self {
            Self::Authority(rule) => rule.check(presented, &certificate, now),
            Self::SelfSigned(rule) => rule.check(&certificate),
        }
    }
}

/// The content of a certificate that is valid at `now`. A connection can live for longer than the
/// certificate of its handshake.
pub fn current(
    presented: &ClientCertificate,
    now: Timestamp,
) -> Result<ParsedCertificate, CertificateRefusal> {
    let certificate = ParsedCertificate::parse(presented.leaf())
        .map_err(|fault| CertificateRefusal::Unreadable(fault.0))?;
    let validity = certificate.validity();
    if !validity.has_started(now) {
        return Err(CertificateRefusal::NotYetValid(validity.starts_at));
    }
    if validity.has_ended(now) {
        return Err(CertificateRefusal::Expired(validity.ends_at));
    }
    Ok(certificate)
}

impl AuthorityMatcher {
    /// A rule for these authorities, in PEM. An authority is a name with a key: a renewed
    /// certificate of it changes nothing, and another key with the same name is another authority.
    /// When its own certificate ends does not matter (RFC 5280, section 6.1.1).
    fn new(authorities: &str, name: ExpectedName) -> Result<Self, Fault> {
        let (mut roots, mut stored) = (RootCertStore::empty(), Vec::new());
        for (der, at) in certificates(authorities)? {
            let wrong = |what: &str| Fault::new(format!("{at}{what}"));
            let certificate = ParsedCertificate::parse(&der).map_err(|fault| wrong(&fault.0))?;
            if !certificate.is_authority() {
                return Err(wrong(
                    "is not of an authority (basicConstraints CA and keyCertSign): \
                     for the certificate of a client itself, use a thumbprint",
                ));
            }
            roots.add(der.clone()).map_err(|error| wrong(&format!("cannot be used: {error}")))?;
            stored.push(der);
        }
        let provider = Arc::new(aws_lc_rs::default_provider());
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider)
            .build()
            .map_err(|error| Fault::new(format!("cannot be used: {error}")))?;
        Ok(Self { authorities: stored, verifier, name })
    }

    fn check(
        &self,
        presented: &ClientCertificate,
        certificate: &ParsedCertificate,
        now: Timestamp,
    ) -> Result<(), CertificateRefusal> {
        if !self.name.is_name_of(certificate) {
            return Err(CertificateRefusal::OtherName);
        }
        let seconds = u64::try_from(now.as_second()).unwrap_or_default();
        let now = UnixTime::since_unix_epoch(std::time::Duration::from_secs(seconds));
        let leaf = CertificateDer::from(presented.leaf());
        let between: Vec<_> = presented.intermediates().map(CertificateDer::from).collect();
        match self.verifier.verify_client_cert(&leaf, &between, now) {
            Ok(_) => Ok(()),
            Err(rustls::Error::InvalidCertificate(CertificateError::UnknownIssuer)) => {
                Err(CertificateRefusal::UnknownAuthority("no path leads to one".to_owned()))
            }
            Err(error) => Err(CertificateRefusal::UnknownAuthority(error.to_string())),
        }
    }
}

impl ThumbprintMatcher {
    /// A rule for certificates with these SHA-256 hashes, in base64url or in hexadecimal.
    fn new<'a>(thumbprints: impl IntoIterator<Item = &'a str>) -> Result<Self, Fault> {
        let thumbprints = thumbprints.into_iter().map(thumbprint).collect::<Result<Vec<_>, _>>()?;
        if thumbprints.is_empty() {
            return Err(Fault::new("must not be empty"));
        }
        if thumbprints.len() > MAX_ENTRIES {
            return Err(too_many("thumbprints"));
        }
        Ok(Self { thumbprints })
    }

    fn check(&self, certificate: &ParsedCertificate) -> Result<(), CertificateRefusal> {
        if self.thumbprints.iter().any(|thumbprint| thumbprint == certificate.thumbprint()) {
            Ok(())
        } else {
            Err(CertificateRefusal::OtherCertificate)
        }
    }
}

/// When the first of these certificates ends. What was accepted before is still accepted until
/// then, if the rule is the same.
pub fn first_end(presented: &ClientCertificate) -> Timestamp {
    let all = std::iter::once(presented.leaf()).chain(presented.intermediates());
    let ends = all.filter_map(|der| Validity::of(&CertificateDer::from(der)).ok());
    ends.map(|validity| validity.ends_at).min().unwrap_or(Timestamp::MIN)
}

/// The thumbprint of the first certificate of a text in PEM: the client's own. Others that follow
/// it are those of its authorities.
pub fn first_thumbprint(text: &str) -> Result<String, Fault> {
    let (der, at) = certificates(text)?.swap_remove(0);
    let parsed = ParsedCertificate::parse(&der);
    let parsed = parsed.map_err(|fault| Fault::new(format!("{at}{}", fault.0)))?;
    Ok(parsed.thumbprint().to_owned())
}

/// The certificates of a text in PEM, each with its place for errors.
fn certificates(text: &str) -> Result<Vec<(CertificateDer<'static>, String)>, Fault> {
    if text.len() > MAX_PEM_BYTES {
        return Err(Fault::new(format!("must have at most {} KiB", MAX_PEM_BYTES / 1024)));
    }
    if text.contains("PRIVATE KEY") {
        return Err(Fault::new("must have no private key: only its owner may have it"));
    }
    let certificates = pem::certificates(text.as_bytes()).map_err(Fault::new)?;
    if certificates.len() > MAX_ENTRIES {
        return Err(too_many("certificates"));
    }
    Ok(certificates)
}

fn too_many(what: &str) -> Fault {
    Fault::new(format!("must have at most {MAX_ENTRIES} {what}"))
}

/// A SHA-256 hash in base64url without padding, from that form or from hexadecimal with or without
/// colons, as `openssl x509 -fingerprint -sha256` writes it.
pub fn thumbprint(text: &str) -> Result<String, Fault> {
    use base64::Engine;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;
    let is_hash = |bytes: &Vec<u8>| bytes.len() == 32;
    let decoded = URL_SAFE_NO_PAD.decode(text).ok().filter(is_hash);
    decoded
        .or_else(|| super::name::hex(&text.replace(':', "")).filter(is_hash))
        .map(|hash| URL_SAFE_NO_PAD.encode(hash))
        .ok_or_else(|| Fault::new("must be a SHA-256 hash in base64url or in hexadecimal"))
}

#[cfg(test)]
mod tests {
    use rcgen::{
        BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose,
        IsCa, KeyPair, KeyUsagePurpose, SanType, date_time_ymd,
    };

    use super::*;
    use crate::domain::CertificateName;

    type Issuer = CertifiedIssuer<'static, KeyPair>;

    fn params(common_name: &str) -> CertificateParams {
        let mut params = CertificateParams::default();
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(DnType::OrganizationName, "Acme");
        params.distinguished_name.push(DnType::CommonName, common_name);
        params
    }

    fn authority_params() -> CertificateParams {
        let mut params = params("Root");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        params
    }

    fn key() -> KeyPair {
        KeyPair::generate().unwrap()
    }

    fn root() -> Issuer {
        CertifiedIssuer::self_signed(authority_params(), key()).unwrap()
    }

    fn leaf(params: &CertificateParams, issuer: &Issuer) -> ClientCertificate {
        let leaf = params.signed_by(&key(), issuer).unwrap();
        ClientCertificate::presented([&leaf.der()[..]]).unwrap()
    }

    fn app() -> ExpectedName {
        ExpectedName::subject("CN=app,O=Acme").unwrap()
    }

    fn rule(root: &Issuer, name: ExpectedName) -> CertificateMatcher {
        CertificateMatcher::Authority(AuthorityMatcher::new(&root.pem(), name).unwrap())
    }

    fn now() -> Timestamp {
        "2026-06-01T12:00:00Z".parse().unwrap()
    }

    fn is_unknown_authority(checked: &Result<(), CertificateRefusal>) -> bool {
        matches!(checked, Err(CertificateRefusal::UnknownAuthority(_)))
    }

    #[test]
    fn authority_is_a_name_with_a_key() {
        let (one, twin) = (root(), root());
        let rule = rule(&one, app());
        assert_eq!(rule.check(&leaf(&params("app"), &one), now()), Ok(()));
        assert!(is_unknown_authority(&rule.check(&leaf(&params("app"), &twin), now())));
        // Neither helps: its certificate as an intermediate, or a copy of the trusted one.
        let forged = params("app").signed_by(&key(), &twin).unwrap();
        for between in [twin.der(), one.der()] {
            let forged = ClientCertificate::presented([&forged.der()[..], &between[..]]).unwrap();
            assert!(is_unknown_authority(&rule.check(&forged, now())));
        }
        // Both in one credential: each issues for itself.
        let both = [one.pem(), twin.pem()].concat();
        let both = CertificateMatcher::Authority(AuthorityMatcher::new(&both, app()).unwrap());
        for issuer in [&one, &twin] {
            assert_eq!(both.check(&leaf(&params("app"), issuer), now()), Ok(()));
        }
    }

    #[test]
    fn renewed_authority_with_the_same_key_is_the_same() {
        let pem = key().serialize_pem();
        let with = |params| {
            CertifiedIssuer::self_signed(params, KeyPair::from_pem(&pem).unwrap()).unwrap()
        };
        let mut ended = authority_params();
        ended.not_before = date_time_ymd(2020, 1, 1);
        ended.not_after = date_time_ymd(2026, 5, 1);
        let (old, renewed) = (with(ended), with(authority_params()));
        let of_renewed = leaf(&params("app"), &renewed);
        for pinned in [&old, &renewed] {
            assert_eq!(rule(pinned, app()).check(&of_renewed, now()), Ok(()));
        }
    }

    #[test]
    fn path_leads_through_intermediates_that_the_client_sent() {
        let root = root();
        let between = |is_ca, name| {
            let mut params = params(name);
            params.is_ca = is_ca;
            CertifiedIssuer::signed_by(params, key(), &root).unwrap()
        };
        let rule = rule(&root, app());
        let sent = |issuer: &CertifiedIssuer<'_, KeyPair>, with: bool| {
            let leaf = params("app").signed_by(&key(), issuer).unwrap();
            let chain = [&leaf.der()[..], &issuer.der()[..]];
            ClientCertificate::presented(chain.into_iter().take(1 + usize::from(with))).unwrap()
        };
        let authority = between(IsCa::Ca(BasicConstraints::Unconstrained), "Issuing");
        assert_eq!(rule.check(&sent(&authority, true), now()), Ok(()));
        assert!(is_unknown_authority(&rule.check(&sent(&authority, false), now())));
        // Another client of the same authority signs for itself.
        let client = between(IsCa::ExplicitNoCa, "client");
        assert!(is_unknown_authority(&rule.check(&sent(&client, true), now())));
    }

    #[test]
    fn certificate_must_have_exactly_the_name_of_the_credential() {
        type Name = ExpectedName;
        let root = root();
        let mut all = params("app");
        all.subject_alt_names = vec![
            SanType::DnsName("other.test".try_into().unwrap()),
            SanType::DnsName("App.test".try_into().unwrap()),
            SanType::URI("spiffe://acme.test/app".try_into().unwrap()),
            SanType::IpAddress([192, 0, 2, 1].into()),
            SanType::Rfc822Name("App@Acme.test".try_into().unwrap()),
        ];
        let full = leaf(&all, &root);
        let accepted = |name: Result<ExpectedName, Fault>, leaf: &ClientCertificate| match rule(
            &root,
            name.unwrap(),
        )
        .check(leaf, now())
        {
            Ok(()) => true,
            Err(CertificateRefusal::OtherName) => false,
            Err(other) => panic!("{other}"),
        };
        for (name, is_accepted) in [
            (Name::subject("cn=APP, o=acme"), true),
            (Name::subject("CN=app"), false),
            (Name::subject("O=Acme,CN=app"), false),
            (Name::subject("CN=App.test,O=Acme"), false),
            (Name::san_dns("app.TEST"), true),
            (Name::san_dns("pp.test"), false),
            (Name::san_dns("app.test.evil.test"), false),
            (Name::san_uri("spiffe://acme.test/app"), true),
            (Name::san_uri("spiffe://acme.test/App"), false),
            (Name::san_uri("spiffe://acme.test/app/"), false),
            (Name::san_ip("192.0.2.1"), true),
            (Name::san_ip("::ffff:192.0.2.1"), false),
            (Name::san_email("App@ACME.test"), true),
            (Name::san_email("app@acme.test"), false),
        ] {
            assert_eq!(accepted(name.clone(), &full), is_accepted, "{name:?}");
            let bare = leaf(&params("other"), &root);
            assert!(!accepted(name, &bare));
        }
        // A name of one type is not a name of another.
        let mut dns = params("x");
        dns.subject_alt_names = vec![SanType::DnsName("app.test".try_into().unwrap())];
        let dns = leaf(&dns, &root);
        assert!(accepted(Name::san_dns("app.test"), &dns));
        assert!(!accepted(Name::san_uri("app:app.test"), &dns));
    }

    #[test]
    fn certificate_counts_between_its_times_only() {
        let root = root();
        let mut times = params("app");
        times.not_before = date_time_ymd(2026, 1, 1);
        times.not_after = date_time_ymd(2027, 1, 1);
        let certificate = leaf(&times, &root);
        let own = ParsedCertificate::parse(certificate.leaf()).unwrap();
        let own = ThumbprintMatcher::new([own.thumbprint()]).unwrap();
        for rule in [rule(&root, app()), CertificateMatcher::SelfSigned(own)] {
            let at = |time: &str| rule.check(&certificate, time.parse().unwrap());
            let (begin, end) = ("2026-01-01T00:00:00Z", "2027-01-01T00:00:00Z");
            let begin_at = begin.parse().unwrap();
            assert_eq!(at("2025-12-31T23:59:59Z"), Err(CertificateRefusal::NotYetValid(begin_at)));
            assert_eq!(at(begin), Ok(()));
            assert_eq!(at(end), Ok(()));
            let ended = at("2027-01-01T00:00:01Z");
            assert_eq!(ended, Err(CertificateRefusal::Expired(end.parse().unwrap())));
        }
    }

    #[test]
    fn purpose_must_include_clients_if_there_is_one() {
        use ExtendedKeyUsagePurpose::{ClientAuth, ServerAuth};
        let root = root();
        let rule = rule(&root, app());
        let with = |purposes: &[ExtendedKeyUsagePurpose]| {
            let mut params = params("app");
            params.extended_key_usages = purposes.to_vec();
            rule.check(&leaf(&params, &root), now())
        };
        assert_eq!(with(&[]), Ok(()));
        assert_eq!(with(&[ClientAuth]), Ok(()));
        assert_eq!(with(&[ServerAuth, ClientAuth]), Ok(()));
        assert!(is_unknown_authority(&with(&[ServerAuth])));
    }

    #[test]
    fn self_signed_certificate_is_known_by_its_hash() {
        let (one, other) = (root(), root());
        let presented = |issuer: &Issuer| ClientCertificate::presented([&issuer.der()[..]]);
        let hash = presented(&one).unwrap().thumbprint();
        let hex: Vec<_> = {
            use base64::Engine;
            let hash = base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(&hash).unwrap();
            hash.iter().map(|byte| format!("{byte:02X}")).collect()
        };
        for rule in [
            ThumbprintMatcher::new([&*hash]),
            ThumbprintMatcher::new([&*hex.join(":")]),
            ThumbprintMatcher::new([&*hex.concat()]),
            ThumbprintMatcher::new([
                &*first_thumbprint(&[one.pem(), other.pem()].concat()).unwrap()
            ]),
        ] {
            let rule = rule.unwrap();
            assert_eq!(rule.thumbprints, [hash.as_str()]);
            let rule = CertificateMatcher::SelfSigned(rule);
            assert_eq!(rule.check(&presented(&one).unwrap(), now()), Ok(()));
            // The same names, another key.
            let refused = rule.check(&presented(&other).unwrap(), now());
            assert_eq!(refused, Err(CertificateRefusal::OtherCertificate));
        }
    }

    #[test]
    fn rules_are_bounded_and_say_what_is_wrong() {
        let root = root();
        let client = params("app").signed_by(&key(), &root).unwrap().pem();
        let signs_no_certificates = {
            let mut params = authority_params();
            params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
            params.self_signed(&key()).unwrap().pem()
        };
        for (authorities, says) in [
            (String::new(), "no CERTIFICATE"),
            (client.clone(), "thumbprint"),
            (signs_no_certificates, "keyCertSign"),
            ([root.pem(), client].concat(), "block 2"),
            (root.pem().repeat(MAX_ENTRIES + 1), "at most 8 certificates"),
            (" ".repeat(MAX_PEM_BYTES + 1), "at most 64 KiB"),
            (root.pem().replace("MII", "MIJ"), "is not a certificate"),
        ] {
            let fault = AuthorityMatcher::new(&authorities, app()).unwrap_err();
            assert!(fault.0.contains(says), "{fault:?}");
        }
        assert!(AuthorityMatcher::new(&root.pem().repeat(MAX_ENTRIES), app()).is_ok());
        let hash = "ungWv48Bz-pBQUDeXa4iI7ADYaOWF3qctBD_YfIAFa0";
        for wrong in ["", "abc", &hash[1..], &"zz".repeat(32), &format!("{hash}=")] {
            assert!(thumbprint(wrong).is_err(), "{wrong}");
        }
        assert!(ThumbprintMatcher::new([]).is_err());
        assert!(ThumbprintMatcher::new([hash; MAX_ENTRIES]).is_ok());
        assert!(ThumbprintMatcher::new([hash; MAX_ENTRIES + 1]).is_err());
        for wrong in ["", "*.test", "a b", "a..b", ".", "a.", "é.test", &"a".repeat(64)] {
            assert!(ExpectedName::san_dns(wrong).is_err(), "{wrong}");
        }
        for wrong in ["", "app", "//x", "1x:y", "spiffe://é", "a b:c"] {
            assert!(ExpectedName::san_uri(wrong).is_err(), "{wrong}");
        }
        for wrong in ["", "@", "a@", "@b", "a b@c", "é@c"] {
            assert!(ExpectedName::san_email(wrong).is_err(), "{wrong}");
        }
        assert!(ExpectedName::san_ip("192.0.2.1/32").is_err());
    }

    #[test]
    fn rule_is_authorities_with_a_name_or_thumbprints() {
        use base64::Engine;
        let root = root().pem();
        let hash = "ungWv48Bz-pBQUDeXa4iI7ADYaOWF3qctBD_YfIAFa0".to_owned();
        let name = Some(CertificateName::SubjectDn("cn = app".to_owned()));
        let rule = |authorities: &str, name: &Option<CertificateName>, hashes: &[String]| {
            let (authorities, name) = (authorities.to_owned(), name.clone());
            CertificateMatcher::new(&CertificateRule {
                authorities,
                name,
                thumbprints: hashes.to_vec(),
            })
        };
        for (authorities, name, hashes, field) in [
            ("", &None, &[][..], ""),
            ("", &name, &[], ""),
            (&root, &None, &[], ""),
            (&root, &name, std::slice::from_ref(&hash), "thumbprints"),
            ("", &name, std::slice::from_ref(&hash), "subject_dn"),
            ("", &None, &["x".to_owned()], "thumbprints"),
            ("x", &name, &[], "authorities"),
            (&root, &Some(CertificateName::SanIp("x".to_owned())), &[], "san_ip"),
            (&[&root, "-----BEGIN PRIVATE KEY-----"].concat(), &name, &[], "authorities"),
        ] {
            let fault = rule(authorities, name, hashes).unwrap_err();
            assert_eq!(fault.field, field, "{fault:?}");
        }
        // What is stored reads back as the same, without comments and in one form.
        let stored = rule(&format!("comment\n{root}\n"), &name, &[]).unwrap().into_rule();
        assert_eq!(stored.authorities.replace("\r\n", "\n"), root.replace("\r\n", "\n"));
        assert_eq!(stored.name, Some(CertificateName::SubjectDn("CN=app".to_owned())));
        assert_eq!(CertificateMatcher::new(&stored).unwrap().into_rule(), stored);
        let hex = super::super::name::hex(&"0f".repeat(32)).unwrap();
        let stored = rule("", &None, &["0F:".repeat(31) + "0f"]).unwrap().into_rule();
        let hash = base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(hex);
        assert_eq!(stored.thumbprints, [hash]);
    }

    #[test]
    fn unreadable_certificate_is_refused() {
        let root = root();
        let leaf = leaf(&params("app"), &root);
        let rule = rule(&root, app());
        for length in [0, 1, 10, 100, leaf.leaf().len() - 1] {
            let cut = ClientCertificate::presented([&leaf.leaf()[..length]]).unwrap();
            assert!(
                matches!(rule.check(&cut, now()), Err(CertificateRefusal::Unreadable(_))),
                "{length}"
            );
        }
    }
}
