//! The rights of users for whom a console acts.

mod acting;
mod page;
mod platform;
mod roles;
mod secrets;
mod sight;
mod table;

use keyward::proto::admin as pb;
use keyward::proto::admin::credential::Kind;
use tonic::{Code, Status};

use crate::harness::{Admin, Backend, Keyward, mask};

/// A tenant `acme` with the scopes `a`, `b` and `c`, and a console that acts for its users.
struct Acme {
    kw: Keyward,
    admin: Admin,
    console: Admin,
}

impl Acme {
    async fn new(backend: Backend) -> Self {
        let kw = backend.start().await;
        let mut admin = kw.admin().await;
        admin.tenant("acme", &["a", "b", "c"]).await;
        let console = admin.console(&kw).await;
        Self { kw, admin, console }
    }

    /// A user with one role of the same name, and the console acting for that user.
    async fn user(&mut self, id: &str, permissions: &[&str], scopes: &[&str]) -> Admin {
        self.admin.role("acme", id, permissions, scopes).await;
        let name = self.admin.user("acme", id, &[id]).await;
        self.console.acting_for(&name)
    }

    async fn set_policy(&mut self, policy: pb::Policy) {
        let request = pb::UpdateTenantRequest {
            tenant: Some(pb::Tenant {
                name: "tenants/acme".to_owned(),
                policy: Some(policy),
                ..Default::default()
            }),
            update_mask: mask(&["policy"]),
        };
        self.admin.tenants.update_tenant(request).await.unwrap();
    }
}

/// A request to create an application of acme.
fn new_application(id: &str, application: pb::Application) -> pb::CreateApplicationRequest {
    pb::CreateApplicationRequest {
        parent: "tenants/acme".to_owned(),
        application_id: id.to_owned(),
        application: Some(pb::Application { display_name: id.to_owned(), ..application }),
        request_id: String::new(),
    }
}

fn application_name(id: &str) -> String {
    format!("tenants/acme/applications/{id}")
}

/// An update of these fields.
fn change(application: pb::Application, fields: &[&str]) -> pb::UpdateApplicationRequest {
    pb::UpdateApplicationRequest { application: Some(application), update_mask: mask(fields) }
}

fn disable_application(name: &str, disabled: bool) -> pb::UpdateApplicationRequest {
    let application = pb::Application { name: name.to_owned(), disabled, ..Default::default() };
    change(application, &["disabled"])
}

fn disable_credential(name: &str, disabled: bool) -> pb::UpdateCredentialRequest {
    let credential = pb::Credential { name: name.to_owned(), disabled, ..Default::default() };
    pb::UpdateCredentialRequest { credential: Some(credential), update_mask: mask(&["disabled"]) }
}

fn disable_scope(scope: &str, disabled: bool) -> pb::UpdateScopeRequest {
    let name = format!("tenants/acme/scopes/{scope}");
    pb::UpdateScopeRequest {
        scope: Some(pb::Scope { name, disabled, ..Default::default() }),
        update_mask: mask(&["disabled"]),
    }
}

fn disable_user(name: &str, disabled: bool) -> pb::UpdateUserRequest {
    pb::UpdateUserRequest {
        user: Some(pb::User { name: name.to_owned(), disabled, ..Default::default() }),
        update_mask: mask(&["disabled"]),
        allow_missing: false,
    }
}

fn new_credential(application: &str) -> pb::CreateCredentialRequest {
    pb::CreateCredentialRequest {
        parent: application.to_owned(),
        credential: Some(pb::Credential { kind: Kind::ApiKey.into(), ..Default::default() }),
        request_id: String::new(),
    }
}

fn rotate(name: &str) -> pb::RotateCredentialRequest {
    let overlap = Some(prost_types::Duration::default());
    pb::RotateCredentialRequest { name: name.to_owned(), overlap, ..Default::default() }
}

fn reveal(name: &str) -> pb::RevealCredentialRequest {
    pb::RevealCredentialRequest { name: name.to_owned() }
}

/// The errors have the same code and text, except for the names in them.
fn assert_alike(left: &Status, left_name: &str, right: &Status, right_name: &str) {
    assert_eq!(left.code(), right.code(), "{left:?}\n{right:?}");
    let (left, right) =
        (left.message().replace(left_name, "X"), right.message().replace(right_name, "X"));
    assert_eq!(left, right);
}

fn assert_denied(status: &Status) {
    assert_eq!(status.code(), Code::PermissionDenied, "{status:?}");
}
