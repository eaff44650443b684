//! Callers: the administrator, and applications with a credential.

use std::ops::{Deref, DerefMut};

use keyward::proto::access;
use keyward::proto::access::access_service_client::AccessServiceClient;
use keyward::proto::access::revocation_service_client::RevocationServiceClient;
use keyward::proto::admin as pb;
use keyward::proto::admin::application_service_client::ApplicationServiceClient;
use keyward::proto::admin::audit_service_client::AuditServiceClient;
use keyward::proto::admin::credential::Kind;
use keyward::proto::admin::credential_service_client::CredentialServiceClient;
use keyward::proto::admin::endpoint_service_client::EndpointServiceClient;
use keyward::proto::admin::master_key_service_client::MasterKeyServiceClient;
use keyward::proto::admin::role_service_client::RoleServiceClient;
use keyward::proto::admin::scope_service_client::ScopeServiceClient;
use keyward::proto::admin::signing_key_service_client::SigningKeyServiceClient;
use keyward::proto::admin::tenant_service_client::TenantServiceClient;
use keyward::proto::admin::user_service_client::UserServiceClient;
use keyward::proto::token as tokens;
use keyward::proto::token::issue_token_request::Credential as Proof;
use keyward::proto::token::token_service_client::TokenServiceClient;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::service::Interceptor;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::Channel;
use tonic::{Request, Status};
use tonic_types::StatusExt;

use super::Keyward;

/// A client id and a secret or, without an id, an API key.
#[derive(Clone, Debug)]
pub(crate) struct Credential {
    pub(crate) client_id: String,
    pub(crate) secret: String,
}

pub(crate) type Authorized = InterceptedService<Channel, Bearer>;

/// Adds a bearer string, and the acting user, to every call.
#[derive(Clone)]
pub(crate) struct Bearer {
    authorization: MetadataValue<Ascii>,
    user: Option<MetadataValue<Ascii>>,
}

impl Interceptor for Bearer {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        request.metadata_mut().insert("authorization", self.authorization.clone());
        if let Some(user) = &self.user {
            request.metadata_mut().insert("keyward-user", user.clone());
        }
        Ok(request)
    }
}

/// A caller that manages, with a client for every service: the administrator, or a console that
/// acts for a user.
#[derive(Clone)]
pub(crate) struct Admin(Box<Clients>);

impl Deref for Admin {
    type Target = Clients;

    fn deref(&self) -> &Clients {
        &self.0
    }
}

impl DerefMut for Admin {
    fn deref_mut(&mut self) -> &mut Clients {
        &mut self.0
    }
}

/// The clients of every service.
#[derive(Clone)]
pub(crate) struct Clients {
    channel: Channel,
    pub(crate) token: String,
    pub(crate) users: UserServiceClient<Authorized>,
    pub(crate) roles: RoleServiceClient<Authorized>,
    pub(crate) audit: AuditServiceClient<Authorized>,
    pub(crate) tenants: TenantServiceClient<Authorized>,
    pub(crate) scopes: ScopeServiceClient<Authorized>,
    pub(crate) applications: ApplicationServiceClient<Authorized>,
    pub(crate) credentials: CredentialServiceClient<Authorized>,
    pub(crate) keys: SigningKeyServiceClient<Authorized>,
    pub(crate) master_keys: MasterKeyServiceClient<Authorized>,
    pub(crate) endpoints: EndpointServiceClient<Authorized>,
    pub(crate) tokens: TokenServiceClient<Authorized>,
    pub(crate) revocations: RevocationServiceClient<Authorized>,
    pub(crate) access: AccessServiceClient<Authorized>,
}

/// A channel whose calls carry a bearer string.
pub(crate) async fn bearer(grpc: &str, token: &str) -> Authorized {
    let channel = connect(grpc).await;
    bearer_on(channel, token)
}

fn bearer_on(channel: Channel, token: &str) -> Authorized {
    acting_on(channel, token, None)
}

fn acting_on(channel: Channel, token: &str, user: Option<&str>) -> Authorized {
    let bearer = Bearer {
        authorization: format!("Bearer {token}").parse().unwrap(),
        user: user.map(|user| user.parse().unwrap()),
    };
    InterceptedService::new(channel, bearer)
}

pub(crate) async fn connect(grpc: &str) -> Channel {
    Channel::from_shared(grpc.to_owned()).unwrap().connect().await.unwrap()
}

