//! From the answer to statuses and headers.

use super::credential::CredentialPlace;
use super::described::RequestFault;
use super::options::GatewayOptions;
use crate::domain::{
    AccessAnswer, AccessOutcome as Outcome, LimitHeaders, Principal, error_description,
};
use crate::error::whole_seconds;
use crate::jose::JwsAlgorithm;

/// The headers that say who sent a request. Every allowed request has each of them, without a value
/// if there is none: a header that a client made up never reaches a service.
pub const IDENTITY_HEADERS: [&str; 8] = [
    "x-keyward-tenant",
    "x-keyward-application",
    "x-keyward-credential",
    "x-keyward-roles",
    "x-keyward-scopes",
    "x-keyward-token-id",
    "x-keyward-expires",
    "x-keyward-exchanged-by",
];

const PREFIX: &[u8] = b"x-keyward-";

/// Whether a service could take a header for one of ours. Many frameworks make no difference
/// between `-` and `_`.
pub fn is_own_header(name: &str) -> bool {
    let same = |(a, b): (u8, &u8)| a.to_ascii_lowercase() == *b || (a == b'_' && *b == b'-');
    name.len() >= PREFIX.len() && name.bytes().zip(PREFIX).all(same)
}

/// What a gateway does with a request: passes it on, or answers it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// The HTTP status for the client; 200 if the request is allowed.
    pub status: u16,
    /// The name of the outcome, for logs.
    pub outcome: &'static str,
    /// The code of the error, as OAuth names it. Empty if the request is allowed.
    pub error: &'static str,
    /// The outcome in words.
    pub message: String,
    /// The values of [`IDENTITY_HEADERS`], in their order.
    pub identity: [String; IDENTITY_HEADERS.len()],
    /// Headers for the client, whatever the status: the state of limits, challenges.
    pub client_headers: Vec<(&'static str, String)>,
}

const WWW_AUTHENTICATE: &str = "www-authenticate";

impl Verdict {
    /// The verdict about a request that was checked.
    pub fn of(answer: &AccessAnswer, place: CredentialPlace, options: &GatewayOptions) -> Self {
        let (status, error) = status(answer, place);
        let mut client_headers = Vec::new();
        if let Some(LimitHeaders { policy, state }) = LimitHeaders::of(&answer.limits) {
            client_headers.push(("ratelimit-policy", policy));
            client_headers.push(("ratelimit", state));
        }
        if let Some(wait) = answer.retry_after {
            client_headers.push(("retry-after", whole_seconds(wait).max(1).to_string()));
        }
        if let Some(nonce) = &answer.nonce {
            client_headers.push(("dpop-nonce", nonce.clone()));
        }
        if status == 401 || error == INSUFFICIENT_SCOPE {
            let scopes = answer.missing.join(" ");
            let challenge = Challenge { error, description: &answer.message(), scopes: &scopes };
            client_headers.push((WWW_AUTHENTICATE, challenge.text(place, options)));
        }
        Self {
            status,
            outcome: answer.outcome.into_str(),
            error,
            message: answer.message(),
            identity: answer.principal.as_ref().map(identity).unwrap_or_default(),
            client_headers,
        }
    }

    /// The verdict about a request whose credential was not looked at.
    pub fn refused(fault: &RequestFault, options: &GatewayOptions) -> Self {
        let (status, outcome, error, message) = match fault {
            RequestFault::Ambiguous(text) => (400, "ambiguous", "invalid_request", text.as_str()),
            RequestFault::NoCredential => {
                (401, "no_credential", "", "this needs an access token or an API key")
            }
            RequestFault::NoProof(text) => (401, "not_possessed", INVALID_DPOP_PROOF, *text),
        };
        let challenge = Challenge { error, description: message, scopes: "" };
        let challenge = match fault {
            RequestFault::Ambiguous(_) => None,
            RequestFault::NoCredential => Some(challenge.text(CredentialPlace::Bearer, options)),
            RequestFault::NoProof(_) => Some(challenge.text(CredentialPlace::Dpop, options)),
        };
        Self {
            status,
            outcome,
            error: if error.is_empty() { INVALID_TOKEN } else { error },
            message: message.to_owned(),
            identity: Default::default(),
            client_headers: challenge.map(|text| (WWW_AUTHENTICATE, text)).into_iter().collect(),
        }
    }

