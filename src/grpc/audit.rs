//! `AuditService`.

use tonic::{Request, Response, Status};

use super::{Adapter, convert};
use crate::proto::admin::audit_service_server::AuditService;
use crate::proto::admin::{ListAuditEventsRequest, ListAuditEventsResponse};

#[tonic::async_trait]
impl AuditService for Adapter {
    async fn list_audit_events(
        &self,
        request: Request<ListAuditEventsRequest>,
    ) -> Result<Response<ListAuditEventsResponse>, Status> {
        let (caller, request) = self.manager(request).await?;
        let (tenant, filter) = convert::audit::list(&request)?;
        let page = convert::list_request(request.page_size, request.page_token);
        let list = self.service.admin.list_audit_events(&caller, &tenant, &filter, &page).await?;
        let (events, next_page_token) = convert::list(list, convert::audit::message);
        Ok(Response::new(ListAuditEventsResponse { events, next_page_token }))
    }
}
