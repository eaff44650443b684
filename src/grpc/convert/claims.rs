//! Claims of tokens, as values of JSON.

use prost_types::value::Kind;
use prost_types::{ListValue, Struct, Value};

use crate::domain::{ClaimValue, Fault, TokenClaims};

/// The largest integer that a JSON number has in every language (RFC 8259, section 6).
const MAX_INTEGER: f64 = 9_007_199_254_740_991.0;

pub(super) fn token_claims(message: &Struct) -> Result<TokenClaims, Fault> {
    let claims = message.fields.iter().map(|(name, value)| {
        let fault = |words| Fault::new(format!("has the claim {name:?}, which {words}"));
        Ok((name.clone(), claim(value).map_err(fault)?))
    });
    let claims: Vec<_> = claims.collect::<Result<_, Fault>>()?;
    TokenClaims::new(claims)
}

fn claim(value: &Value) -> Result<ClaimValue, &'static str> {
    match value.kind.as_ref() {
        Some(Kind::BoolValue(flag)) => Ok(ClaimValue::Flag(*flag)),
        Some(Kind::StringValue(text)) => Ok(ClaimValue::Text(text.clone())),
        Some(Kind::NumberValue(number)) => integer(*number).map(ClaimValue::Number),
        Some(Kind::ListValue(list)) => list
            .values
            .iter()
            .map(|value| match value.kind.as_ref() {
                Some(Kind::StringValue(text)) => Ok(text.clone()),
                _ => Err("has an element that is not a string"),
            })
            .collect::<Result<_, _>>()
            .map(ClaimValue::Texts),
        Some(Kind::StructValue(_) | Kind::NullValue(_)) | None => {
            Err("must be a string, an integer, a boolean or a list of strings")
        }
    }
}

#[expect(clippy::cast_possible_truncation, reason = "the number is an integer within the bounds")]
fn integer(number: f64) -> Result<i64, &'static str> {
    if number.fract() == 0.0 && number.abs() <= MAX_INTEGER {
        Ok(number as i64)
    } else {
        Err("must be an integer of at most 2^53 - 1")
    }
}

pub(super) fn message(claims: &TokenClaims) -> Option<Struct> {
    if claims.is_empty() {
        return None;
    }
    let text = |text: &String| Value { kind: Some(Kind::StringValue(text.clone())) };
    let value = |value: &ClaimValue| match value {
        ClaimValue::Flag(flag) => Value { kind: Some(Kind::BoolValue(*flag)) },
        #[expect(clippy::cast_precision_loss, reason = "integers are at most 2^53 - 1")]
        ClaimValue::Number(number) => Value { kind: Some(Kind::NumberValue(*number as f64)) },
        ClaimValue::Text(one) => text(one),
        ClaimValue::Texts(all) => {
            let values = all.iter().map(text).collect();
            Value { kind: Some(Kind::ListValue(ListValue { values })) }
        }
    };
    let fields = claims.iter().map(|(name, one)| (name.to_owned(), value(one))).collect();
    Some(Struct { fields })
}