    pub fn is_allowed(&self) -> bool {
        self.status == 200
    }

    /// The body of a refusal, as OAuth errors have it.
    pub fn body(&self) -> String {
        let description = error_description(&self.message);
        serde_json::json!({ "error": self.error, "error_description": description }).to_string()
    }
}

const INVALID_TOKEN: &str = "invalid_token";
const INSUFFICIENT_SCOPE: &str = "insufficient_scope";
const INVALID_DPOP_PROOF: &str = "invalid_dpop_proof";

/// The status and the code of the error.
fn status(answer: &AccessAnswer, place: CredentialPlace) -> (u16, &'static str) {
    match answer.outcome {
        Outcome::Allowed => (200, ""),
        Outcome::NotPossessed if answer.nonce.is_some() => (401, "use_dpop_nonce"),
        Outcome::NotPossessed if place == CredentialPlace::Dpop => (401, INVALID_DPOP_PROOF),
        Outcome::NotPossessed
        | Outcome::InvalidToken
        | Outcome::Expired
        | Outcome::Revoked
        | Outcome::WrongAudience => (401, INVALID_TOKEN),
        Outcome::MalformedPath => (400, "invalid_request"),
        Outcome::UnknownEndpoint => (403, "access_denied"),
        Outcome::InsufficientScope => (403, INSUFFICIENT_SCOPE),
        Outcome::TooManyItems => (413, "invalid_request"),
        Outcome::RateLimited | Outcome::TooManyFailures => (429, "temporarily_unavailable"),
        // A decision: an unknown key never passes, whatever a gateway does when Keyward is away.
        Outcome::Overloaded => (503, "temporarily_unavailable"),
    }
}

/// A challenge (RFC 6750, section 3; RFC 9449, section 7.1). It is one line: nginx passes on one.
struct Challenge<'a> {
    /// Empty if the request had no credential.
    error: &'static str,
    description: &'a str,
    scopes: &'a str,
}

impl Challenge<'_> {
    fn text(&self, place: CredentialPlace, options: &GatewayOptions) -> String {
        let text = error_description(self.description);
        let described = [("error", self.error), ("error_description", &text)];
        let described = described.into_iter().filter(|_| !self.error.is_empty());
        let scopes = [("scope", self.scopes)].into_iter().filter(|(_, scopes)| !scopes.is_empty());
        let parameters = [("realm", "keyward")].into_iter().chain(described).chain(scopes);
        let parameters: Vec<_> =
            parameters.map(|(name, value)| format!("{name}=\"{value}\"")).collect();
        let parameters = parameters.join(", ");
        let bearer = format!("Bearer {parameters}");
        if options.public_url.is_none() {
            return bearer;
        }
        let dpop = format!("DPoP {parameters}, algs=\"{}\"", JwsAlgorithm::NAMES.join(" "));
        match place {
            CredentialPlace::Dpop => dpop,
            CredentialPlace::Bearer if self.error.is_empty() => format!("{bearer}, {dpop}"),
            CredentialPlace::Bearer | CredentialPlace::KeyHeader => bearer,
        }
    }
}

