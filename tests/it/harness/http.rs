//! HTTP requests as clients send them.

use std::str::FromStr;

use reqwest::{Method, RequestBuilder, StatusCode};
use serde_json::Value;

use super::{Credential, Keyward};

/// An answer.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: reqwest::header::HeaderMap,
    pub(crate) body: String,
}

impl Answer {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|_| panic!("not JSON: {}", self.body))
    }

    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    /// The OAuth error code. Fails unless the answer is a correct OAuth error.
    pub(crate) fn error(&self) -> String {
        assert!(self.status.is_client_error() || self.status.is_server_error(), "{self:?}");
        assert_eq!(self.header("content-type"), "application/json", "{self:?}");
        assert_eq!(self.header("cache-control"), "no-store", "{self:?}");
        let body = self.json();
        assert!(body["error_description"].is_string(), "{self:?}");
        body["error"].as_str().unwrap().to_owned()
    }
}

impl Keyward {
    pub(crate) fn request(&self, method: Method, path: &str) -> RequestBuilder {
        reqwest::Client::new().request(method, self.url(path))
    }

    pub(crate) async fn send(&self, request: RequestBuilder) -> Answer {
        let response = request.send().await.unwrap();
        Answer {
            status: response.status(),
            headers: response.headers().clone(),
            body: response.text().await.unwrap(),
        }
    }

    /// The status of one of the operations paths.
    pub(crate) async fn ops(&self, path: &str) -> StatusCode {
        reqwest::get(format!("http://{}{path}", self.server().ops)).await.unwrap().status()
    }

    /// The value of a metric without labels.
    pub(crate) async fn metric<T: FromStr>(&self, name: &str) -> T {
        let metrics = reqwest::get(format!("http://{}/metrics", self.server().ops)).await.unwrap();
        let metrics = metrics.text().await.unwrap();
        let value = metrics.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        let value = value.and_then(|value| value.parse().ok());
        value.unwrap_or_else(|| panic!("no {name} in {metrics}"))
    }

    /// Posts a form without client authentication.
    pub(crate) async fn post(&self, path: &str, form: &[(&str, &str)]) -> Answer {
        self.send(self.request(Method::POST, path).form(form)).await
    }

    /// Posts a form with Basic authentication.
    pub(crate) async fn post_as(
        &self,
        client: &Credential,
        path: &str,
        form: &[(&str, &str)],
    ) -> Answer {
        let request = self.request(Method::POST, path);
        self.send(request.basic_auth(&client.client_id, Some(&client.secret)).form(form)).await
    }

    /// Requests a token with Basic authentication.
    pub(crate) async fn token_for(&self, client: &Credential, form: &[(&str, &str)]) -> Answer {
        let mut form = form.to_vec();
        form.push(("grant_type", "client_credentials"));
        self.post_as(client, "/oauth2/token", &form).await
    }
}
