//! `TenantService`.

use tonic::{Request, Response, Status};

use super::{Adapter, convert};
use crate::domain::TenantId;
use crate::proto::admin::tenant_service_server::TenantService;
use crate::proto::admin::{
    ApplyProfileRequest, ApplyProfileResponse, CreateTenantRequest, CreateTenantResponse,
    DeleteTenantRequest, DeleteTenantResponse, GetTenantRequest, GetTenantResponse,
    ListTenantsRequest, ListTenantsResponse, UpdateTenantRequest, UpdateTenantResponse,
};

#[tonic::async_trait]
impl TenantService for Adapter {
    async fn create_tenant(
        &self,
        request: Request<CreateTenantRequest>,
    ) -> Result<Response<CreateTenantResponse>, Status> {
        let (caller, request) = self.manager(request).await?;
        let (id, patch) = convert::tenant::create(&request)?;
        let tenant = self.service.admin.create_tenant(&caller, id, patch).await?;
        let tenant = Some(convert::tenant::message(tenant));
        Ok(Response::new(CreateTenantResponse { tenant }))
    }

    async fn get_tenant(
        &self,
        request: Request<GetTenantRequest>,
    ) -> Result<Response<GetTenantResponse>, Status> {
        let (caller, request) = self.manager(request).await?;
        let id = TenantId::from_name(&request.name).map_err(|fault| fault.of("name"))?;
        let tenant = self.service.admin.tenant(&caller, &id).await?;
        let tenant = Some(convert::tenant::message(tenant));
        Ok(Response::new(GetTenantResponse { tenant }))
    }

    async fn list_tenants(
        &self,
        request: Request<ListTenantsRequest>,
    ) -> Result<Response<ListTenantsResponse>, Status> {
        let (caller, request) = self.manager(request).await?;
        let page = convert::list_request(request.page_size, request.page_token);
        let list = self.service.admin.list_tenants(&caller, &page).await?;
        let (tenants, next_page_token) = convert::list(list, convert::tenant::message);
        Ok(Response::new(ListTenantsResponse { tenants, next_page_token }))
    }

    async fn update_tenant(
        &self,
        request: Request<UpdateTenantRequest>,
    ) -> Result<Response<UpdateTenantResponse>, Status> {
        let (caller, request) = self.manager(request).await?;
        let (id, patch, etag) = convert::tenant::update(&request)?;
        let (tenant, found) = self.service.admin.update_tenant(&caller, &id, patch, etag).await?;
        let tenant = Some(convert::tenant::message(tenant));
        let violations = found.into_iter().map(convert::policy::violation).collect();
        Ok(Response::new(UpdateTenantResponse { tenant, violations }))
    }

    async fn delete_tenant(
        &self,
        request: Request<DeleteTenantRequest>,
    ) -> Result<Response<DeleteTenantResponse>, Status> {
        let (caller, request) = self.manager(request).await?;
        let id = TenantId::from_name(&request.name).map_err(|fault| fault.of("name"))?;
        self.service.admin.delete_tenant(&caller, &id, &request.etag, request.force).await?;
        Ok(Response::new(DeleteTenantResponse {}))
    }

    async fn apply_profile(
        &self,
        request: Request<ApplyProfileRequest>,
    ) -> Result<Response<ApplyProfileResponse>, Status> {
        let (caller, request) = self.manager(request).await?;
        let (id, profile) = convert::profile::profile(&request)?;
        let (validate_only, force) = (request.validate_only, request.force);
        let applied =
            self.service.admin.apply_profile(&caller, &id, profile, validate_only, force).await?;
        let changes = applied.changes.iter().map(|one| convert::profile::change(&id, one));
        let violations = applied.violations.into_iter().map(convert::policy::violation).collect();
        Ok(Response::new(ApplyProfileResponse { changes: changes.collect(), violations }))
    }
}
