//! Values of the server in `DPoP` proofs (RFC 9449, section 8): a proof with one was made after it.

use std::time::Duration;

use jiff::Timestamp;

use crate::clock::later;
use crate::domain::MAX_CLOCK_LEAD;
use crate::error::Result;
use crate::secrets::{Authenticator, MasterKeys};

/// How long a nonce is accepted.
const LIFETIME: Duration = Duration::from_mins(5);

/// Makes and accepts nonces. A nonce is its time with a code of it, so nothing is stored, and all
/// servers with the same master keys accept it.
#[derive(Debug)]
pub(in crate::service) struct DpopNonces {
    codes: Authenticator,
    /// Whether each proof needs one.
    pub(super) required: bool,
}

impl DpopNonces {
    pub(in crate::service) fn new(master_keys: &MasterKeys, required: bool) -> Result<Self> {
        Ok(Self { codes: Authenticator::new(master_keys, "dpop nonces")?, required })
    }

    /// Whether a proof needs a nonce and has none that is accepted now.
    pub(super) fn are_missing(&self, presented: Option<&str>, now: Timestamp) -> bool {
        self.required && !presented.is_some_and(|nonce| self.accepts(nonce, now))
    }

    /// A nonce of this time.
    pub(super) fn make(&self, now: Timestamp) -> String {
        let second = now.as_second().to_string();
        let code = self.codes.code(&[&second]);
        format!("{second}.{code}")
    }

    fn accepts(&self, nonce: &str, now: Timestamp) -> bool {
        let Some((second, code)) = nonce.split_once('.') else { return false };
        // First the code: then the second is one that a server wrote.
        if !self.codes.accepts(&[second], code) {
            return false;
        }
        let made = second.parse().ok().and_then(|second| Timestamp::from_second(second).ok());
        // The clock of another server may be ahead.
        let ahead = later(now, Duration::from_secs(MAX_CLOCK_LEAD));
        made.is_some_and(|made| made <= ahead && now < later(made, LIFETIME))
    }
}

#[cfg(test)]
mod tests {
    use base64::Engine;
    use base64::engine::general_purpose::STANDARD;

    use super::*;
    use crate::secrets::MasterKey;

    fn nonces(key: u8, required: bool) -> DpopNonces {
        let key = MasterKey::parse(&STANDARD.encode([key; 32])).unwrap();
        DpopNonces::new(&key.into(), required).unwrap()
    }

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    #[test]
    fn nonce_is_accepted_for_five_minutes_by_servers_with_its_key() {
        let [one, other, stranger] = [1, 1, 2].map(|key| nonces(key, true));
        let nonce = one.make(at(10_000));
        assert!(nonce.bytes().all(|byte| byte.is_ascii_graphic() && !b"\"\\".contains(&byte)));
        for (second, accepted) in
            [(9_939, false), (9_940, true), (10_000, true), (10_299, true), (10_300, false)]
        {
            assert_eq!(other.accepts(&nonce, at(second)), accepted, "{second}");
        }
        assert!(!stranger.accepts(&nonce, at(10_000)));
    }

    #[test]
    fn altered_or_missing_nonce_is_not_accepted() {
        let nonces = nonces(1, true);
        let nonce = nonces.make(at(10_000));
        let (second, code) = nonce.split_once('.').unwrap();
        let wrong = [
            String::new(),
            second.to_owned(),
            code.to_owned(),
            format!("10001.{code}"),
            format!("010000.{code}"),
            format!("+10000.{code}"),
            format!("{second}.{}", &code[1..]),
            format!("{nonce}A"),
            format!("{nonce}.x"),
        ];
        for wrong in &wrong {
            assert!(nonces.are_missing(Some(wrong), at(10_000)), "{wrong}");
        }
        assert!(nonces.are_missing(None, at(10_000)));
        assert!(!nonces.are_missing(Some(&nonce), at(10_000)));
        let optional = self::nonces(1, false);
        assert!(!optional.are_missing(None, at(10_000)));
        assert!(!optional.are_missing(Some("anything"), at(10_000)));
    }
}