impl Credential {
    /// The form of the credential in a request.
    pub(crate) fn proof(&self) -> Option<Proof> {
        Some(if self.client_id.is_empty() {
            Proof::ApiKey(self.secret.clone())
        } else {
            Proof::ClientSecret(tokens::ClientSecret {
                client_id: self.client_id.clone(),
                client_secret: self.secret.clone(),
            })
        })
    }

    /// Exchanges it over gRPC.
    pub(crate) async fn exchange(
        &self,
        grpc: &str,
        scopes: &[&str],
        audiences: &[&str],
    ) -> Result<tokens::IssueTokenResponse, Status> {
        let owned = |values: &[&str]| values.iter().map(|v| (*v).to_owned()).collect();
        let request = tokens::IssueTokenRequest {
            credential: self.proof(),
            scopes: owned(scopes),
            audiences: owned(audiences),
        };
        let mut client = TokenServiceClient::new(connect(grpc).await);
        client.issue_token(request).await.map(tonic::Response::into_inner)
    }

    /// A token with all scopes and the default audience.
    pub(crate) async fn token(&self, grpc: &str) -> String {
        self.exchange(grpc, &[], &[]).await.unwrap().access_token
    }
}

impl Admin {
    pub(crate) async fn new(grpc: String, credential: &Credential) -> Self {
        let token = credential.exchange(&grpc, &[], &["keyward"]).await.unwrap().access_token;
        Self::on(&connect(&grpc).await, token, None)
    }

    /// The same, on a connection that exists.
    pub(crate) async fn over(channel: &Channel, credential: &Credential) -> Self {
        let request = tokens::IssueTokenRequest {
            credential: credential.proof(),
            scopes: Vec::new(),
            audiences: vec!["keyward".to_owned()],
        };
        let issued = TokenServiceClient::new(channel.clone()).issue_token(request).await;
        Self::on(channel, issued.unwrap().into_inner().access_token, None)
    }

    /// The caller with this token.
    pub(crate) async fn with_token(grpc: &str, token: &str) -> Self {
        Self::on(&connect(grpc).await, token.to_owned(), None)
    }

    fn on(channel: &Channel, token: String, user: Option<&str>) -> Self {
        let authorized = || acting_on(channel.clone(), &token, user);
        Self(Box::new(Clients {
            users: UserServiceClient::new(authorized()),
            roles: RoleServiceClient::new(authorized()),
            audit: AuditServiceClient::new(authorized()),
            tenants: TenantServiceClient::new(authorized()),
            scopes: ScopeServiceClient::new(authorized()),
            applications: ApplicationServiceClient::new(authorized()),
            credentials: CredentialServiceClient::new(authorized()),
            keys: SigningKeyServiceClient::new(authorized()),
            master_keys: MasterKeyServiceClient::new(authorized()),
            endpoints: EndpointServiceClient::new(authorized()),
            tokens: TokenServiceClient::new(authorized()),
            revocations: RevocationServiceClient::new(authorized()),
            access: AccessServiceClient::new(authorized()),
            channel: channel.clone(),
            token,
        }))
    }

    /// The platform's console: an application that may only act for users.
    pub(crate) async fn console(&mut self, kw: &Keyward) -> Self {
        let application = self.application("system", "console", &["keyward.manage"]).await;
        let (_, credential) = self.credential(&application.name, Kind::ClientSecret).await;
        Self::new(kw.grpc(), &credential).await
    }

    /// The same caller, acting for a user: `tenants/acme/users/sam`.
    pub(crate) fn acting_for(&self, user: &str) -> Self {
        Self::on(&self.channel, self.token.clone(), Some(user))
    }

    /// Creates a role with these permissions and scopes; `*` means all scopes.
    pub(crate) async fn role(
        &mut self,
        tenant: &str,
        id: &str,
        permissions: &[&str],
        scopes: &[&str],
    ) {
        let owned = |values: &[&str]| values.iter().map(|v| (*v).to_owned()).collect();
        let all_scopes = scopes == ["*"];
        let request = pb::CreateRoleRequest {
            parent: format!("tenants/{tenant}"),
            role_id: id.to_owned(),
            role: Some(pb::Role {
                permissions: owned(permissions),
                scopes: if all_scopes { Vec::new() } else { owned(scopes) },
                all_scopes,
                ..Default::default()
            }),
        };
        self.roles.create_role(request).await.unwrap();
    }

