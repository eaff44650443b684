//! The description of this interface (`OpenAPI` 3.1). Clients are generated from it, and CI checks the
//! running server with it.

use axum::body::Bytes;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

use super::discovery::CACHE;

pub(super) const PATH: &str = "/oauth2/openapi.json";

const DOCUMENT: &str = include_str!("../../proto/openapi/keyward.json");

/// The document as it is sent. Its server is the configured issuer, not the host of a request. It is
/// made once, when the server starts.
pub(super) fn document(issuer: &str) -> Bytes {
    // A test parses it, so it is never empty.
    let mut document: Value = serde_json::from_str(DOCUMENT).unwrap_or_default();
    let url = issuer.trim_end_matches('/');
    document["servers"] = json!([{ "url": url, "description": "The issuer." }]);
    document.to_string().into()
}

pub(super) fn answer(document: Bytes) -> Response {
    let headers = [(header::CONTENT_TYPE, "application/json"), (header::CACHE_CONTROL, CACHE)];
    (headers, document).into_response()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::error::samples::samples;
    use crate::http::discovery::ListenerMethods;
    use crate::http::error::table;

    fn parsed() -> Value {
        serde_json::from_str(DOCUMENT).unwrap()
    }

    #[test]
    fn every_route_is_documented_and_the_reverse() {
        let routes = crate::http::endpoints(Bytes::new(), ListenerMethods(&[]));
        let routes: BTreeSet<_> = routes.iter().map(|(path, _)| (*path).to_owned()).collect();
        let document = parsed();
        let documented: BTreeSet<_> =
            document["paths"].as_object().unwrap().keys().cloned().collect();
        assert_eq!(routes, documented);
    }

    #[test]
    fn document_has_the_version_of_the_crate() {
        assert_eq!(parsed()["info"]["version"], env!("CARGO_PKG_VERSION"));
    }

    #[test]
    fn issuer_of_the_document_has_no_trailing_slash() {
        let document: Value = serde_json::from_slice(&document("https://id.example/kw/")).unwrap();
        assert_eq!(document["servers"][0]["url"], "https://id.example/kw");
        assert!(document["paths"]["/oauth2/token"].is_object());
    }

    /// The error codes that a response lists.
    fn codes(response: &Value) -> Vec<&str> {
        let schema = &response["content"]["application/json"]["schema"]["allOf"][1];
        let codes = schema["properties"]["error"]["enum"].as_array();
        codes.into_iter().flatten().map(|code| code.as_str().unwrap()).collect()
    }

    /// What no endpoint of this interface answers: it creates nothing.
    const NOT_HERE: [(u16, &str); 1] = [(429, "access_denied")];

    #[test]
    fn status_and_code_of_every_error_are_documented_together() {
        let document = parsed();
        let mut documented = BTreeSet::new();
        for (path, item) in document["paths"].as_object().unwrap() {
            for operation in item.as_object().unwrap().values() {
                for (status, response) in operation["responses"].as_object().unwrap() {
                    let shared = response["$ref"].as_str().unwrap_or_default();
                    let name = shared.rsplit('/').next().unwrap();
                    let response = match shared {
                        "" => response,
                        _ => &document["components"]["responses"][name],
                    };
                    let is_error =
                        status.starts_with(['4', '5']) && response["content"].is_object();
                    assert_eq!(is_error, !codes(response).is_empty(), "{path} {status}");
                    let status = status.parse().unwrap();
                    documented.extend(codes(response).into_iter().map(|code| (status, code)));
                }
            }
        }
        for error in samples() {
            let (status, code) = table(&error);
            let answer = (status.as_u16(), code);
            assert!(documented.contains(&answer) || NOT_HERE.contains(&answer), "{status} {code}");
        }
    }
}
