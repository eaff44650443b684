//! Claims of tokens on the command line and in files.

use prost_types::value::Kind;
use prost_types::{ListValue, Struct, Value};
use serde_json::{Map, Value as Json};

/// `name=value`, or an empty text for no claims.
#[derive(Clone, Debug)]
pub(super) struct ClaimArg(Option<(String, Value)>);

/// The value is JSON if it can be read as JSON, or else a string.
pub(super) fn token_claim(text: &str) -> Result<ClaimArg, String> {
    if text.is_empty() {
        return Ok(ClaimArg(None));
    }
    let (name, value) = text.split_once('=').ok_or("must have the form NAME=VALUE")?;
    let value = serde_json::from_str(value).unwrap_or_else(|_| Json::String(value.to_owned()));
    Ok(ClaimArg(Some((name.to_owned(), to_message(value)))))
}

pub(super) fn token_claims(given: &[ClaimArg]) -> Struct {
    let fields = given.iter().filter_map(|claim| claim.0.clone());
    Struct { fields: fields.collect() }
}

/// Claims of a file.
pub(super) fn message(claims: Map<String, Json>) -> Struct {
    let fields = claims.into_iter().map(|(name, value)| (name, to_message(value)));
    Struct { fields: fields.collect() }
}

pub(super) fn json(claims: Option<&Struct>) -> Json {
    let fields = claims.into_iter().flat_map(|claims| &claims.fields);
    Json::Object(fields.map(|(name, value)| (name.clone(), to_json(value))).collect())
}

fn to_message(value: Json) -> Value {
    let kind = match value {
        Json::Null => Kind::NullValue(0),
        Json::Bool(flag) => Kind::BoolValue(flag),
        Json::Number(number) => Kind::NumberValue(number.as_f64().unwrap_or(f64::NAN)),
        Json::String(text) => Kind::StringValue(text),
        Json::Array(values) => {
            Kind::ListValue(ListValue { values: values.into_iter().map(to_message).collect() })
        }
        Json::Object(fields) => Kind::StructValue(message(fields)),
    };
    Value { kind: Some(kind) }
}

fn to_json(value: &Value) -> Json {
    match value.kind.as_ref() {
        None | Some(Kind::NullValue(_)) => Json::Null,
        Some(Kind::BoolValue(flag)) => Json::Bool(*flag),
        // All numbers in claims are integers.
        #[expect(clippy::cast_possible_truncation, reason = "integers of at most 2^53 - 1")]
        Some(Kind::NumberValue(number)) => Json::from(*number as i64),
        Some(Kind::StringValue(text)) => Json::String(text.clone()),
        Some(Kind::ListValue(list)) => Json::Array(list.values.iter().map(to_json).collect()),
        Some(Kind::StructValue(fields)) => json(Some(fields)),
    }
}
