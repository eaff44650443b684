//! From the request of a client to the question about it.

use std::net::IpAddr;

use jiff::Timestamp;

use super::credential::CredentialPlace;
use super::described::{DescribedRequest, RequestFault};
use super::options::GatewayOptions;
use super::{certificate, credential};
use crate::domain::{AccessQuestion, Possession, PresentedProof, RequestPath, Requirement};
use crate::secrets::Secret;

const DPOP: &str = "dpop";

/// The question about a request.
#[derive(Debug)]
pub struct GatewayQuestion {
    pub token: Secret,
    pub place: CredentialPlace,
    pub question: AccessQuestion,
}

impl GatewayQuestion {
    /// Reads a request. Its path comes first, so that a request that could mean two things is
    /// charged to no credential.
    pub fn of(
        request: &DescribedRequest<'_>,
        options: &GatewayOptions,
        source: Option<IpAddr>,
        now: Timestamp,
    ) -> Result<Self, RequestFault> {
        let (path, query) = request.target.split_once('?').unwrap_or((request.target, ""));
        RequestPath::parse(path)
            .map_err(|fault| RequestFault::ambiguous(format!("the path is not plain: {fault}")))?;
        if request.method.is_empty() {
            return Err(RequestFault::ambiguous("the method is missing"));
        }
        let (token, place) =
            credential::find(&request.headers, query, options.key_header.as_deref())?;
        let certificate = match request.certificate {
            Some(text) => certificate::thumbprint(text, now)?,
            None => None,
        };
        let proof = match place {
            CredentialPlace::Dpop => Some(proof(request, path, options)?),
            // The scheme is how a client says that its token is bound (RFC 9449, section 7.1).
            CredentialPlace::Bearer | CredentialPlace::KeyHeader => None,
        };
        let question = AccessQuestion {
            requirement: Requirement::Endpoint {
                method: request.method.to_owned(),
                path: path.to_owned(),
            },
            items: items(request, options)?,
            audience: None,
            source,
            peek: false,
            possession: Possession { key: None, certificate },
            proof,
        };
        Ok(Self { token, place, question })
    }
}

/// The proof of a request. Its URL is the configured one: what the headers of the request say of
/// scheme and host is the client's.
fn proof(
    request: &DescribedRequest<'_>,
    path: &str,
    options: &GatewayOptions,
) -> Result<PresentedProof, RequestFault> {
    let base = options.public_url.as_deref();
    let base = base.ok_or(RequestFault::NoProof("DPoP is not accepted here"))?;
    let mut values = request.headers.values(DPOP);
    let first = values.next().ok_or(RequestFault::NoProof("no DPoP proof came with the token"))?;
    let only = values.next().is_none();
    Ok(PresentedProof {
        proof: only.then(|| String::from_utf8_lossy(first).into_owned()),
        method: request.method.to_owned(),
        url: format!("{base}{path}"),
    })
}

fn items(request: &DescribedRequest<'_>, options: &GatewayOptions) -> Result<i64, RequestFault> {
    let Some(name) = options.items_header.as_deref() else { return Ok(0) };
    let Some(value) = request.headers.single(name)? else { return Ok(0) };
    let is_number = !value.is_empty() && value.bytes().all(|b| b.is_ascii_digit());
    let number = if is_number { value.parse().ok() } else { None };
    number.ok_or_else(|| RequestFault::Ambiguous(format!("the header {name} must be a number")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gateway::DescribedHeaders;

    fn asked(
        method: &str,
        target: &str,
        headers: &[(&str, &str)],
        options: &GatewayOptions,
    ) -> Result<GatewayQuestion, RequestFault> {
        let headers: DescribedHeaders<'_> =
            headers.iter().map(|(name, value)| (*name, value.as_bytes())).collect();
        let request = DescribedRequest { method, target, headers, certificate: None };
        GatewayQuestion::of(&request, options, None, Timestamp::UNIX_EPOCH)
    }

    const BEARER: (&str, &str) = ("authorization", "Bearer t");

    #[test]
    fn path_with_two_readings_is_refused_and_query_is_ignored() {
        let options = GatewayOptions::default();
        for target in [
            "",
            "?x",
            "*",
            "example.com:443",
            "http://host/v1",
            "//admin",
            "/%",
            "/a%zz",
            "/public/..;/admin",
            "/admin;x=1/users",
            "/public%2F..%2Fadmin",
            "/admin%5Cusers",
            "/%252e%252e/admin",
            "/a%00",
        ] {
            let refused = asked("GET", target, &[BEARER], &options).unwrap_err();
            assert!(matches!(refused, RequestFault::Ambiguous(_)), "{target}: {refused:?}");
        }
        for (target, path) in [("/ping?q=%0A", "/ping"), ("/ping?q=%zz&..;/", "/ping"), ("/", "/")]
        {
            let question = asked("GET", target, &[BEARER], &options).unwrap().question;
            let expected =
                Requirement::Endpoint { method: "GET".to_owned(), path: path.to_owned() };
            assert_eq!(question.requirement, expected, "{target}");
        }
        assert!(asked("", "/", &[BEARER], &options).is_err(), "no method");
    }

    #[test]
    fn items_are_one_number() {
        let options =
            GatewayOptions { items_header: Some("x-items".to_owned()), ..Default::default() };
        let items = |values: &[&str]| {
            let mut headers = vec![BEARER];
            headers.extend(values.iter().map(|value| ("X-Items", *value)));
            asked("GET", "/", &headers, &options).map(|asked| asked.question.items)
        };
        assert_eq!(items(&[]), Ok(0));
        assert_eq!(items(&["007"]), Ok(7));
        for bad in
            [&[""][..], &["-1"], &["+1"], &["1.0"], &["5,6"], &["5", "5"], &["9".repeat(30).leak()]]
        {
            assert!(matches!(items(bad), Err(RequestFault::Ambiguous(_))), "{bad:?}");
        }
    }

    #[test]
    fn proof_is_for_the_configured_url_and_the_path_as_sent() {
        let mut options = GatewayOptions::default();
        let dpop = ("authorization", "DPoP t");
        let sent = [dpop, ("dpop", "p"), ("host", "evil"), ("x-forwarded-proto", "gopher")];
        let refused = asked("GET", "/a", &sent, &options).unwrap_err();
        assert_eq!(refused, RequestFault::NoProof("DPoP is not accepted here"));
        options.public_url = Some("https://api.example".to_owned());
        let proof =
            |sent: &[_]| asked("GET", "/a%20b/?x=1", sent, &options).map(|q| q.question.proof);
        let expected = PresentedProof {
            proof: Some("p".to_owned()),
            method: "GET".to_owned(),
            url: "https://api.example/a%20b/".to_owned(),
        };
        assert_eq!(proof(&sent), Ok(Some(expected.clone())));
        let twice = proof(&[dpop, ("dpop", "p"), ("dpop", "p")]);
        assert_eq!(twice, Ok(Some(PresentedProof { proof: None, ..expected })));
        assert!(matches!(proof(&[dpop]), Err(RequestFault::NoProof(_))));
        assert_eq!(proof(&[BEARER, ("dpop", "p")]), Ok(None), "a bearer token proves nothing");
    }
}
