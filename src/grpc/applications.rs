//! `ApplicationService`.

use std::collections::HashMap;

use tonic::{Request, Response, Status};

use super::{Adapter, convert, status};
use crate::domain::ApplicationName;
use crate::error::Error;
use crate::proto::admin::application_service_server::ApplicationService;
use crate::proto::admin::batch_delete_applications_response::Result as BatchResult;
use crate::proto::admin::{
    BatchDeleteApplicationsRequest, BatchDeleteApplicationsResponse, CreateApplicationRequest,
    CreateApplicationResponse, DeleteApplicationRequest, DeleteApplicationResponse,
    GetApplicationRequest, GetApplicationResponse, ListApplicationUsageRequest,
    ListApplicationUsageResponse, ListApplicationsRequest, ListApplicationsResponse,
    UpdateApplicationRequest, UpdateApplicationResponse,
};

#[tonic::async_trait]
impl ApplicationService for Adapter {
    async fn create_application(
        &self,
        request: Request<CreateApplicationRequest>,
    ) -> Result<Response<CreateApplicationResponse>, Status> {
        let (caller, request) = self.manager(request).await?;
        let new = convert::application::create(&request)?;
        let application = self.service.admin.create_application(&caller, new).await?;
        let application = Some(convert::application::message(application, self.service.now()));
        Ok(Response::new(CreateApplicationResponse { application }))
    }

    async fn get_application(
        &self,
        request: Request<GetApplicationRequest>,
    ) -> Result<Response<GetApplicationResponse>, Status> {
        let (caller, request) = self.manager(request).await?;
        let name = ApplicationName::parse(&request.name).map_err(|fault| fault.of("name"))?;
        let application = self.service.admin.application(&caller, &name).await?;
        let application = Some(convert::application::message(application, self.service.now()));
        Ok(Response::new(GetApplicationResponse { application }))
    }

    async fn list_applications(
        &self,
        request: Request<ListApplicationsRequest>,
    ) -> Result<Response<ListApplicationsResponse>, Status> {
        let (caller, request) = self.manager(request).await?;
        let (parent, ownership, filter) = convert::application::list(&request)?;
        let page = convert::list_request(request.page_size, request.page_token);
        let list = self
            .service
            .admin
            .list_applications(&caller, &parent, ownership, filter, &page)
            .await?;
        let now = self.service.now();
        let (applications, next_page_token) =
            convert::list(list, |application| convert::application::message(application, now));
        Ok(Response::new(ListApplicationsResponse { applications, next_page_token }))
    }

    async fn update_application(
        &self,
        request: Request<UpdateApplicationRequest>,
    ) -> Result<Response<UpdateApplicationResponse>, Status> {
        let (caller, request) = self.manager(request).await?;
        let (name, patch, etag) = convert::application::update(&request)?;
        let application =
            Box::pin(self.service.admin.update_application(&caller, &name, patch, etag)).await?;
        let application = Some(convert::application::shown(application, self.service.now()));
        Ok(Response::new(UpdateApplicationResponse { application }))
    }

    async fn delete_application(
        &self,
        request: Request<DeleteApplicationRequest>,
    ) -> Result<Response<DeleteApplicationResponse>, Status> {
        let (caller, request) = self.manager(request).await?;
        let name = ApplicationName::parse(&request.name).map_err(|fault| fault.of("name"))?;
        self.service.admin.delete_application(&caller, &name, &request.etag).await?;
        Ok(Response::new(DeleteApplicationResponse {}))
    }

    async fn batch_delete_applications(
        &self,
        request: Request<BatchDeleteApplicationsRequest>,
    ) -> Result<Response<BatchDeleteApplicationsResponse>, Status> {
        let (caller, request) = self.manager(request).await?;
        let names = convert::application::batch(&request)?;
        let results = self.service.admin.delete_applications(&caller, &names).await;
        let mut each = HashMap::with_capacity(results.len());
        for (name, result) in results {
            let result = deletion(&name, result);
            each.insert(name, result);
        }
        let results = names.iter().filter_map(|name| each.get(name).cloned()).collect();
        Ok(Response::new(BatchDeleteApplicationsResponse { results }))
    }

    async fn list_application_usage(
        &self,
        request: Request<ListApplicationUsageRequest>,
    ) -> Result<Response<ListApplicationUsageResponse>, Status> {
        let (caller, request) = self.manager(request).await?;
        let (name, days) = convert::application::usage(&request)?;
        let usage = self.service.admin.application_usage(&caller, &name, days).await?;
        let days = usage.iter().map(|day| convert::application::day(&name, day)).collect();
        Ok(Response::new(ListApplicationUsageResponse { days }))
    }
}

/// The result for one application of a batch.
fn deletion(name: &ApplicationName, result: Result<(), Error>) -> BatchResult {
    let name = name.to_string();
    match result {
        Ok(()) => BatchResult { name, ..BatchResult::default() },
        Err(error) => {
            error.log_fault();
            BatchResult { name, reason: status::reason(&error).into(), message: error.to_string() }
        }
    }
}
