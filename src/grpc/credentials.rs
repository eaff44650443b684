//! `CredentialService`.

use tonic::{Request, Response, Status};

use super::{Adapter, convert};
use crate::domain::CredentialName;
use crate::proto::admin::credential_service_server::CredentialService;
use crate::proto::admin::{
    CreateCredentialRequest, CreateCredentialResponse, DeleteCredentialRequest,
    DeleteCredentialResponse, GetCredentialRequest, GetCredentialResponse, ListCredentialsRequest,
    ListCredentialsResponse, RevealCredentialRequest, RevealCredentialResponse,
    RotateCredentialRequest, RotateCredentialResponse, UpdateCredentialRequest,
    UpdateCredentialResponse,
};
use crate::secrets::Secret;

#[tonic::async_trait]
impl CredentialService for Adapter {
    async fn create_credential(
        &self,
        request: Request<CreateCredentialRequest>,
    ) -> Result<Response<CreateCredentialResponse>, Status> {
        let (caller, request) = self.manager(request).await?;
        let new = convert::credential::create(&request)?;
        let made = self.service.admin.create_credential(&caller, new).await?;
        let credential = convert::credential::message(made.credential, self.service.now());
        Ok(Response::new(CreateCredentialResponse {
            credential: Some(credential),
            secret: made.secret.map(Secret::into_exposed).unwrap_or_default(),
        }))
    }

    async fn get_credential(
        &self,
        request: Request<GetCredentialRequest>,
    ) -> Result<Response<GetCredentialResponse>, Status> {
        let (caller, request) = self.manager(request).await?;
        let name = CredentialName::parse(&request.name).map_err(|fault| fault.of("name"))?;
        let credential = self.service.admin.credential(&caller, &name).await?;
        let credential = Some(convert::credential::message(credential, self.service.now()));
        Ok(Response::new(GetCredentialResponse { credential }))
    }

    async fn list_credentials(
        &self,
        request: Request<ListCredentialsRequest>,
    ) -> Result<Response<ListCredentialsResponse>, Status> {
        let (caller, request) = self.manager(request).await?;
        let (tenant, application, filter) = convert::credential::list(&request)?;
        let page = convert::list_request(request.page_size, request.page_token);
        let list = self
            .service
            .admin
            .list_credentials(&caller, &tenant, application.as_ref(), filter, &page)
            .await?;
        let now = self.service.now();
        let (credentials, next_page_token) =
            convert::list(list, |credential| convert::credential::message(credential, now));
        Ok(Response::new(ListCredentialsResponse { credentials, next_page_token }))
    }

    async fn update_credential(
        &self,
        request: Request<UpdateCredentialRequest>,
    ) -> Result<Response<UpdateCredentialResponse>, Status> {
        let (caller, request) = self.manager(request).await?;
        let (name, patch, etag) = convert::credential::update(&request)?;
        let credential =
            Box::pin(self.service.admin.update_credential(&caller, &name, patch, etag)).await?;
        let credential = Some(convert::credential::shown(credential, self.service.now()));
        Ok(Response::new(UpdateCredentialResponse { credential }))
    }

    async fn delete_credential(
        &self,
        request: Request<DeleteCredentialRequest>,
    ) -> Result<Response<DeleteCredentialResponse>, Status> {
        let (caller, request) = self.manager(request).await?;
        let name = CredentialName::parse(&request.name).map_err(|fault| fault.of("name"))?;
        self.service.admin.delete_credential(&caller, &name, &request.etag).await?;
        Ok(Response::new(DeleteCredentialResponse {}))
    }

    async fn rotate_credential(
        &self,
        request: Request<RotateCredentialRequest>,
    ) -> Result<Response<RotateCredentialResponse>, Status> {
        let (caller, request) = self.manager(request).await?;
        let (name, overlap) = convert::credential::rotate(&request)?;
        let (credential, secret) =
            self.service.admin.rotate_credential(&caller, &name, overlap, &request.etag).await?;
        let credential = convert::credential::shown(credential, self.service.now());
        Ok(Response::new(RotateCredentialResponse {
            credential: Some(credential),
            secret: secret.expose().to_owned(),
        }))
    }

    async fn reveal_credential(
        &self,
        request: Request<RevealCredentialRequest>,
    ) -> Result<Response<RevealCredentialResponse>, Status> {
        let (caller, request) = self.manager(request).await?;
        let name = CredentialName::parse(&request.name).map_err(|fault| fault.of("name"))?;
        let secret = self.service.admin.reveal_credential(&caller, &name).await?;
        Ok(Response::new(RevealCredentialResponse { secret: secret.expose().to_owned() }))
    }
}