    /// Creates a user with these roles, or sets the roles of an existing user. Returns the name.
    pub(crate) async fn user(&mut self, tenant: &str, id: &str, roles: &[&str]) -> String {
        let name = format!("tenants/{tenant}/users/{id}");
        let request = pb::UpdateUserRequest {
            user: Some(pb::User {
                name: name.clone(),
                roles: roles.iter().map(|role| (*role).to_owned()).collect(),
                ..Default::default()
            }),
            update_mask: mask(&["roles"]),
            allow_missing: true,
        };
        self.users.update_user(request).await.unwrap();
        name
    }

    /// Creates a tenant with these scopes in its catalogue.
    pub(crate) async fn tenant(&mut self, id: &str, scopes: &[&str]) {
        let profile = pb::Profile {
            scopes: scopes
                .iter()
                .map(|scope| pb::Scope { name: (*scope).to_owned(), ..Default::default() })
                .collect(),
            ..Default::default()
        };
        let request = pb::ApplyProfileRequest {
            name: format!("tenants/{id}"),
            profile: Some(profile),
            ..Default::default()
        };
        self.tenants.apply_profile(request).await.unwrap();
    }

    /// Creates an application with these scopes.
    pub(crate) async fn application(
        &mut self,
        tenant: &str,
        id: &str,
        scopes: &[&str],
    ) -> pb::Application {
        let application = pb::Application {
            display_name: id.to_owned(),
            scopes: scopes.iter().map(|scope| (*scope).to_owned()).collect(),
            ..Default::default()
        };
        let request = pb::CreateApplicationRequest {
            parent: format!("tenants/{tenant}"),
            application_id: id.to_owned(),
            application: Some(application),
            request_id: String::new(),
        };
        let response = self.applications.create_application(request).await.unwrap();
        response.into_inner().application.unwrap()
    }

    /// Creates a credential.
    pub(crate) async fn credential(
        &mut self,
        application: &str,
        kind: Kind,
    ) -> (pb::Credential, Credential) {
        let request = pb::CreateCredentialRequest {
            parent: application.to_owned(),
            credential: Some(pb::Credential { kind: kind.into(), ..Default::default() }),
            request_id: String::new(),
        };
        let made = self.credentials.create_credential(request).await.unwrap().into_inner();
        let credential = made.credential.unwrap();
        let client_id = match kind {
            Kind::ApiKey => String::new(),
            _ => credential.client_id.clone(),
        };
        (credential, Credential { client_id, secret: made.secret })
    }

    /// A tenant `acme` with scopes `a`, `b` and `c`, an application `crm` with `a` and `b`, and its
    /// client secret.
    pub(crate) async fn acme(&mut self) -> (pb::Credential, Credential) {
        self.tenant("acme", &["a", "b", "c"]).await;
        self.application("acme", "crm", &["a", "b"]).await;
        self.credential("tenants/acme/applications/crm", Kind::ClientSecret).await
    }

    /// The introspection of a token.
    pub(crate) async fn introspect(&mut self, token: &str) -> tokens::IntrospectTokenResponse {
        let request = tokens::IntrospectTokenRequest { token: token.to_owned() };
        self.tokens.introspect_token(request).await.unwrap().into_inner()
    }

    /// The answer to a check of this token with these scopes.
    pub(crate) async fn check(
        &mut self,
        token: &str,
        scopes: &[&str],
    ) -> access::CheckAccessResponse {
        let request = question(token, scopes);
        self.access.check_access(request).await.unwrap().into_inner()
    }

    /// Whether introspection calls the token active.
    pub(crate) async fn is_active(&mut self, token: &str) -> bool {
        self.introspect(token).await.active
    }
}

/// A check whether a token has all of these scopes.
pub(crate) fn question(token: &str, scopes: &[&str]) -> access::CheckAccessRequest {
    let needed = access::RequiredScopes {
        all_of: scopes.iter().map(|scope| (*scope).to_owned()).collect(),
        any_of: Vec::new(),
    };
    access::CheckAccessRequest {
        token: token.to_owned(),
        requirement: Some(access::check_access_request::Requirement::Scopes(needed)),
        ..Default::default()
    }
}

/// A field mask.
pub(crate) fn mask(paths: &[&str]) -> Option<prost_types::FieldMask> {
    Some(prost_types::FieldMask { paths: paths.iter().map(|path| (*path).to_owned()).collect() })
}

/// The documented reason of an error.
pub(crate) fn reason(status: &Status) -> String {
    let info = status.get_details_error_info().expect("every error has ErrorInfo");
    assert_eq!(info.domain, "keyward");
    info.reason
}
