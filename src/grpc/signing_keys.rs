//! `SigningKeyService`.

use tonic::{Request, Response, Status};

use super::{Adapter, convert};
use crate::domain::SigningKeyName;
use crate::proto::admin::signing_key_service_server::SigningKeyService;
use crate::proto::admin::{
    ListSigningKeysRequest, ListSigningKeysResponse, RetireSigningKeyRequest,
    RetireSigningKeyResponse, RevokeSigningKeyRequest, RevokeSigningKeyResponse,
    RotateSigningKeyRequest, RotateSigningKeyResponse,
};

#[tonic::async_trait]
impl SigningKeyService for Adapter {
    async fn list_signing_keys(
        &self,
        request: Request<ListSigningKeysRequest>,
    ) -> Result<Response<ListSigningKeysResponse>, Status> {
        let (caller, request) = self.manager(request).await?;
        let page = convert::list_request(request.page_size, request.page_token);
        let list = self.service.admin.list_signing_keys(&caller, &page).await?;
        let (signing_keys, next_page_token) = convert::list(list, convert::signing_key::message);
        Ok(Response::new(ListSigningKeysResponse { signing_keys, next_page_token }))
    }

    async fn rotate_signing_key(
        &self,
        request: Request<RotateSigningKeyRequest>,
    ) -> Result<Response<RotateSigningKeyResponse>, Status> {
        let (caller, _) = self.manager(request).await?;
        let key = self.service.admin.rotate_signing_key(&caller).await?;
        let signing_key = Some(convert::signing_key::message(key));
        Ok(Response::new(RotateSigningKeyResponse { signing_key }))
    }

    async fn retire_signing_key(
        &self,
        request: Request<RetireSigningKeyRequest>,
    ) -> Result<Response<RetireSigningKeyResponse>, Status> {
        let (caller, request) = self.manager(request).await?;
        let name = SigningKeyName::parse(&request.name).map_err(|fault| fault.of("name"))?;
        let key = self.service.admin.retire_signing_key(&caller, &name).await?;
        let signing_key = Some(convert::signing_key::message(key));
        Ok(Response::new(RetireSigningKeyResponse { signing_key }))
    }

    async fn revoke_signing_key(
        &self,
        request: Request<RevokeSigningKeyRequest>,
    ) -> Result<Response<RevokeSigningKeyResponse>, Status> {
        let (caller, request) = self.manager(request).await?;
        let (name, reason) = convert::signing_key::revoked(&request)?;
        let revoked = self.service.admin.revoke_signing_key(&caller, &name, reason).await?;
        Ok(Response::new(convert::signing_key::revocation(revoked)))
    }
}
