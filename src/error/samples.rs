//! One error of each kind, for tests of the interfaces.

use std::time::Duration;

use jiff::Timestamp;

use super::{Error, FieldViolation, Need};

const CRM: &str = "tenants/acme/applications/crm";

pub(crate) fn samples() -> Vec<Error> {
    let name = || CRM.to_owned();
    let field = |field: &str, description: &str| FieldViolation {
        field: field.to_owned(),
        description: description.to_owned(),
    };
    let needs = [
        Need::Scope("keyward.verify"),
        Need::Platform,
        Need::ActingUser,
        Need::EnabledUser("tenants/acme/users/sam".to_owned()),
        Need::Permission("applications.edit.own".to_owned()),
        Need::AllScopes,
        Need::AllScopesFor("tenants/acme/roles/owner".to_owned()),
        Need::Role("tenants/acme/roles/member".to_owned()),
        Need::AllThatWasGiven,
        Need::ExchangeRight,
        Need::Unseen(vec!["users.view".to_owned(), "users.edit".to_owned()], name()),
        Need::RolesOf("tenants/acme/users/sam".to_owned()),
        Need::OtherId(name()),
        Need::PlatformToEnable(name()),
    ];
    let key = || "signingKeys/k1".to_owned();
    let dpop_fault = |with_token| Error::InvalidDpopProof {
        fault: "the claim htm of the DPoP proof must be POST".to_owned(),
        with_token,
    };
    let use_nonce =
        |with_token| Error::UseDpopNonce { nonce: "1780315200.nonce".to_owned(), with_token };
    let others = [
        Error::InvalidFields(vec![
            field("application.display_name", "must not be empty"),
            field("application.scopes[2]", "must be in the catalogue"),
        ]),
        Error::ScopeNotAllowed(vec!["calls.read".to_owned(), "users.read".to_owned()]),
        Error::TokenTooLong(6144),
        Error::AudienceNotAllowed("https://api.example".to_owned()),
        Error::ExchangeNotAllowed,
        Error::ExchangeTargetMissing,
        Error::InvalidPageToken,
        Error::Unauthenticated("the caller is missing"),
        Error::InvalidClient,
        dpop_fault(false),
        dpop_fault(true),
        use_nonce(false),
        use_nonce(true),
        Error::Policy { rule: "max_lifetime", message: "a lifetime of 90 days".to_owned() },
        Error::QuotaExceeded { limit: 20 },
        Error::Protected(name()),
        Error::Expired { name: name(), what_to_do: "extend its expiry" },
        Error::NotViewable(name(), "only its hash is stored"),
        Error::NotYourToken,
        Error::UnsupportedTokenType,
        Error::NotFound(name()),
        Error::AlreadyExists(name()),
        Error::EtagMismatch(name()),
        Error::BuiltIn("tenants/system".to_owned()),
        Error::InUse {
            resource: "tenants/acme/scopes/calls.read".to_owned(),
            by: vec![name()],
            total: 3,
            remedy: "take it from them first",
        },
        Error::RotationInProgress { older_ends: Timestamp::UNIX_EPOCH },
        Error::RotationPending { key: key(), signs_at: Timestamp::UNIX_EPOCH },
        Error::NoSuccessor { key: key(), ready_at: Some(Timestamp::UNIX_EPOCH) },
        Error::NoSuccessor { key: key(), ready_at: None },
        Error::KeyEnded { key: key(), state: "revoked" },
        Error::MasterKeysDiffer {
            server: "keyward-0 (10.0.0.7:50051)".to_owned(),
            difference: "does not have master key 1f2e3d4c, which this server writes with"
                .to_owned(),
        },
        Error::Overloaded { what: "secrets to hash", retry_after: Duration::from_millis(1500) },
        Error::RequestTooLarge { max_bytes: 65_536, form: " when it is decompressed" },
        Error::RateLimited {
            policy: "application",
            name: format!("{CRM} requests"),
            limit: 40,
            window: Duration::from_mins(1),
            retry_after: Duration::from_secs(7),
        },
        Error::CursorTooOld,
        Error::TooSlow,
        Error::Stopping,
        Error::DeadlineExceeded,
        Error::Unavailable("a text of the driver".into()),
        Error::Internal("a text of the driver".into()),
    ];
    needs.into_iter().map(Error::PermissionDenied).chain(others).collect()
}
