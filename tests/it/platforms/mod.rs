//! Five real products. Each file follows the documentation page for the product's users: a comment
//! quotes a statement of the page, and the calls below it show the statement on the real server,
//! through a console that acts for the users.

mod ipscape;
mod sip_caller;
mod vcc;
mod voiso;
mod vonage;

use std::fmt::Debug;

use keyward::proto::admin as pb;
use keyward::proto::admin::credential::Kind;
use keyward::proto::admin::list_applications_request::Ownership;
use tonic::{Code, Status};
use tonic_types::StatusExt;

use crate::harness::{Admin, Backend, Credential, Keyward, mask, reason};

/// A server with one tenant from a shipped profile, and the platform's console.
struct Platform {
    kw: Keyward,
    /// The platform itself, which synchronises users and acts for no user.
    admin: Box<Admin>,
    /// Acts for users, and may do nothing else.
    console: Box<Admin>,
    profile: &'static str,
}

impl Platform {
    /// A platform whose tenant has the profile with the same name.
    async fn start(backend: Backend, profile: &'static str) -> Self {
        let platform = Self::before(backend, profile).await;
        platform.apply().await;
        platform
    }

    /// A platform before the profile is applied.
    async fn before(backend: Backend, profile: &'static str) -> Self {
        let kw = Box::pin(backend.start()).await;
        let mut admin = Box::new(kw.admin().await);
        let console = Box::new(admin.console(&kw).await);
        Self { kw, admin, console, profile }
    }

    async fn apply(&self) {
        self.kw.apply(self.profile).await;
    }

    /// The tenant's name.
    fn tenant(&self) -> String {
        format!("tenants/{}", self.profile)
    }

    /// The name of one of the tenant's applications.
    fn application(&self, id: &str) -> String {
        format!("{}/applications/{id}", self.tenant())
    }

    /// The console, acting for a user with these roles. The user is created if necessary.
    async fn user(&mut self, id: &str, roles: &[&str]) -> Admin {
        let name = self.admin.user(self.profile, id, roles).await;
        self.console.acting_for(&name)
    }

    /// Advances the time so far that the callers' own tokens expire. The platform and its console
    /// authenticate again; get users again with [`user`](Self::user).
    async fn advance(&mut self, seconds: u64) {
        self.kw.advance(seconds);
        *self.admin = self.kw.admin().await;
        let console = "tenants/system/applications/console";
        let (_, credential) = self.admin.credential(console, Kind::ClientSecret).await;
        *self.console = Admin::new(self.kw.grpc(), &credential).await;
    }

    /// A time in the future.
    fn after(&self, seconds: i64) -> prost_types::Timestamp {
        prost_types::Timestamp { seconds: self.kw.now().as_second() + seconds, nanos: 0 }
    }

    /// Exchanges a credential for a token with these scopes; an empty list means all.
    async fn exchange(&self, credential: &Credential, scopes: &[&str]) -> Result<Token, Status> {
        let answer = credential.exchange(&self.kw.grpc(), scopes, &[]).await?;
        Ok(Token { text: answer.access_token, scopes: answer.scopes })
    }

    /// Changes the tenant's policy, as the platform.
    async fn change_policy(&mut self, change: impl FnOnce(&mut pb::Policy)) {
        let mut tenant = self.admin.read_tenant(&self.tenant()).await.unwrap();
        change(tenant.policy.as_mut().unwrap());
        let request =
            pb::UpdateTenantRequest { tenant: Some(tenant), update_mask: mask(&["policy"]) };
        self.admin.tenants.update_tenant(request).await.unwrap();
    }
}

/// An access token and what it allows.
#[derive(Debug)]
struct Token {
    text: String,
    scopes: Vec<String>,
}

/// The operations of a page's users.
impl Admin {
    async fn read_tenant(&mut self, name: &str) -> Result<pb::Tenant, Status> {
        let request = pb::GetTenantRequest { name: name.to_owned() };
        Ok(self.tenants.get_tenant(request).await?.into_inner().tenant.unwrap())
    }

    /// All scopes of the catalogue, by name.
    async fn catalogue(&mut self, tenant: &str) -> Vec<pb::Scope> {
        let request =
            pb::ListScopesRequest { parent: tenant.to_owned(), page_size: 1000, ..<_>::default() };
        let list = self.scopes.list_scopes(request).await.unwrap().into_inner();
        assert_eq!(list.next_page_token, "");
        list.scopes
    }

