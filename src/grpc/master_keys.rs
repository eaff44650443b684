//! `MasterKeyService`.

use tonic::{Request, Response, Status};

use super::{Adapter, convert};
use crate::proto::admin::master_key_service_server::MasterKeyService;
use crate::proto::admin::{
    GetMasterKeyStatusRequest, GetMasterKeyStatusResponse, RewrapValuesRequest,
    RewrapValuesResponse,
};

#[tonic::async_trait]
impl MasterKeyService for Adapter {
    async fn get_master_key_status(
        &self,
        request: Request<GetMasterKeyStatusRequest>,
    ) -> Result<Response<GetMasterKeyStatusResponse>, Status> {
        let (caller, _) = self.manager(request).await?;
        let status = self.service.admin.master_key_status(&caller).await?;
        Ok(Response::new(convert::master_key::status(status)))
    }

    async fn rewrap_values(
        &self,
        request: Request<RewrapValuesRequest>,
    ) -> Result<Response<RewrapValuesResponse>, Status> {
        let (caller, request) = self.manager(request).await?;
        let done = self.service.admin.rewrap_values(&caller, &request.page_token).await?;
        Ok(Response::new(RewrapValuesResponse {
            rewrapped: done.moved,
            skipped: done.skipped,
            next_page_token: done.next_page_token,
        }))
    }
}
