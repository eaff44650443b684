//! Checks of a trust that an administrator registers: it must name one workload, or a group that is
//! meant, and nothing by accident.

use super::text::text;
use super::{ClaimCondition, Fault, Federation, FieldErrors};

const MAX_AUDIENCES: usize = 16;
const MAX_CLAIMS: usize = 16;
/// The maximum length of an issuer, a subject, an audience and the value of a claim. Tokens with
/// longer ones are refused when they are read.
const MAX_TEXT: usize = 1024;
const MAX_NAME: usize = 256;
const DELIMITERS: [char; 2] = ['/', ':'];
/// Claims with rules of their own.
const CHECKED_BY_ITSELF: [&str; 6] = ["iss", "aud", "exp", "nbf", "iat", "jti"];

impl Federation {
    /// Records what is wrong with a trust that an administrator registers, in fields of `field`.
    /// `server` is the issuer of this server. The form of the issuer as a URL is not checked here.
    pub fn check(&self, server: &str, field: &str, errors: &mut FieldErrors) {
        errors.read(format_args!("{field}.issuer"), issuer(&self.issuer, server));
        if !self.subject.is_empty() {
            errors.read(format_args!("{field}.subject"), exact(&self.subject));
        }
        let audiences = format!("{field}.audiences");
        errors.read_list::<_, Vec<_>>(&audiences, &self.audiences, MAX_AUDIENCES, exact);
        if self.claims.len() > MAX_CLAIMS {
            errors.fault(
                format_args!("{field}.claims"),
                format!("must have at most {MAX_CLAIMS} entries"),
            );
        }
        for (n, rule) in self.claims.iter().take(MAX_CLAIMS).enumerate() {
            let place = format!("{field}.claims[{n}]");
            errors.read(format_args!("{place}.name"), claim_name(&rule.name));
            match &rule.condition {
                ClaimCondition::Equals(value) => {
                    errors.read(format_args!("{place}.equals"), exact(value))
                }
                ClaimCondition::Prefix(value) => {
                    errors.read(format_args!("{place}.prefix"), prefix(&rule.name, value))
                }
            };
        }
        if self.subject.is_empty() && self.claims.is_empty() {
            errors.fault(
                format_args!("{field}.subject"),
                "must be set, or claims: without them, each token of the issuer would be accepted",
            );
        }
    }
}

fn issuer(value: &str, server: &str) -> Result<(), Fault> {
    exact(value)?;
    if value.contains('?') || !value.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(Fault::new("must be an https URL in ASCII without a query"));
    }
    if value == server {
        return Err(Fault::new(
            "is this server: its own tokens are exchanged without a credential for them",
        ));
    }
    Ok(())
}

/// A text that is compared as a whole.
fn exact(value: &str) -> Result<(), Fault> {
    if value.contains('*') {
        return Err(Fault::new(
            "must not contain *: there are no wildcards. Use a claim with a prefix that ends with / \
             or :",
        ));
    }
    text(value, 1, MAX_TEXT).map(drop)
}

fn prefix(claim: &str, value: &str) -> Result<(), Fault> {
    exact(value)?;
    if !value.ends_with(DELIMITERS) {
        return Err(Fault::new(
            "must end with / or :, so that it does not match a longer name with this beginning",
        ));
    }
    let parts = value.split(DELIMITERS).filter(|part| !part.is_empty()).count();
    let needed = if ["sub", "/sub"].contains(&claim) { 2 } else { 1 };
    if parts < needed {
        return Err(Fault::new(
            "matches too much: add the next part of the name, as in repo:acme/ or spiffe://acme.example/",
        ));
    }
    Ok(())
}

