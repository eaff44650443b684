//! Trust in the tokens of another issuer: which workload of a platform is which client.
//!
//! A trust is a part of one credential. It has an issuer, keys, and conditions that only the tokens
//! of one workload meet. All comparisons are of whole texts, character by character. The only
//! exception is a prefix, which starts at the beginning and ends at a delimiter, so that
//! `repo:acme/app` is never taken for `repo:acme/app-evil`.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::KeySource;

/// The token of a workload that stands for a client.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Federation {
    /// The `iss` claim.
    pub issuer: String,
    /// `None`: by discovery.
    pub keys: Option<KeySource>,
    /// The `sub` claim. Empty: only `claims` decide.
    pub subject: String,
    /// One of these is in the `aud` claim. Empty: the issuer of this server.
    pub audiences: Vec<String>,
    /// Conditions that must all be met.
    pub claims: Vec<ClaimRule>,
}

/// A condition for a claim.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClaimRule {
    /// The name of a claim, or the path to a member of a claim that is an object: a JSON Pointer
    /// (RFC 6901), which begins with `/`.
    pub name: String,
    pub condition: ClaimCondition,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ClaimCondition {
    Equals(String),
    Prefix(String),
}

impl Federation {
    /// Whether every token that `before` accepts is still accepted. If not, tokens that were issued
    /// before must be revoked.
    pub fn keeps(&self, before: &Self) -> bool {
        let keys = match (&self.keys, &before.keys) {
            (Some(after), Some(before)) => after.keeps(before),
            (after, before) => after == before,
        };
        // An empty list stands for an audience that is not in it.
        let audiences = self.audiences.is_empty() == before.audiences.is_empty()
            && before.audiences.iter().all(|audience| self.audiences.contains(audience));
        keys && audiences
            && self.issuer == before.issuer
            && (self.subject.is_empty() || self.subject == before.subject)
            && self.claims.iter().all(|rule| before.claims.contains(rule))
    }

    /// The memory of its texts in bytes, roughly.
    pub(super) fn memory(&self) -> usize {
        let keys = self.keys.as_ref().map_or(0, KeySource::memory);
        let audiences = self.audiences.iter().map(|text| 24 + text.len());
        let claims = self.claims.iter().map(|rule| {
            let (ClaimCondition::Equals(value) | ClaimCondition::Prefix(value)) = &rule.condition;
            56 + rule.name.len() + value.len()
        });
        self.issuer.len() + self.subject.len() + keys + audiences.chain(claims).sum::<usize>()
    }

    /// Whether a token with these claims is one of the workload, or why not, for the log. `server` is
    /// the issuer of this server. Signature and times are not checked here.
    pub fn require(
        &self,
        claims: &Map<String, Value>,
        audiences: &[String],
        server: &str,
    ) -> Result<(), &'static str> {
        let is = |name: &str, wanted: &str| {
            claims.get(name).and_then(Value::as_str).is_some_and(|value| value == wanted)
        };
        if !is("iss", &self.issuer) {
            return Err("iss is not the issuer of the credential");
        }
        let is_wanted = |audience: &String| {
            if self.audiences.is_empty() {
                audience == server
            } else {
                self.audiences.contains(audience)
            }
        };
        if !audiences.iter().any(is_wanted) {
            return Err("aud has none of the audiences of the credential");
        }
        if !self.subject.is_empty() && !is("sub", &self.subject) {
            return Err("sub is not the subject of the credential");
        }
        if !self.claims.iter().all(|rule| rule.is_met(claims)) {
            return Err("a claim is not as the credential says");
        }
        Ok(())
    }
}

impl ClaimRule {
    fn is_met(&self, claims: &Map<String, Value>) -> bool {
        let Some(value) = find(claims, &self.name) else { return false };
        match (&self.condition, value) {
            (ClaimCondition::Equals(wanted), Value::String(text)) => text == wanted,
            (ClaimCondition::Equals(wanted), Value::Number(_) | Value::Bool(_)) => {
                let text = value.to_string();
                text == *wanted
            }
            (ClaimCondition::Prefix(prefix), Value::String(text)) => {
                text.len() > prefix.len() && text.starts_with(prefix)
            }
            _ => false,
        }
    }
}

