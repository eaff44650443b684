//! `RevocationService`.

use tonic::{Request, Response, Status};

use super::streams::{MessageSource, Messages};
use super::{Adapter, convert};
use crate::error::Result;
use crate::proto::access::revocation_service_server::RevocationService;
use crate::proto::access::{
    ListRevocationsRequest, ListRevocationsResponse, WatchRevocationsRequest,
    WatchRevocationsResponse,
};
use crate::service::RevocationWatch;

impl MessageSource for RevocationWatch {
    type Message = WatchRevocationsResponse;

    async fn next(&mut self) -> Result<Self::Message> {
        RevocationWatch::next(self).await.map(convert::revocation::news)
    }
}

#[tonic::async_trait]
impl RevocationService for Adapter {
    async fn list_revocations(
        &self,
        request: Request<ListRevocationsRequest>,
    ) -> Result<Response<ListRevocationsResponse>, Status> {
        let caller = self.caller(&request).await?;
        let request = request.into_inner();
        let page = convert::list_request(request.page_size, request.page_token);
        let list = self.service.feeds.list_revocations(&caller, &page).await?;
        let (revocations, next_page_token) = convert::list(list.list, convert::revocation::message);
        // Only the last page has the cursor.
        let cursor = list.cursor.filter(|_| next_page_token.is_empty());
        let cursor = cursor.map(|cursor| cursor.to_string()).unwrap_or_default();
        Ok(Response::new(ListRevocationsResponse { revocations, next_page_token, cursor }))
    }

    type WatchRevocationsStream = Messages<WatchRevocationsResponse>;

    async fn watch_revocations(
        &self,
        request: Request<WatchRevocationsRequest>,
    ) -> Result<Response<Self::WatchRevocationsStream>, Status> {
        let caller = self.caller(&request).await?;
        let cursor = convert::revocation::cursor(&request.get_ref().cursor)?;
        let watch = self.service.feeds.watch_revocations(&caller, cursor)?;
        Ok(Response::new(self.streaming.messages(watch)))
    }
}
