//! `ScopeService`.

use tonic::{Request, Response, Status};

use super::{Adapter, convert};
use crate::domain::{ScopeId, TenantId};
use crate::proto::admin::scope_service_server::ScopeService;
use crate::proto::admin::{
    CreateScopeRequest, CreateScopeResponse, DeleteScopeRequest, DeleteScopeResponse,
    GetScopeRequest, GetScopeResponse, ListScopesRequest, ListScopesResponse, UpdateScopeRequest,
    UpdateScopeResponse,
};

#[tonic::async_trait]
impl ScopeService for Adapter {
    async fn create_scope(
        &self,
        request: Request<CreateScopeRequest>,
    ) -> Result<Response<CreateScopeResponse>, Status> {
        let (caller, request) = self.manager(request).await?;
        let (id, patch) = convert::scope::create(&request)?;
        let scope = self.service.admin.create_scope(&caller, id, patch).await?;
        let scope = Some(convert::scope::message(scope));
        Ok(Response::new(CreateScopeResponse { scope }))
    }

    async fn get_scope(
        &self,
        request: Request<GetScopeRequest>,
    ) -> Result<Response<GetScopeResponse>, Status> {
        let (caller, request) = self.manager(request).await?;
        let name = ScopeId::parse(&request.name).map_err(|fault| fault.of("name"))?;
        let scope = self.service.admin.scope(&caller, &name).await?;
        let scope = Some(convert::scope::message(scope));
        Ok(Response::new(GetScopeResponse { scope }))
    }

    async fn list_scopes(
        &self,
        request: Request<ListScopesRequest>,
    ) -> Result<Response<ListScopesResponse>, Status> {
        let (caller, request) = self.manager(request).await?;
        let parent = TenantId::from_name(&request.parent).map_err(|fault| fault.of("parent"))?;
        let page = convert::list_request(request.page_size, request.page_token);
        let list = self.service.admin.list_scopes(&caller, &parent, &page).await?;
        let (scopes, next_page_token) = convert::list(list, convert::scope::message);
        Ok(Response::new(ListScopesResponse { scopes, next_page_token }))
    }

    async fn update_scope(
        &self,
        request: Request<UpdateScopeRequest>,
    ) -> Result<Response<UpdateScopeResponse>, Status> {
        let (caller, request) = self.manager(request).await?;
        let (name, patch, etag) = convert::scope::update(&request)?;
        let scope = self.service.admin.update_scope(&caller, &name, patch, etag).await?;
        let scope = Some(convert::scope::message(scope));
        Ok(Response::new(UpdateScopeResponse { scope }))
    }

    async fn delete_scope(
        &self,
        request: Request<DeleteScopeRequest>,
    ) -> Result<Response<DeleteScopeResponse>, Status> {
        let (caller, request) = self.manager(request).await?;
        let name = ScopeId::parse(&request.name).map_err(|fault| fault.of("name"))?;
        self.service.admin.delete_scope(&caller, &name, &request.etag, request.force).await?;
        Ok(Response::new(DeleteScopeResponse {}))
    }
}
