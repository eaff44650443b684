//! `EndpointService`.

use tonic::{Request, Response, Status};

use super::{Adapter, convert};
use crate::domain::TenantId;
use crate::proto::admin::endpoint_service_server::EndpointService;
use crate::proto::admin::{ListEndpointsRequest, ListEndpointsResponse};

#[tonic::async_trait]
impl EndpointService for Adapter {
    async fn list_endpoints(
        &self,
        request: Request<ListEndpointsRequest>,
    ) -> Result<Response<ListEndpointsResponse>, Status> {
        let (caller, request) = self.manager(request).await?;
        let parent = TenantId::from_name(&request.parent).map_err(|fault| fault.of("parent"))?;
        let page = convert::list_request(request.page_size, request.page_token);
        let list = self.service.admin.list_endpoints(&caller, &parent, &page).await?;
        let (endpoints, next_page_token) = convert::list(list, convert::endpoint::message);
        Ok(Response::new(ListEndpointsResponse { endpoints, next_page_token }))
    }
}
