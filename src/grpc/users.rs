//! `UserService`.

use tonic::{Request, Response, Status};

use super::{Adapter, convert};
use crate::domain::{TenantId, UserName};
use crate::proto::admin::user_service_server::UserService;
use crate::proto::admin::{
    CreateUserRequest, CreateUserResponse, DeleteUserRequest, DeleteUserResponse, GetUserRequest,
    GetUserResponse, ListUsersRequest, ListUsersResponse, UpdateUserRequest, UpdateUserResponse,
};

#[tonic::async_trait]
impl UserService for Adapter {
    async fn create_user(
        &self,
        request: Request<CreateUserRequest>,
    ) -> Result<Response<CreateUserResponse>, Status> {
        let (caller, request) = self.manager(request).await?;
        let (name, patch) = convert::user::create(&request)?;
        let user = self.service.admin.create_user(&caller, name, patch).await?;
        Ok(Response::new(CreateUserResponse { user: Some(convert::user::message(user)) }))
    }

    async fn get_user(
        &self,
        request: Request<GetUserRequest>,
    ) -> Result<Response<GetUserResponse>, Status> {
        let (caller, request) = self.manager(request).await?;
        let name = UserName::parse(&request.name).map_err(|fault| fault.of("name"))?;
        let user = self.service.admin.user(&caller, &name).await?;
        Ok(Response::new(GetUserResponse { user: Some(convert::user::message(user)) }))
    }

    async fn list_users(
        &self,
        request: Request<ListUsersRequest>,
    ) -> Result<Response<ListUsersResponse>, Status> {
        let (caller, request) = self.manager(request).await?;
        let parent = TenantId::from_name(&request.parent).map_err(|fault| fault.of("parent"))?;
        let page = convert::list_request(request.page_size, request.page_token);
        let list = self.service.admin.list_users(&caller, &parent, &page).await?;
        let (users, next_page_token) = convert::list(list, convert::user::message);
        Ok(Response::new(ListUsersResponse { users, next_page_token }))
    }

    async fn update_user(
        &self,
        request: Request<UpdateUserRequest>,
    ) -> Result<Response<UpdateUserResponse>, Status> {
        let (caller, request) = self.manager(request).await?;
        let (name, patch, etag) = convert::user::update(&request)?;
        let missing = request.allow_missing;
        let user = self.service.admin.update_user(&caller, &name, patch, etag, missing).await?;
        Ok(Response::new(UpdateUserResponse { user: Some(convert::user::shown(user)) }))
    }

    async fn delete_user(
        &self,
        request: Request<DeleteUserRequest>,
    ) -> Result<Response<DeleteUserResponse>, Status> {
        let (caller, request) = self.manager(request).await?;
        let (name, heir) = convert::user::delete(&request)?;
        let (etag, validate_only) = (&request.etag, request.validate_only);
        let deleted = self
            .service
            .admin
            .delete_user(&caller, &name, etag, heir.as_ref(), validate_only)
            .await?;
        Ok(Response::new(convert::user::deleted(deleted)))
    }
}
