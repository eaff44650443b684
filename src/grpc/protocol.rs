//! Checks whether a request is a gRPC call ("gRPC over HTTP2" in the grpc repository). Other
//! requests get a plain HTTP answer.

use axum::http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, header};
use tonic::Status;
use tonic::body::Body;
use tonic::metadata::MetadataValue;

/// The accepted content types.
const KINDS: [&str; 2] = ["application/grpc", "application/grpc+proto"];
const ENCODING: &str = "grpc-encoding";

/// The answer to a request that is not a gRPC call. `is_known` says whether the path is a method.
pub(super) fn refusal<B>(request: &Request<B>, is_known: bool) -> Option<Response<Body>> {
    let is_grpc = is_grpc(request.headers());
    if !is_known {
        return (!is_grpc).then(|| plain(StatusCode::NOT_FOUND, "there is no such method\n", None));
    }
    if request.method() != Method::POST {
        let allow = (header::ALLOW, HeaderValue::from_static("POST"));
        return Some(plain(StatusCode::METHOD_NOT_ALLOWED, "gRPC calls are POST\n", Some(allow)));
    }
    if !is_grpc {
        let accept = (header::ACCEPT, HeaderValue::from_static(KINDS[0]));
        let says = "the content-type must be application/grpc\n";
        return Some(plain(StatusCode::UNSUPPORTED_MEDIA_TYPE, says, Some(accept)));
    }
    None
}

fn is_grpc(headers: &HeaderMap) -> bool {
    let Some(kind) = headers.get(header::CONTENT_TYPE) else { return false };
    // Fast path: nearly all clients send exactly this.
    if kind == KINDS[0] {
        return true;
    }
    let kind = kind.to_str().ok();
    let kind = kind.and_then(|kind| kind.split(';').next()).unwrap_or_default().trim();
    KINDS.iter().any(|known| known.eq_ignore_ascii_case(kind))
}

fn plain(
    status: StatusCode,
    says: &'static str,
    more: Option<(header::HeaderName, HeaderValue)>,
) -> Response<Body> {
    let mut response = Response::new(Body::new(axum::body::Body::from(says)));
    *response.status_mut() = status;
    let kind = HeaderValue::from_static("text/plain; charset=utf-8");
    response.headers_mut().extend([(header::CONTENT_TYPE, kind)].into_iter().chain(more));
    response
}

/// Returns whether messages may be compressed with gzip. Removes the header, since messages are
/// decompressed before the decoder reads them.
pub(super) fn take_gzip(headers: &mut HeaderMap) -> Result<bool, Status> {
    match headers.get(ENCODING).map(HeaderValue::as_bytes) {
        None | Some(b"identity") => Ok(false),
        Some(b"gzip") => {
            headers.remove(ENCODING);
            Ok(true)
        }
        Some(_) => {
            let mut status = Status::unimplemented("the grpc-encoding must be identity or gzip");
            let known = MetadataValue::from_static("identity,gzip");
            status.metadata_mut().insert("grpc-accept-encoding", known);
            Err(status)
        }
    }
}