fn claim_name(name: &str) -> Result<(), Fault> {
    text(name, 1, MAX_NAME)?;
    if name.contains('*') {
        return Err(Fault::new("must not contain *: there are no wildcards"));
    }
    let first = name.strip_prefix('/').unwrap_or(name).split('/').next().unwrap_or_default();
    if CHECKED_BY_ITSELF.contains(&first) {
        return Err(Fault::new(format!("must not be {first}, which is always checked")));
    }
    let mut escapes = name.split('~').skip(1);
    let has_wrong_escape = escapes.any(|rest| !rest.starts_with(['0', '1']));
    if name.starts_with('/') && (name.split('/').skip(1).any(str::is_empty) || has_wrong_escape) {
        return Err(Fault::new(
            "must be the name of a claim, or a JSON Pointer such as /kubernetes.io/namespace",
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::ClaimRule;
    use crate::error::Error;

    const SERVER: &str = "https://keyward.example";

    fn rule(name: &str, condition: ClaimCondition) -> ClaimRule {
        ClaimRule { name: name.to_owned(), condition }
    }

    fn equals(name: &str, value: &str) -> ClaimRule {
        rule(name, ClaimCondition::Equals(value.to_owned()))
    }

    fn prefix(name: &str, value: &str) -> ClaimRule {
        rule(name, ClaimCondition::Prefix(value.to_owned()))
    }

    fn trust(subject: &str, claims: Vec<ClaimRule>) -> Federation {
        Federation {
            issuer: "https://issuer.example".to_owned(),
            keys: None,
            subject: subject.to_owned(),
            audiences: Vec::new(),
            claims,
        }
    }

    fn faults(trust: &Federation) -> Vec<String> {
        let mut errors = FieldErrors::default();
        trust.check(SERVER, "f", &mut errors);
        match errors.finish(Some(())) {
            Ok(()) => Vec::new(),
            Err(Error::InvalidFields(all)) => all.into_iter().map(|one| one.field).collect(),
            Err(other) => panic!("{other}"),
        }
    }

    #[test]
    fn trust_that_matches_too_much_is_refused() {
        assert!(faults(&trust("a", vec![])).is_empty());
        assert!(faults(&trust("", vec![equals("sub", "a")])).is_empty());
        assert_eq!(faults(&trust("", vec![])), ["f.subject"]);
        assert_eq!(faults(&trust("repo:acme/*", vec![])), ["f.subject"]);
        assert_eq!(faults(&trust("*", vec![])), ["f.subject"]);
        assert_eq!(faults(&trust(" a", vec![])), ["f.subject"]);
        assert_eq!(faults(&trust("a\0", vec![])), ["f.subject"]);
        for wrong in ["", "*", "a/*", "acme", "acme.", "acme@", "/", "::/", "repo:", "spiffe://"] {
            let fields = faults(&trust("", vec![equals("x", "y"), prefix("sub", wrong)]));
            assert_eq!(fields, ["f.claims[1].prefix"], "{wrong}");
        }
        for right in ["repo:acme/", "spiffe://acme.example/", "system:serviceaccount:prod:"] {
            assert!(faults(&trust("", vec![prefix("sub", right)])).is_empty(), "{right}");
        }
        assert!(faults(&trust("", vec![prefix("project_path", "acme/")])).is_empty());
        for name in
            ["iss", "aud", "exp", "nbf", "iat", "jti", "/iss", "/aud/0", "", "*", "/", "/a/"]
        {
            assert_eq!(
                faults(&trust("a", vec![equals(name, "x")])),
                ["f.claims[0].name"],
                "{name}"
            );
        }
        assert_eq!(faults(&trust("a", vec![equals("x", "*")])), ["f.claims[0].equals"]);
        let many = vec![equals("x", "y"); MAX_CLAIMS + 1];
        assert_eq!(faults(&trust("a", many)), ["f.claims"]);
        let own = Federation { issuer: SERVER.to_owned(), ..trust("a", vec![]) };
        assert_eq!(faults(&own), ["f.issuer"]);
        for audience in ["", "*", "a*", " a"] {
            let audiences = vec!["ok".to_owned(), audience.to_owned()];
            let trust = Federation { audiences, ..trust("a", vec![]) };
            assert_eq!(faults(&trust), ["f.audiences[1]"], "{audience}");
        }
    }
}
