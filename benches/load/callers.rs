//! Callers: tokens and checks over gRPC, tokens over HTTP.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use keyward::proto::access::CheckAccessRequest;
use keyward::proto::access::access_service_client::AccessServiceClient;
use keyward::proto::token::token_service_client::TokenServiceClient;
use keyward::proto::token::{IssueTokenRequest, IssueTokenResponse};
use tokio::net::TcpStream;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::transport::Channel;
use tonic::{Request, Response, Status};

use crate::harness::{Authorized, Credential, bearer, connect};
use crate::load::{Caller, Shape};

/// Requests tokens for one client after the other.
pub(crate) struct AsksForTokens {
    client: TokenServiceClient<Channel>,
    requests: Arc<[IssueTokenRequest]>,
    next: usize,
}

impl AsksForTokens {
    pub(crate) async fn connect(grpc: &str, shape: Shape, clients: &[Credential]) -> Vec<Self> {
        let mut channels = Vec::with_capacity(shape.connections);
        for _ in 0..shape.connections {
            channels.push(connect(grpc).await);
        }
        Self::over(&channels, shape, clients)
    }

    /// The same, on connections that exist.
    pub(crate) fn over(channels: &[Channel], shape: Shape, clients: &[Credential]) -> Vec<Self> {
        let requests: Arc<[_]> = clients.iter().map(issue_request).collect();
        let mut callers = Vec::with_capacity(shape.callers());
        for channel in channels {
            let client = TokenServiceClient::new(channel.clone());
            for _ in 0..shape.in_flight {
                let (client, requests) = (client.clone(), Arc::clone(&requests));
                callers.push(Self { client, requests, next: callers.len() });
            }
        }
        callers
    }

    /// The answer for the next client.
    pub(crate) async fn ask(&mut self) -> Result<IssueTokenResponse, Status> {
        let request = self.requests[self.next % self.requests.len()].clone();
        self.next += 1;
        self.client.issue_token(request).await.map(Response::into_inner)
    }
}

impl Caller for AsksForTokens {
    async fn call(&mut self) -> bool {
        let answer = self.ask().await.expect("a token");
        assert!(!answer.access_token.is_empty(), "a token is in the answer");
        true
    }
}

/// A request for a token that is used once.
#[derive(Clone)]
pub(crate) struct FreshRequest {
    pub(crate) message: IssueTokenRequest,
    /// The `DPoP` proof, if it has one.
    pub(crate) proof: Option<MetadataValue<Ascii>>,
}

/// Makes each of these requests for a token once.
pub(crate) struct AsksOnce {
    client: TokenServiceClient<Channel>,
    requests: Arc<[FreshRequest]>,
    /// The next request, shared by all callers.
    next: Arc<AtomicUsize>,
}

impl AsksOnce {
    pub(crate) async fn connect(
        grpc: &str,
        shape: Shape,
        requests: &Arc<[FreshRequest]>,
    ) -> Vec<Self> {
        let mut callers = Vec::with_capacity(shape.callers());
        let next = Arc::new(AtomicUsize::new(0));
        for _ in 0..shape.connections {
            let client = TokenServiceClient::new(connect(grpc).await);
            for _ in 0..shape.in_flight {
                let (client, requests) = (client.clone(), Arc::clone(requests));
                callers.push(Self { client, requests, next: Arc::clone(&next) });
            }
        }
        callers
    }
}

impl Caller for AsksOnce {
    async fn call(&mut self) -> bool {
        let next = self.next.fetch_add(1, Ordering::Relaxed);
        let Some(FreshRequest { message, proof }) = self.requests.get(next).cloned() else {
            return false;
        };
        let mut request = Request::new(message);
        if let Some(proof) = proof {
            request.metadata_mut().insert("dpop", proof);
        }
        let answer = self.client.issue_token(request).await.expect("a token").into_inner();
        assert!(!answer.access_token.is_empty(), "a token is in the answer");
        true
    }
}

