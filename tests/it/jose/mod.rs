//! JWTs that others signed: which are read, which verify, and which keys are taken.

mod claims;
mod forged;
mod key_sets;
mod times;

use keyward::internals::jose::{JwtRefusal, KeySet, SignedJwt};
use serde_json::{Value, json};

/// A set that an administrator registers.
fn registered(keys: &[Value]) -> KeySet {
    KeySet::parse_jwks(json!({ "keys": keys }).to_string().as_bytes()).unwrap()
}

/// The verdict on a token's form and signature.
fn verify(token: &str, keys: &KeySet) -> Result<(), JwtRefusal> {
    SignedJwt::parse(token)?.verify_with(keys).map(drop)
}
