//! Token exchange (RFC 8693): what a new token was made of, and for whom it acts.

use serde::{Deserialize, Serialize};

use super::{Epochs, Fault, RevocationKeys};
use crate::error::Result;

/// What an exchanged token rests on besides itself: an element of its claim `parents`. If one of
/// them is revoked, so is the token.
///
/// The first element is the client whose access it is: the application in `sub`. The last one is the
/// client that exchanged it, whose credential is the `client_id`. In between are the clients of
/// earlier exchanges, and the actors. A token with a member that this version does not know is
/// invalid, because it cannot be checked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TokenParent {
    /// The application's resource name.
    pub sub: String,
    /// The id of the credential.
    pub client_id: String,
    /// The epochs of tenant, application and credential.
    pub epochs: [i64; 3],
    /// The id of the token that was exchanged. Absent for an API key, and for the last element: its
    /// token is this one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub jti: Option<String>,
    /// The key that signed the token.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kid: Option<String>,
    /// Whether the token was an `actor_token`.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub actor: bool,
}

impl TokenParent {
    /// The maximum number of exchanges in a row.
    pub const MAX_EXCHANGES: usize = 5;
    /// The maximum number of parents of a token, actors included.
    pub const MAX: usize = 16;

    /// The client that these belong to, if it authenticated by itself.
    pub fn client(keys: &RevocationKeys<'_>) -> Self {
        let Epochs { tenant, application, credential } = keys.epochs;
        Self {
            sub: keys.application.to_owned(),
            client_id: keys.credential.to_owned(),
            epochs: [tenant, application, credential],
            jti: keys.token.map(ToOwned::to_owned),
            kid: keys.signing_key.map(ToOwned::to_owned),
            actor: false,
        }
    }

    /// The values that revocations are matched against. All parents are of one tenant.
    pub fn revocation_keys<'a>(&'a self, tenant: &'a str) -> RevocationKeys<'a> {
        RevocationKeys {
            tenant,
            application: &self.sub,
            credential: &self.client_id,
            token: self.jti.as_deref(),
            signing_key: self.kid.as_deref(),
            epochs: Epochs::from(self.epochs),
            parents: &[],
        }
    }

    /// The parents of a token that a client gets for another one, and for an actor's.
    pub fn of_exchange(
        subject: Vec<Self>,
        actor: Vec<Self>,
        client: Self,
    ) -> Result<Vec<Self>, Fault> {
        let actor = actor.into_iter().map(|parent| Self { actor: true, ..parent });
        let parents: Vec<_> = subject.into_iter().chain(actor).chain([client]).collect();
        let clients = parents.iter().filter(|parent| !parent.actor).count();
        if clients > Self::MAX_EXCHANGES + 1 || parents.len() > Self::MAX {
            return Err(Fault::new(format!(
                "was exchanged too often: a token can be exchanged {} times in a row",
                Self::MAX_EXCHANGES
            )));
        }
        Ok(parents)
    }
}

/// Who acts for the subject of a token: its claim `act` (RFC 8693, section 4.1).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TokenActor {
    /// The application's resource name.
    pub sub: String,
    /// The id of the credential.
    pub client_id: String,
    /// Who acted before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub act: Option<Box<Self>>,
}

impl TokenActor {
    /// The actors, the last one first.
    pub fn chain(&self) -> impl Iterator<Item = &Self> {
        std::iter::successors(Some(self), |actor| actor.act.as_deref())
    }
}

/// The type of a token, as a client declares it (RFC 8693, section 3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TokenType {
    AccessToken,
    /// Access tokens are JWTs, and so are those of workloads.
    Jwt,
    /// What many platforms call the token of a workload.
    IdToken,
    /// RFC 8693 has no type for API keys.
    ApiKey,
}

/// What a presented token is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PresentedKind {
    /// A token of this server, or a text that is nothing else.
    AccessToken,
    ApiKey,
    /// A JWT of another issuer.
    Federated,
}

impl TokenType {
    const ALL: [Self; 4] = [Self::AccessToken, Self::Jwt, Self::IdToken, Self::ApiKey];

    /// Reads the type of a subject or actor token.
    pub fn parse(uri: &str) -> Result<Self, Fault> {
        let found = Self::ALL.into_iter().find(|known| known.uri() == uri);
        found.ok_or_else(|| {
            Fault::new(format!(
                "must be urn:ietf:params:oauth:token-type: with access_token, jwt or id_token, or {}",
                Self::ApiKey.uri()
            ))
        })
    }