/// The exchange of a credential with all defaults.
pub(crate) fn issue_request(client: &Credential) -> IssueTokenRequest {
    IssueTokenRequest { credential: client.proof(), scopes: Vec::new(), audiences: Vec::new() }
}

/// Checks tokens or keys: each repeatedly, or each once.
pub(crate) struct Checks {
    client: AccessServiceClient<Authorized>,
    questions: Arc<[CheckAccessRequest]>,
    /// The next question, shared by all callers.
    next: Arc<AtomicUsize>,
    once: bool,
}

impl Checks {
    /// `token` is the token of the caller.
    pub(crate) async fn connect(
        grpc: &str,
        token: &str,
        shape: Shape,
        questions: &Arc<[CheckAccessRequest]>,
        once: bool,
    ) -> Vec<Self> {
        let mut callers = Vec::with_capacity(shape.callers());
        let next = Arc::new(AtomicUsize::new(0));
        for _ in 0..shape.connections {
            let client = AccessServiceClient::new(bearer(grpc, token).await);
            for _ in 0..shape.in_flight {
                let (client, questions) = (client.clone(), Arc::clone(questions));
                callers.push(Self { client, questions, next: Arc::clone(&next), once });
            }
        }
        callers
    }
}

impl Caller for Checks {
    async fn call(&mut self) -> bool {
        let next = self.next.fetch_add(1, Ordering::Relaxed);
        if self.once && next >= self.questions.len() {
            return false;
        }
        let question = self.questions[next % self.questions.len()].clone();
        let answer = self.client.check_access(question).await.expect("an answer").into_inner();
        assert!(answer.allowed, "what is good is allowed: {answer:?}");
        true
    }
}

/// Requests tokens over HTTP/1.1, on its own connection.
pub(crate) struct AsksOverHttp {
    sender: SendRequest<Full<Bytes>>,
    requests: Arc<[hyper::Request<Full<Bytes>>]>,
    next: usize,
}

impl AsksOverHttp {
    pub(crate) async fn connect(at: &str, callers: usize, clients: &[Credential]) -> Vec<Self> {
        let requests: Arc<[_]> = clients.iter().map(|client| form_request(at, client)).collect();
        let mut connected = Vec::with_capacity(callers);
        for next in 0..callers {
            let sender = http_connection(at).await.expect("it listens");
            connected.push(Self { sender, requests: Arc::clone(&requests), next });
        }
        connected
    }
}

impl Caller for AsksOverHttp {
    async fn call(&mut self) -> bool {
        let request = self.requests[self.next % self.requests.len()].clone();
        self.next += 1;
        let answer = self.sender.send_request(request).await.expect("an answer");
        assert_eq!(answer.status(), 200);
        let body = answer.into_body().collect().await.expect("all of it").to_bytes();
        assert!(body.starts_with(br#"{"access_token":"ey"#), "{body:?}");
        true
    }
}

fn form_request(at: &str, client: &Credential) -> hyper::Request<Full<Bytes>> {
    let basic = STANDARD.encode(format!("{}:{}", client.client_id, client.secret));
    hyper::Request::post("/oauth2/token")
        .header("host", at)
        .header("authorization", format!("Basic {basic}"))
        .header("content-type", "application/x-www-form-urlencoded")
        .body(Full::new(Bytes::from_static(b"grant_type=client_credentials")))
        .unwrap()
}

/// The status of an HTTP answer, if there is one.
pub(crate) async fn http_get(at: &str, path: &str) -> Option<u16> {
    let mut sender = http_connection(at).await?;
    let request = hyper::Request::get(path).header("host", at).body(Full::default()).unwrap();
    Some(sender.send_request(request).await.ok()?.status().as_u16())
}

async fn http_connection(at: &str) -> Option<SendRequest<Full<Bytes>>> {
    let stream = TcpStream::connect(at).await.ok()?;
    stream.set_nodelay(true).ok()?;
    let (sender, connection) = handshake(TokioIo::new(stream)).await.ok()?;
    tokio::spawn(connection);
    Some(sender)
}
