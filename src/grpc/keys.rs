//! `KeyService`.

use tonic::{Request, Response, Status};

use super::streams::{MessageSource, Messages};
use super::{Adapter, convert};
use crate::error::{Error, Result};
use crate::keys::{Jwks, schedule};
use crate::proto::access::key_service_server::KeyService;
use crate::proto::access::{GetJwksRequest, GetJwksResponse, WatchJwksRequest, WatchJwksResponse};
use crate::service::JwksWatch;

impl MessageSource for JwksWatch {
    type Message = WatchJwksResponse;

    async fn next(&mut self) -> Result<Self::Message> {
        let jwks = encode(&JwksWatch::next(self).await?)?;
        Ok(WatchJwksResponse { jwks, max_age: max_age() })
    }
}

#[tonic::async_trait]
impl KeyService for Adapter {
    async fn get_jwks(
        &self,
        _request: Request<GetJwksRequest>,
    ) -> Result<Response<GetJwksResponse>, Status> {
        let jwks = encode(&self.service.signing.jwks())?;
        let issuer = self.service.issuer().to_owned();
        Ok(Response::new(GetJwksResponse { jwks, max_age: max_age(), issuer }))
    }

    type WatchJwksStream = Messages<WatchJwksResponse>;

    async fn watch_jwks(
        &self,
        request: Request<WatchJwksRequest>,
    ) -> Result<Response<Self::WatchJwksStream>, Status> {
        // Authentication is optional here, but invalid credentials are refused.
        let caller = if request.metadata().contains_key("authorization") {
            Some(self.caller(&request).await?)
        } else {
            None
        };
        let context = self.context(request.extensions());
        let watch = self.service.feeds.watch_jwks(&context, caller.as_deref())?;
        Ok(Response::new(self.streaming.messages(watch)))
    }
}

fn encode(jwks: &Jwks) -> Result<String> {
    serde_json::to_string(jwks).map_err(|error| Error::Internal(Box::new(error)))
}

#[expect(clippy::unnecessary_wraps, reason = "as the messages have it")]
fn max_age() -> Option<prost_types::Duration> {
    Some(convert::seconds(schedule::JWKS_MAX_AGE))
}
