//! `ApplicationService`.

use tonic::{Request, Response, Status};

use super::{Face, convert};
use crate::domain::{ApplicationName, TenantId};
use crate::proto::admin::application_service_server::ApplicationService;
use crate::proto::admin::{
    CreateApplicationRequest, CreateApplicationResponse, DeleteApplicationRequest,
    DeleteApplicationResponse, GetApplicationRequest, GetApplicationResponse,
    ListApplicationsRequest, ListApplicationsResponse, UpdateApplicationRequest,
    UpdateApplicationResponse,
};

#[tonic::async_trait]
impl ApplicationService for Face {
    async fn create_application(
        &self,
        request: Request<CreateApplicationRequest>,
    ) -> Result<Response<CreateApplicationResponse>, Status> {
        let request = self.admin(request).await?;
        let new = convert::application::create(&request)?;
        let application = self.service.create_application(new).await?;
        let application = Some(convert::application::message(application, self.service.now()));
        Ok(Response::new(CreateApplicationResponse { application }))
    }

    async fn get_application(
        &self,
        request: Request<GetApplicationRequest>,
    ) -> Result<Response<GetApplicationResponse>, Status> {
        let request = self.admin(request).await?;
        let name = ApplicationName::parse(&request.name).map_err(|fault| fault.of("name"))?;
        let application = self.service.application(&name).await?;
        let application = Some(convert::application::message(application, self.service.now()));
        Ok(Response::new(GetApplicationResponse { application }))
    }

    async fn list_applications(
        &self,
        request: Request<ListApplicationsRequest>,
    ) -> Result<Response<ListApplicationsResponse>, Status> {
        let request = self.admin(request).await?;
        let parent = TenantId::from_name(&request.parent).map_err(|fault| fault.of("parent"))?;
        let page = convert::list_request(request.page_size, request.page_token);
        let list = self.service.list_applications(&parent, &page).await?;
        let now = self.service.now();
        let (applications, next_page_token) =
            convert::list(list, |application| convert::application::message(application, now));
        Ok(Response::new(ListApplicationsResponse { applications, next_page_token }))
    }

    async fn update_application(
        &self,
        request: Request<UpdateApplicationRequest>,
    ) -> Result<Response<UpdateApplicationResponse>, Status> {
        let request = self.admin(request).await?;
        let (name, patch, etag) = convert::application::update(&request)?;
        let application = self.service.update_application(&name, patch, etag).await?;
        let application = Some(convert::application::message(application, self.service.now()));
        Ok(Response::new(UpdateApplicationResponse { application }))
    }

    async fn delete_application(
        &self,
        request: Request<DeleteApplicationRequest>,
    ) -> Result<Response<DeleteApplicationResponse>, Status> {
        let request = self.admin(request).await?;
        let name = ApplicationName::parse(&request.name).map_err(|fault| fault.of("name"))?;
        self.service.delete_application(&name, &request.etag).await?;
        Ok(Response::new(DeleteApplicationResponse {}))
    }
}