/// The values of [`IDENTITY_HEADERS`].
fn identity(principal: &Principal) -> [String; IDENTITY_HEADERS.len()] {
    let application = &principal.credential.application;
    let roles: Vec<_> = principal.roles.iter().map(ToString::to_string).collect();
    let expires = principal.expires_at.map(|end| end.as_second().to_string());
    [
        application.tenant.name(),
        application.to_string(),
        principal.credential.to_string(),
        roles.join(" "),
        principal.scopes.to_string(),
        principal.token_id.clone().unwrap_or_default(),
        expires.unwrap_or_default(),
        principal.exchanged_by.clone().unwrap_or_default(),
    ]
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn answer(outcome: Outcome) -> AccessAnswer {
        AccessAnswer {
            outcome,
            detail: String::new(),
            principal: None,
            missing: Vec::new(),
            limits: Vec::new(),
            max_items: None,
            retry_after: None,
            max_age: Duration::ZERO,
            nonce: None,
        }
    }

    fn header<'a>(verdict: &'a Verdict, name: &str) -> &'a str {
        let found = verdict.client_headers.iter().find(|(other, _)| *other == name);
        found.map_or("", |(_, value)| value)
    }

    #[test]
    fn names_like_ours_are_found_in_any_spelling() {
        for name in IDENTITY_HEADERS.into_iter().chain(["X-Keyward-User", "x_keyward_user"]) {
            assert!(is_own_header(name), "{name}");
        }
        for name in ["x-keyward", "x-keywardtenant", "keyward-user", "x-forwarded-for"] {
            assert!(!is_own_header(name), "{name}");
        }
    }

    #[test]
    fn every_outcome_has_its_status_and_challenge() {
        use CredentialPlace::{Bearer, Dpop};
        let mut options = GatewayOptions::default();
        for (outcome, place, status, error) in [
            (Outcome::InvalidToken, Bearer, 401, "invalid_token"),
            (Outcome::Revoked, Bearer, 401, "invalid_token"),
            (Outcome::NotPossessed, Bearer, 401, "invalid_token"),
            (Outcome::NotPossessed, Dpop, 401, "invalid_dpop_proof"),
            (Outcome::InsufficientScope, Bearer, 403, "insufficient_scope"),
            (Outcome::UnknownEndpoint, Bearer, 403, "access_denied"),
            (Outcome::RateLimited, Bearer, 429, "temporarily_unavailable"),
            (Outcome::TooManyFailures, Bearer, 429, "temporarily_unavailable"),
            (Outcome::Overloaded, Bearer, 503, "temporarily_unavailable"),
            (Outcome::TooManyItems, Bearer, 413, "invalid_request"),
            (Outcome::MalformedPath, Bearer, 400, "invalid_request"),
        ] {
            let verdict = Verdict::of(&answer(outcome), place, &options);
            assert_eq!((verdict.status, verdict.error), (status, error), "{outcome:?}");
            let challenged = status == 401 || error == INSUFFICIENT_SCOPE;
            assert_eq!(!header(&verdict, WWW_AUTHENTICATE).is_empty(), challenged, "{outcome:?}");
        }
        let missing = vec!["a".to_owned(), "b".to_owned()];
        let lacking = AccessAnswer { missing, ..answer(Outcome::InsufficientScope) };
        let verdict = Verdict::of(&lacking, Bearer, &options);
        assert_eq!(
            header(&verdict, WWW_AUTHENTICATE),
            "Bearer realm=\"keyward\", error=\"insufficient_scope\", \
             error_description=\"the token lacks scopes\", scope=\"a b\""
        );
        let verdict = Verdict::refused(&RequestFault::NoCredential, &options);
        assert_eq!(header(&verdict, WWW_AUTHENTICATE), "Bearer realm=\"keyward\"");
        options.public_url = Some("https://api.example".to_owned());
        let verdict = Verdict::refused(&RequestFault::NoCredential, &options);
        assert_eq!(
            header(&verdict, WWW_AUTHENTICATE),
            "Bearer realm=\"keyward\", DPoP realm=\"keyward\", \
             algs=\"ES256 ES384 EdDSA Ed25519 PS256 RS256\""
        );
        let nonce = AccessAnswer { nonce: Some("n".to_owned()), ..answer(Outcome::NotPossessed) };
        let verdict = Verdict::of(&nonce, Dpop, &options);
        assert_eq!(header(&verdict, "dpop-nonce"), "n");
        assert!(
            header(&verdict, WWW_AUTHENTICATE)
                .starts_with("DPoP realm=\"keyward\", error=\"use_dpop_nonce\"")
        );
    }

    #[test]
    fn refused_request_says_when_to_retry() {
        let wait = Some(Duration::from_millis(1500));
        let limited = AccessAnswer { retry_after: wait, ..answer(Outcome::RateLimited) };
        let verdict = Verdict::of(&limited, CredentialPlace::KeyHeader, &GatewayOptions::default());
        assert_eq!(header(&verdict, "retry-after"), "2");
        assert!(!verdict.is_allowed());
        assert_eq!(
            verdict.body(),
            r#"{"error":"temporarily_unavailable","error_description":"a limit is reached"}"#
        );
    }
}
