//! `TokenService`.

use tonic::{Request, Response, Status};

use super::auth::{permit, source};
use super::{Face, convert};
use crate::proto::token::token_service_server::TokenService;
use crate::proto::token::{
    IntrospectTokenRequest, IntrospectTokenResponse, IssueTokenRequest, IssueTokenResponse,
    RevokeTokenRequest, RevokeTokenResponse, RevokeTokensRequest, RevokeTokensResponse,
};

#[tonic::async_trait]
impl TokenService for Face {
    async fn issue_token(
        &self,
        request: Request<IssueTokenRequest>,
    ) -> Result<Response<IssueTokenResponse>, Status> {
        let (proof, wanted) = convert::token::issue(request.get_ref())?;
        let source = source(&request);
        let client = self.service.authenticate_client(proof, source).await?;
        if let Some(permit) = permit(request.extensions()) {
            permit.identified(&client);
        }
        let token = self.service.issue_to(&client, wanted, source).await?;
        Ok(Response::new(convert::token::issued(token)))
    }

    async fn introspect_token(
        &self,
        request: Request<IntrospectTokenRequest>,
    ) -> Result<Response<IntrospectTokenResponse>, Status> {
        let caller = self.caller(&request).await?;
        let token = convert::token::presented(request.into_inner().token)?;
        let info = self.service.introspect(&caller, &token).await?;
        Ok(Response::new(convert::token::info(info)))
    }

    async fn revoke_token(
        &self,
        request: Request<RevokeTokenRequest>,
    ) -> Result<Response<RevokeTokenResponse>, Status> {
        let caller = self.caller(&request).await?;
        let token = convert::token::presented(request.into_inner().token)?;
        let revoked = self.service.revoke(&caller, &token).await?;
        Ok(Response::new(RevokeTokenResponse { revoked }))
    }

    async fn revoke_tokens(
        &self,
        request: Request<RevokeTokensRequest>,
    ) -> Result<Response<RevokeTokensResponse>, Status> {
        let (caller, request) = self.manager(request).await?;
        let (revoked, reason) = convert::revocation::revoked(&request)?;
        let applications = self.service.revoke_tokens(&caller, &revoked, reason).await?;
        let applications = i64::try_from(applications).unwrap_or(i64::MAX);
        Ok(Response::new(RevokeTokensResponse { applications }))
    }
}