/// The claim of this name, or the member that a JSON Pointer leads to. Elements of arrays have no
/// name that lasts, so they are not found.
fn find<'a>(claims: &'a Map<String, Value>, name: &str) -> Option<&'a Value> {
    let Some(path) = name.strip_prefix('/') else { return claims.get(name) };
    let mut steps = path.split('/').map(|step| step.replace("~1", "/").replace("~0", "~"));
    let first = claims.get(&steps.next()?)?;
    steps.try_fold(first, |value, step| value.as_object()?.get(&step))
}

#[cfg(test)]
mod tests {
    use super::*;

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

    fn meets(rule: &ClaimRule, claims: &Value) -> bool {
        rule.is_met(claims.as_object().unwrap())
    }

    #[test]
    fn conditions_compare_whole_texts() {
        let claims = serde_json::json!({
            "sub": "repo:acme/app-evil:ref:refs/heads/main", "n": 17, "yes": true, "s": "17",
            "list": ["a"], "none": null, "a/b": "slash", "/x": "literal",
            "kubernetes.io": { "namespace": "prod", "serviceaccount": { "uid": "u1", "a~b/c": "d" } },
        });
        for (rule, is_met) in [
            (equals("n", "17"), true),
            (equals("s", "17"), true),
            (equals("n", "17.0"), false),
            (equals("yes", "true"), true),
            (equals("none", "null"), false),
            (equals("list", "a"), false),
            (equals("/list/0", "a"), false),
            (equals("a/b", "slash"), true),
            (equals("/a~1b", "slash"), true),
            (equals("/kubernetes.io/namespace", "prod"), true),
            (equals("/kubernetes.io/serviceaccount/uid", "u1"), true),
            (equals("/kubernetes.io/serviceaccount/a~0b~1c", "d"), true),
            (equals("/kubernetes.io/serviceaccount", "u1"), false),
            (equals("/kubernetes.io/namespace/prod", "prod"), false),
            (equals("kubernetes.io/namespace", "prod"), false),
            (equals("sub", "repo:acme/app"), false),
            (prefix("sub", "repo:acme/app:"), false),
            (prefix("sub", "repo:acme/"), true),
            (prefix("sub", "Repo:acme/"), false),
            (prefix("sub", "acme/"), false),
            (prefix("sub", "repo:acme/app-evil:ref:refs/heads/main"), false),
            (prefix("n", "1"), false),
            (prefix("absent", "a/"), false),
        ] {
            assert_eq!(meets(&rule, &claims), is_met, "{rule:?}");
        }
    }

    #[test]
    fn wider_trust_keeps_tokens_and_narrower_one_does_not() {
        let (a, b) = (equals("a", "1"), equals("b", "2"));
        let before = trust("s", vec![a.clone(), b.clone()]);
        let with = |audiences: &[&str]| Federation {
            audiences: audiences.iter().map(|one| (*one).to_owned()).collect(),
            ..before.clone()
        };
        for (after, keeps) in [
            (before.clone(), true),
            (trust("s", vec![b.clone(), a.clone()]), true),
            (trust("s", vec![a.clone()]), true),
            (trust("", vec![a.clone()]), true),
            (trust("t", vec![a.clone()]), false),
            (trust("s", vec![a.clone(), b.clone(), equals("c", "3")]), false),
            (trust("s", vec![equals("a", "2")]), false),
            (with(&["x"]), false),
            (
                Federation {
                    keys: Some(KeySource::JwksUri("https://issuer.example/keys".to_owned())),
                    ..before.clone()
                },
                false,
            ),
            (Federation { issuer: "https://other.example".to_owned(), ..before.clone() }, false),
        ] {
            assert_eq!(after.keeps(&before), keeps, "{after:?}");
        }
        assert!(with(&["x", "y"]).keeps(&with(&["y"])));
        assert!(!with(&["x"]).keeps(&with(&["x", "y"])));
        assert!(!before.keeps(&with(&["x"])), "without audiences it is for this server");
    }
}