    /// Creates an application with this name.
    async fn make(
        &mut self,
        name: &str,
        application: pb::Application,
    ) -> Result<pb::Application, Status> {
        let (tenant, id) = name.split_once("/applications/").unwrap();
        let request = pb::CreateApplicationRequest {
            parent: tenant.to_owned(),
            application_id: id.to_owned(),
            application: Some(application),
            request_id: String::new(),
        };
        let made = self.applications.create_application(request).await?;
        Ok(made.into_inner().application.unwrap())
    }

    async fn see(&mut self, application: &str) -> Result<pb::Application, Status> {
        let request = pb::GetApplicationRequest { name: application.to_owned() };
        let read = self.applications.get_application(request).await?;
        Ok(read.into_inner().application.unwrap())
    }

    /// The ids of the applications in a list.
    async fn list(&mut self, tenant: &str, whose: Ownership) -> Result<Vec<String>, Status> {
        let request = pb::ListApplicationsRequest {
            parent: tenant.to_owned(),
            ownership: whose.into(),
            ..Default::default()
        };
        Ok(ids(&self.list_by(request).await?))
    }

    /// The ids of the applications that a search finds.
    async fn search(&mut self, tenant: &str, text: &str) -> Result<Vec<String>, Status> {
        let request = pb::ListApplicationsRequest {
            parent: tenant.to_owned(),
            search: text.to_owned(),
            ..Default::default()
        };
        Ok(ids(&self.list_by(request).await?))
    }

    async fn list_by(
        &mut self,
        request: pb::ListApplicationsRequest,
    ) -> Result<Vec<pb::Application>, Status> {
        let request = pb::ListApplicationsRequest { page_size: 1000, ..request };
        Ok(self.applications.list_applications(request).await?.into_inner().applications)
    }

    /// Changes these fields of an application.
    async fn edit(
        &mut self,
        application: pb::Application,
        fields: &[&str],
    ) -> Result<pb::Application, Status> {
        let request = pb::UpdateApplicationRequest {
            application: Some(pb::Application { etag: String::new(), ..application }),
            update_mask: mask(fields),
        };
        let changed = self.applications.update_application(request).await?;
        Ok(changed.into_inner().application.unwrap())
    }

    async fn rename(&mut self, application: &str, to: &str) -> Result<pb::Application, Status> {
        let renamed = pb::Application {
            name: application.to_owned(),
            display_name: to.to_owned(),
            ..Default::default()
        };
        self.edit(renamed, &["display_name"]).await
    }

    async fn set_scopes(
        &mut self,
        application: &str,
        scopes: &[&str],
    ) -> Result<pb::Application, Status> {
        let changed = pb::Application {
            name: application.to_owned(),
            scopes: owned(scopes),
            ..Default::default()
        };
        self.edit(changed, &["scopes"]).await
    }

    async fn delete(&mut self, application: &str) -> Result<(), Status> {
        let request =
            pb::DeleteApplicationRequest { name: application.to_owned(), etag: String::new() };
        self.applications.delete_application(request).await.map(drop)
    }

    /// Adds a credential and gets its secret.
    async fn add_credential(
        &mut self,
        application: &str,
        kind: Kind,
    ) -> Result<(pb::Credential, Credential), Status> {
        let request = pb::CreateCredentialRequest {
            parent: application.to_owned(),
            credential: Some(pb::Credential { kind: kind.into(), ..Default::default() }),
            request_id: String::new(),
        };
        let made = self.credentials.create_credential(request).await?.into_inner();
        let credential = made.credential.unwrap();
        let client_id =
            if kind == Kind::ApiKey { String::new() } else { credential.client_id.clone() };
        Ok((credential, Credential { client_id, secret: made.secret }))
    }

    async fn see_credential(&mut self, name: &str) -> Result<pb::Credential, Status> {
        let request = pb::GetCredentialRequest { name: name.to_owned() };
        let read = self.credentials.get_credential(request).await?;
        Ok(read.into_inner().credential.unwrap())
    }

    async fn credentials_of(&mut self, application: &str) -> Result<Vec<pb::Credential>, Status> {
        let request =
            pb::ListCredentialsRequest { parent: application.to_owned(), ..Default::default() };
        Ok(self.credentials.list_credentials(request).await?.into_inner().credentials)
    }