    /// Reads the type of the token that a client wants.
    pub fn parse_requested(uri: &str) -> Result<Self, Fault> {
        match Self::parse(uri) {
            Ok(found @ (Self::AccessToken | Self::Jwt)) => Ok(found),
            _ => Err(Fault::new(format!(
                "must be {} or {}",
                Self::AccessToken.uri(),
                Self::Jwt.uri()
            ))),
        }
    }

    pub fn uri(self) -> &'static str {
        match self {
            Self::AccessToken => "urn:ietf:params:oauth:token-type:access_token",
            Self::Jwt => "urn:ietf:params:oauth:token-type:jwt",
            Self::IdToken => "urn:ietf:params:oauth:token-type:id_token",
            Self::ApiKey => "urn:keyward:params:oauth:token-type:api_key",
        }
    }

    /// Refuses a declared type that is not what the token is.
    pub fn require(self, kind: PresentedKind) -> Result<(), Fault> {
        let (accepted, what) = match kind {
            PresentedKind::AccessToken => (&[Self::AccessToken, Self::Jwt][..], "an access token"),
            PresentedKind::ApiKey => (&[Self::ApiKey][..], "an API key"),
            PresentedKind::Federated => {
                (&[Self::Jwt, Self::IdToken][..], "a token of another issuer")
            }
        };
        if accepted.contains(&self) {
            return Ok(());
        }
        let accepted: Vec<_> = accepted.iter().map(|one| one.uri()).collect();
        Err(Fault::new(format!("must be {} for {what}", accepted.join(" or "))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parent(client_id: &str, actor: bool) -> TokenParent {
        TokenParent {
            sub: "tenants/acme/applications/crm".to_owned(),
            client_id: client_id.to_owned(),
            epochs: [0; 3],
            jti: None,
            kid: None,
            actor,
        }
    }

    #[test]
    fn sixth_exchange_in_a_row_is_refused() {
        for actor in [vec![], vec![parent("a", false)]] {
            let mut parents = vec![parent("0", false)];
            for number in 1..=TokenParent::MAX_EXCHANGES {
                let client = parent(&number.to_string(), false);
                parents = TokenParent::of_exchange(parents, actor.clone(), client).unwrap();
                assert_eq!(parents[0].client_id, "0", "whose access it is");
                assert_eq!(parents.last().unwrap().client_id, number.to_string());
            }
            TokenParent::of_exchange(parents, actor, parent("6", false)).unwrap_err();
        }
    }

    #[test]
    fn parents_of_actors_are_bounded() {
        let many = vec![parent("a", false); TokenParent::MAX - 2];
        let (subject, client) = (vec![parent("s", false)], parent("c", false));
        let of = |actor| TokenParent::of_exchange(subject.clone(), actor, client.clone());
        let parents = of(many.clone()).unwrap();
        assert!(parents[1..parents.len() - 1].iter().all(|parent| parent.actor));
        of([many, vec![parent("a", false)]].concat()).unwrap_err();
    }

    #[test]
    fn only_the_declared_type_that_the_token_has_is_accepted() {
        use PresentedKind::{AccessToken, ApiKey, Federated};
        for (declared, of, wanted) in [
            (TokenType::AccessToken, &[AccessToken][..], true),
            (TokenType::Jwt, &[AccessToken, Federated], true),
            (TokenType::IdToken, &[Federated], false),
            (TokenType::ApiKey, &[ApiKey], false),
        ] {
            assert_eq!(TokenType::parse(declared.uri()), Ok(declared));
            for kind in [AccessToken, ApiKey, Federated] {
                assert_eq!(declared.require(kind).is_ok(), of.contains(&kind), "{declared:?}");
            }
            let requested = TokenType::parse_requested(declared.uri());
            assert_eq!(requested.is_ok(), wanted, "{declared:?}");
        }
        for other in ["refresh_token", "saml1", "saml2", "Access_token", ""] {
            let uri = format!("urn:ietf:params:oauth:token-type:{other}");
            let fault = TokenType::parse(&uri).unwrap_err();
            assert!(fault.0.len() <= 160, "{}", fault.0);
        }
    }
}
