//! `KeyService`.

use tonic::{Request, Response, Status};

use super::{Face, convert};
use crate::error::Error;
use crate::keys::KeyRing;
use crate::proto::access::key_service_server::KeyService;
use crate::proto::access::{GetJwksRequest, GetJwksResponse};

#[tonic::async_trait]
impl KeyService for Face {
    async fn get_jwks(
        &self,
        _request: Request<GetJwksRequest>,
    ) -> Result<Response<GetJwksResponse>, Status> {
        let jwks = serde_json::to_string(&self.service.jwks())
            .map_err(|error| Error::Internal(Box::new(error)))?;
        let max_age = Some(convert::seconds(KeyRing::JWKS_MAX_AGE));
        Ok(Response::new(GetJwksResponse { jwks, max_age }))
    }
}
