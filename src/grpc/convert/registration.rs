//! What clients without a shared secret are registered with.

use super::Mask;
use crate::domain::{
    CertificateName, CertificateRule, ClaimCondition, ClaimRule, Federation, FieldErrors,
    KeySource, Registration,
};
use crate::proto::admin as pb;
use crate::proto::admin::credential::{self as messages, Registration as Message};

/// The new registration, if the mask names it and it is set.
pub(super) fn patch(
    fields: &mut FieldErrors,
    credential: &pb::Credential,
    mask: &Mask<'_>,
) -> Option<Registration> {
    let set = credential.registration.as_ref().map(field);
    for name in ["public_key", "certificate", "federated"] {
        // With `*`, a registration that is not set stays as it is.
        if mask.names(name) && set != Some(name) {
            fields.fault(format!("credential.{name}"), "must be set: a credential needs it");
        }
    }
    let message = credential.registration.as_ref()?;
    if !mask.contains(field(message)) {
        return None;
    }
    registration(fields, message)
}

fn field(message: &Message) -> &'static str {
    match message {
        Message::PublicKey(_) => "public_key",
        Message::Certificate(_) => "certificate",
        Message::Federated(_) => "federated",
    }
}

fn registration(fields: &mut FieldErrors, message: &Message) -> Option<Registration> {
    match message {
        Message::PublicKey(message) => {
            let keys = match message.keys.as_ref() {
                Some(messages::public_key::Keys::Jwks(jwks)) => KeySource::Jwks(jwks.clone()),
                Some(messages::public_key::Keys::JwksUri(url)) => KeySource::JwksUri(url.clone()),
                Some(messages::public_key::Keys::Pem(pem)) => KeySource::Pem(pem.clone()),
                None => {
                    let words = "must have `jwks`, `jwks_uri` or `pem`";
                    fields.fault("credential.public_key", words);
                    return None;
                }
            };
            Some(Registration::PublicKey(keys))
        }
        Message::Certificate(message) => Some(Registration::Certificate(CertificateRule {
            authorities: message.authorities.clone(),
            name: message.name.as_ref().map(certificate_name),
            thumbprints: message.thumbprints.clone(),
        })),
        Message::Federated(message) => federation(fields, message).map(Registration::Federated),
    }
}

fn certificate_name(name: &messages::certificate::Name) -> CertificateName {
    use messages::certificate::Name;
    match name.clone() {
        Name::SubjectDn(text) => CertificateName::SubjectDn(text),
        Name::SanDns(text) => CertificateName::SanDns(text),
        Name::SanUri(text) => CertificateName::SanUri(text),
        Name::SanIp(text) => CertificateName::SanIp(text),
        Name::SanEmail(text) => CertificateName::SanEmail(text),
    }
}

fn federation(fields: &mut FieldErrors, message: &messages::Federated) -> Option<Federation> {
    use messages::federated::Keys;
    use messages::federated::claim::Condition;
    let mut claims = Vec::new();
    for (n, claim) in message.claims.iter().enumerate() {
        let condition = match claim.condition.clone() {
            Some(Condition::Equals(text)) => ClaimCondition::Equals(text),
            Some(Condition::Prefix(text)) => ClaimCondition::Prefix(text),
            None => {
                let field = format!("credential.federated.claims[{n}]");
                fields.fault(field, "must have `equals` or `prefix`");
                return None;
            }
        };
        claims.push(ClaimRule { name: claim.name.clone(), condition });
    }
    Some(Federation {
        issuer: message.issuer.clone(),
        keys: message.keys.clone().map(|keys| match keys {
            Keys::Jwks(jwks) => KeySource::Jwks(jwks),
            Keys::JwksUri(url) => KeySource::JwksUri(url),
            Keys::Pem(pem) => KeySource::Pem(pem),
        }),
        subject: message.subject.clone(),
        audiences: message.audiences.clone(),
        claims,
    })
}

pub(super) fn message(registration: Registration) -> Message {
    match registration {
        Registration::PublicKey(keys) => {
            let keys = match keys {
                KeySource::Jwks(jwks) => messages::public_key::Keys::Jwks(jwks),
                KeySource::JwksUri(url) => messages::public_key::Keys::JwksUri(url),
                KeySource::Pem(pem) => messages::public_key::Keys::Pem(pem),
            };
            Message::PublicKey(messages::PublicKey { keys: Some(keys) })
        }
        Registration::Certificate(rule) => Message::Certificate(messages::Certificate {
            authorities: rule.authorities,
            name: rule.name.map(certificate_name_message),
            thumbprints: rule.thumbprints,
        }),
        Registration::Federated(federation) => Message::Federated(federation_message(federation)),
    }
}

fn certificate_name_message(name: CertificateName) -> messages::certificate::Name {
    use messages::certificate::Name;
    match name {
        CertificateName::SubjectDn(text) => Name::SubjectDn(text),
        CertificateName::SanDns(text) => Name::SanDns(text),
        CertificateName::SanUri(text) => Name::SanUri(text),
        CertificateName::SanIp(text) => Name::SanIp(text),
        CertificateName::SanEmail(text) => Name::SanEmail(text),
    }
}

fn federation_message(federation: Federation) -> messages::Federated {
    use messages::federated::claim::Condition;
    use messages::federated::{Claim, Keys};
    let claims = federation.claims.into_iter().map(|rule| Claim {
        name: rule.name,
        condition: Some(match rule.condition {
            ClaimCondition::Equals(text) => Condition::Equals(text),
            ClaimCondition::Prefix(text) => Condition::Prefix(text),
        }),
    });
    messages::Federated {
        issuer: federation.issuer,
        keys: federation.keys.map(|keys| match keys {
            KeySource::Jwks(jwks) => Keys::Jwks(jwks),
            KeySource::JwksUri(url) => Keys::JwksUri(url),
            KeySource::Pem(pem) => Keys::Pem(pem),
        }),
        subject: federation.subject,
        audiences: federation.audiences,
        claims: claims.collect(),
    }
}