    /// Changes these fields of a credential.
    async fn edit_credential(
        &mut self,
        credential: pb::Credential,
        fields: &[&str],
    ) -> Result<pb::Credential, Status> {
        let request = pb::UpdateCredentialRequest {
            credential: Some(pb::Credential { etag: String::new(), ..credential }),
            update_mask: mask(fields),
        };
        let changed = self.credentials.update_credential(request).await?;
        Ok(changed.into_inner().credential.unwrap())
    }

    async fn delete_credential(&mut self, name: &str) -> Result<(), Status> {
        let request = pb::DeleteCredentialRequest { name: name.to_owned(), etag: String::new() };
        self.credentials.delete_credential(request).await.map(drop)
    }

    async fn rotate(&mut self, credential: &str) -> Result<String, Status> {
        let request =
            pb::RotateCredentialRequest { name: credential.to_owned(), ..Default::default() };
        Ok(self.credentials.rotate_credential(request).await?.into_inner().secret)
    }

    /// The secret of a credential, shown again.
    async fn reveal(&mut self, credential: &str) -> Result<String, Status> {
        let request = pb::RevealCredentialRequest { name: credential.to_owned() };
        Ok(self.credentials.reveal_credential(request).await?.into_inner().secret)
    }

    /// The audit history of a resource, oldest first: what was done, and by whom.
    async fn history(&mut self, resource: &str) -> Result<Vec<(String, String)>, Status> {
        let request = pb::ListAuditEventsRequest {
            parent: tenant_of(resource),
            resource: resource.to_owned(),
            order_by: "time".to_owned(),
            ..Default::default()
        };
        let events = self.audit.list_audit_events(request).await?.into_inner().events;
        Ok(events.into_iter().map(|event| (event.action, event.user)).collect())
    }
}

/// An application with a display name and scopes.
fn called(display_name: &str, scopes: &[&str]) -> pb::Application {
    pb::Application {
        display_name: display_name.to_owned(),
        scopes: owned(scopes),
        ..Default::default()
    }
}

fn owned(values: &[&str]) -> Vec<String> {
    values.iter().map(|value| (*value).to_owned()).collect()
}

fn ids(applications: &[pb::Application]) -> Vec<String> {
    let id = |name: &str| name.rsplit('/').next().unwrap().to_owned();
    applications.iter().map(|application| id(&application.name)).collect()
}

fn tenant_of(resource: &str) -> String {
    resource.split('/').take(2).collect::<Vec<_>>().join("/")
}

/// The last four characters of a secret, as lists show them.
fn masked(credential: &Credential) -> String {
    format!("…{}", &credential.secret[credential.secret.len() - 4..])
}

/// The call was refused for this reason.
#[track_caller]
fn refused<T: Debug>(answer: Result<T, Status>, code: Code, why: &str) -> Status {
    let status = answer.expect_err(why);
    assert_eq!((status.code(), reason(&status).as_str()), (code, why), "{}", status.message());
    status
}

/// The call was refused because the user's roles lack this permission.
#[track_caller]
fn lacks<T: Debug>(answer: Result<T, Status>, permission: &str) {
    let status = refused(answer, Code::PermissionDenied, "PERMISSION_DENIED");
    let info = status.get_details_error_info().unwrap();
    // If the user may not view the resource either, one of several permissions is enough.
    let missing = &info.metadata["permission"];
    assert!(missing.split(' ').any(|one| one == permission), "{missing}");
}

/// The call was refused because of this field of the tenant's policy.
#[track_caller]
fn against_policy<T: Debug>(answer: Result<T, Status>, rule: &str) -> Status {
    let status = refused(answer, Code::FailedPrecondition, "POLICY");
    let violations = status.get_details_precondition_failure().unwrap().violations;
    assert_eq!(violations[0].r#type, rule);
    status
}

/// The call was refused because these scopes are not available.
#[track_caller]
fn beyond<T: Debug>(answer: Result<T, Status>, scopes: &str) {
    let status = refused(answer, Code::InvalidArgument, "SCOPE_NOT_ALLOWED");
    assert_eq!(status.message(), format!("scope not allowed: {scopes}"));
}

/// The client was refused.
#[track_caller]
fn no_client<T: Debug>(answer: Result<T, Status>) {
    refused(answer, Code::Unauthenticated, "INVALID_CLIENT");
}

/// The invalid field of the request.
#[track_caller]
fn faulty<T: Debug>(answer: Result<T, Status>, field: &str) {
    let status = refused(answer, Code::InvalidArgument, "INVALID_FIELD");
    let violations = status.get_details_bad_request().unwrap().field_violations;
    assert_eq!(violations[0].field, field);
}
