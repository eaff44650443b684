//! Flags of credentials of the kind federated.

use clap::Args;
use serde_json::{Value, json};

use super::MaskBuilder;
use super::certificate::CertificateFlags;
use super::public_key::{PublicKeyFlags, view_of_keys};
use crate::proto::admin as pb;
use crate::proto::admin::credential::federated::claim::Condition;
use crate::proto::admin::credential::federated::{Claim, Keys};
use crate::proto::admin::credential::public_key::Keys as PublicKeys;
use crate::proto::admin::credential::{Federated, Registration};

/// Which tokens of a platform are those of the client. An update replaces all of it.
#[derive(Debug, Args)]
pub(super) struct FederatedFlags {
    /// The issuer of the token (iss), exactly. With --subject or --claim; its keys are found by
    /// discovery, or given with --jwks, --jwks-uri or --pem
    #[arg(
        long,
        value_name = "URL",
        group = "whose_subject",
        conflicts_with_all =
            ["ca_file", "certificate", "san_dns", "san_uri", "san_ip", "san_email"],
        help_heading = "Federated"
    )]
    issuer: Option<String>,
    /// A claim that the token must have, as `repository_id=123`; a member of one, as
    /// `/kubernetes.io/namespace=prod`; repeat it for more
    #[arg(
        long,
        value_name = "NAME=VALUE",
        value_parser = claim,
        requires = "issuer",
        help_heading = "Federated"
    )]
    claim: Vec<(String, String)>,
    /// The beginning of a claim, up to a / or a :, as sub=repo:acme/; repeat it for more
    #[arg(
        long,
        value_name = "NAME=PREFIX",
        value_parser = claim,
        requires = "issuer",
        help_heading = "Federated"
    )]
    claim_prefix: Vec<(String, String)>,
    /// What the token is for (aud); repeat it for more [default: the issuer of the server]
    #[arg(long, value_name = "AUDIENCE", requires = "issuer", help_heading = "Federated")]
    audience: Vec<String>,
}

fn claim(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("it must be NAME=VALUE")?;
    Ok((name.to_owned(), value.to_owned()))
}

impl FederatedFlags {
    /// Whether the other flags are about tokens of this issuer. If so, they are applied.
    pub(super) fn apply(
        &self,
        keys: &PublicKeyFlags,
        certificate: &CertificateFlags,
        credential: &mut pb::Credential,
        mask: &mut MaskBuilder,
    ) -> bool {
        let Some(issuer) = &self.issuer else { return false };
        let exact = self.claim.iter().cloned();
        let exact = exact.map(|(name, value)| (name, Condition::Equals(value)));
        let prefixes = self.claim_prefix.iter().cloned();
        let prefixes = prefixes.map(|(name, value)| (name, Condition::Prefix(value)));
        let claims = exact.chain(prefixes);
        credential.registration = Some(Registration::Federated(Federated {
            issuer: issuer.clone(),
            keys: keys.keys().map(|keys| match keys {
                PublicKeys::Jwks(jwks) => Keys::Jwks(jwks),
                PublicKeys::JwksUri(url) => Keys::JwksUri(url),
                PublicKeys::Pem(pem) => Keys::Pem(pem),
            }),
            subject: certificate.subject().unwrap_or_default().to_owned(),
            audiences: self.audience.clone(),
            claims: claims
                .map(|(name, condition)| Claim { name, condition: Some(condition) })
                .collect(),
        }));
        mask.add("federated");
        true
    }
}

/// What a credential is registered with, as JSON.
pub(super) fn view(credential: &pb::Credential) -> Value {
    let Some(Registration::Federated(trust)) = &credential.registration else {
        return Value::Null;
    };
    let keys = trust.keys.clone().map(|keys| match keys {
        Keys::Jwks(jwks) => PublicKeys::Jwks(jwks),
        Keys::JwksUri(url) => PublicKeys::JwksUri(url),
        Keys::Pem(pem) => PublicKeys::Pem(pem),
    });
    let claims = trust.claims.iter().map(|claim| match &claim.condition {
        Some(Condition::Equals(value)) => json!({ "name": claim.name, "equals": value }),
        Some(Condition::Prefix(value)) => json!({ "name": claim.name, "prefix": value }),
        None => json!({ "name": claim.name }),
    });
    json!({
        "issuer": trust.issuer,
        "keys": keys.as_ref().map(view_of_keys),
        "subject": trust.subject,
        "audiences": trust.audiences,
        "claims": claims.collect::<Vec<_>>(),
    })
}
