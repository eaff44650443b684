//! `TokenService`.

use tonic::{Request, Response, Status};

use super::status::DPOP_NONCE;
use super::{Adapter, convert};
use crate::proto::token::token_service_server::TokenService;
use crate::proto::token::{
    ExchangeTokenRequest, ExchangeTokenResponse, IntrospectTokenRequest, IntrospectTokenResponse,
    IssueTokenRequest, IssueTokenResponse, RevokeTokenRequest, RevokeTokenResponse,
    RevokeTokensRequest, RevokeTokensResponse,
};
use crate::service::RequestContext;

#[tonic::async_trait]
impl TokenService for Adapter {
    async fn issue_token(
        &self,
        request: Request<IssueTokenRequest>,
    ) -> Result<Response<IssueTokenResponse>, Status> {
        let wanted = convert::token::issue(request.get_ref())?;
        let context = self.context(request.extensions());
        let token = self.service.tokens.issue(&context, wanted).await?;
        Ok(self.with_nonce(&context, convert::token::issued(token)))
    }

    async fn exchange_token(
        &self,
        request: Request<ExchangeTokenRequest>,
    ) -> Result<Response<ExchangeTokenResponse>, Status> {
        let wanted = convert::token::exchange(request.get_ref())?;
        let context = self.context(request.extensions());
        let token = self.service.tokens.issue(&context, wanted).await?;
        Ok(self.with_nonce(&context, convert::token::exchanged(token)))
    }

    async fn introspect_token(
        &self,
        request: Request<IntrospectTokenRequest>,
    ) -> Result<Response<IntrospectTokenResponse>, Status> {
        let caller = self.caller(&request).await?;
        let token = convert::token::presented(request.into_inner().token)?;
        let info = self.service.tokens.introspect(&caller, &token).await?;
        Ok(Response::new(convert::token::info(info)))
    }

    async fn revoke_token(
        &self,
        request: Request<RevokeTokenRequest>,
    ) -> Result<Response<RevokeTokenResponse>, Status> {
        let caller = self.caller(&request).await?;
        let token = convert::token::presented(request.into_inner().token)?;
        let revoked = self.service.tokens.revoke(&caller, &token).await?;
        Ok(Response::new(RevokeTokenResponse { revoked }))
    }

    async fn revoke_tokens(
        &self,
        request: Request<RevokeTokensRequest>,
    ) -> Result<Response<RevokeTokensResponse>, Status> {
        let (caller, request) = self.manager(request).await?;
        let (revoked, reason) = convert::revocation::revoked(&request)?;
        let applications = self.service.admin.revoke_tokens(&caller, &revoked, reason).await?;
        let applications = i64::try_from(applications).unwrap_or(i64::MAX);
        Ok(Response::new(RevokeTokensResponse { applications }))
    }
}

impl Adapter {
    /// An answer with the nonce for the next `DPoP` proof, if the client needs one.
    fn with_nonce<T>(&self, context: &RequestContext<'_>, message: T) -> Response<T> {
        let mut response = Response::new(message);
        let nonce = self.service.auth.next_dpop_nonce(context);
        if let Some(nonce) = nonce.and_then(|nonce| nonce.parse().ok()) {
            response.metadata_mut().insert(DPOP_NONCE, nonce);
        }
        response
    }
}
