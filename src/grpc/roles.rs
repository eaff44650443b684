//! `RoleService`.

use tonic::{Request, Response, Status};

use super::{Adapter, convert};
use crate::domain::{RoleName, TenantId};
use crate::proto::admin::role_service_server::RoleService;
use crate::proto::admin::{
    CreateRoleRequest, CreateRoleResponse, DeleteRoleRequest, DeleteRoleResponse, GetRoleRequest,
    GetRoleResponse, ListRolesRequest, ListRolesResponse, UpdateRoleRequest, UpdateRoleResponse,
};

#[tonic::async_trait]
impl RoleService for Adapter {
    async fn create_role(
        &self,
        request: Request<CreateRoleRequest>,
    ) -> Result<Response<CreateRoleResponse>, Status> {
        let (caller, request) = self.manager(request).await?;
        let (name, patch) = convert::role::create(&request)?;
        let role = self.service.admin.create_role(&caller, name, patch).await?;
        Ok(Response::new(CreateRoleResponse { role: Some(convert::role::message(role)) }))
    }

    async fn get_role(
        &self,
        request: Request<GetRoleRequest>,
    ) -> Result<Response<GetRoleResponse>, Status> {
        let (caller, request) = self.manager(request).await?;
        let name = RoleName::parse(&request.name).map_err(|fault| fault.of("name"))?;
        let role = self.service.admin.role(&caller, &name).await?;
        Ok(Response::new(GetRoleResponse { role: Some(convert::role::message(role)) }))
    }

    async fn list_roles(
        &self,
        request: Request<ListRolesRequest>,
    ) -> Result<Response<ListRolesResponse>, Status> {
        let (caller, request) = self.manager(request).await?;
        let parent = TenantId::from_name(&request.parent).map_err(|fault| fault.of("parent"))?;
        let page = convert::list_request(request.page_size, request.page_token);
        let list = self.service.admin.list_roles(&caller, &parent, &page).await?;
        let (roles, next_page_token) = convert::list(list, convert::role::message);
        Ok(Response::new(ListRolesResponse { roles, next_page_token }))
    }

    async fn update_role(
        &self,
        request: Request<UpdateRoleRequest>,
    ) -> Result<Response<UpdateRoleResponse>, Status> {
        let (caller, request) = self.manager(request).await?;
        let (name, patch, etag) = convert::role::update(&request)?;
        let role = self.service.admin.update_role(&caller, &name, patch, etag).await?;
        Ok(Response::new(UpdateRoleResponse { role: Some(convert::role::message(role)) }))
    }

    async fn delete_role(
        &self,
        request: Request<DeleteRoleRequest>,
    ) -> Result<Response<DeleteRoleResponse>, Status> {
        let (caller, request) = self.manager(request).await?;
        let name = RoleName::parse(&request.name).map_err(|fault| fault.of("name"))?;
        self.service.admin.delete_role(&caller, &name, &request.etag, request.force).await?;
        Ok(Response::new(DeleteRoleResponse {}))
    }
}
