//! The baseline over HTTP/1.1: hyper with an answer like that of the token endpoint.

use std::convert::Infallible;
use std::sync::Arc;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use serde::Serialize;
use tokio::net::TcpListener;

use super::Templates;
use super::faces::Signer;

#[derive(Serialize)]
struct Answer<'a> {
    access_token: &'a str,
    token_type: &'static str,
    expires_in: i64,
    scope: &'a str,
}

/// Signs a token for every request.
pub(super) async fn serve(listener: TcpListener, templates: Templates) {
    let signer = Arc::new(Signer::new(&templates));
    let scope: Arc<str> = templates.issued.scopes.join(" ").into();
    let expires_in = templates.issued.expires_in.unwrap_or_default().seconds;
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        stream.set_nodelay(true).unwrap();
        let (signer, scope) = (Arc::clone(&signer), Arc::clone(&scope));
        let service = service_fn(move |request: Request<Incoming>| {
            let (signer, scope) = (Arc::clone(&signer), Arc::clone(&scope));
            async move {
                // The connection can continue only after that.
                request.into_body().collect().await.ok();
                let token = signer.token();
                let answer = Answer {
                    access_token: &token,
                    token_type: "Bearer",
                    expires_in,
                    scope: &scope,
                };
                let body = serde_json::to_vec(&answer).unwrap();
                let response = Response::builder()
                    .header("content-type", "application/json")
                    .header("cache-control", "no-store")
                    .body(Full::new(Bytes::from(body)));
                Ok::<_, Infallible>(response.unwrap())
            }
        });
        tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), service));
    }
}
