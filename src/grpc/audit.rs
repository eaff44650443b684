//! `AuditService`.

use tonic::{Request, Response, Status};

use super::streams::{MessageSource, Messages};
use super::{Adapter, convert};
use crate::error::Result;
use crate::proto::admin::audit_service_server::AuditService;
use crate::proto::admin::{
    GetAuditLogRequest, GetAuditLogResponse, ListAuditEventsRequest, ListAuditEventsResponse,
    ListAuditLogsRequest, ListAuditLogsResponse, WatchAuditEventsRequest, WatchAuditEventsResponse,
};
use crate::service::AuditWatch;

impl MessageSource for AuditWatch {
    type Message = WatchAuditEventsResponse;

    async fn next(&mut self) -> Result<Self::Message> {
        AuditWatch::next(self).await.and_then(convert::audit::news)
    }
}

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

    type WatchAuditEventsStream = Messages<WatchAuditEventsResponse>;

    async fn watch_audit_events(
        &self,
        request: Request<WatchAuditEventsRequest>,
    ) -> Result<Response<Self::WatchAuditEventsStream>, Status> {
        let (caller, request) = self.manager(request).await?;
        let (tenant, cursor) = convert::audit::watch(&request)?;
        let watch = self.service.feeds.watch_audit_events(&caller, &tenant, cursor).await?;
        Ok(Response::new(self.streaming.messages(watch)))
    }

    async fn get_audit_log(
        &self,
        request: Request<GetAuditLogRequest>,
    ) -> Result<Response<GetAuditLogResponse>, Status> {
        let (caller, request) = self.manager(request).await?;
        let tenant = convert::audit::log_name(&request.name)?;
        let log = self.service.admin.get_audit_log(&caller, &tenant).await?;
        Ok(Response::new(GetAuditLogResponse { log: Some(convert::audit::log(log)) }))
    }

    async fn list_audit_logs(
        &self,
        request: Request<ListAuditLogsRequest>,
    ) -> Result<Response<ListAuditLogsResponse>, Status> {
        let (caller, request) = self.manager(request).await?;
        let page = convert::list_request(request.page_size, request.page_token);
        let list = self.service.admin.list_audit_logs(&caller, &page).await?;
        let (logs, next_page_token) = convert::list(list, convert::audit::log);
        Ok(Response::new(ListAuditLogsResponse { logs, next_page_token }))
    }
}
