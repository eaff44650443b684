//! Where limits are stored, and that they are returned as they were set.

use keyward::proto::admin as pb;
use keyward::proto::admin::credential::Kind;
use tonic_types::StatusExt;

use crate::harness::{Admin, Backend, mask, on_both_databases, reason};

on_both_databases!(
    limits_are_stored_on_policies_applications_and_credentials,
    unset_limits_differ_from_empty_limits,
    limits_change_is_recorded_with_old_and_new_values,
    fixed_limits_apply_to_credentials,
    changing_limits_revokes_no_tokens,
);

const CRM: &str = "tenants/acme/applications/crm";

fn seconds(seconds: i64) -> Option<prost_types::Duration> {
    Some(prost_types::Duration { seconds, nanos: 0 })
}

/// Limits with a different value in each field.
fn limits(number: i64) -> pb::Limits {
    pb::Limits {
        requests: number,
        request_window: seconds(number + 1),
        items_per_request: number + 2,
        tokens: number + 3,
        token_window: seconds(number + 4),
        observe_only: number % 2 == 1,
    }
}

async fn set_policy(admin: &mut Admin, policy: pb::Policy) -> pb::Policy {
    let request = pb::UpdateTenantRequest {
        tenant: Some(pb::Tenant {
            name: "tenants/acme".to_owned(),
            policy: Some(policy),
            ..Default::default()
        }),
        update_mask: mask(&["policy"]),
    };
    let updated = admin.tenants.update_tenant(request).await.unwrap().into_inner();
    updated.tenant.unwrap().policy.unwrap()
}

fn of_application(limits: Option<pb::Limits>) -> pb::UpdateApplicationRequest {
    pb::UpdateApplicationRequest {
        application: Some(pb::Application { name: CRM.to_owned(), limits, ..Default::default() }),
        update_mask: mask(&["limits"]),
    }
}

fn of_credential(name: &str, limits: Option<pb::Limits>) -> pb::UpdateCredentialRequest {
    pb::UpdateCredentialRequest {
        credential: Some(pb::Credential { name: name.to_owned(), limits, ..Default::default() }),
        update_mask: mask(&["limits"]),
    }
}

/// The limits of the application and the credential after setting these.
async fn set(
    admin: &mut Admin,
    credential: &str,
    limits: Option<pb::Limits>,
) -> [Option<pb::Limits>; 2] {
    let application = admin.applications.update_application(of_application(limits)).await.unwrap();
    let update = of_credential(credential, limits);
    let credential = admin.credentials.update_credential(update).await.unwrap();
    [
        application.into_inner().application.unwrap().limits,
        credential.into_inner().credential.unwrap().limits,
    ]
}

async fn limits_are_stored_on_policies_applications_and_credentials(backend: Backend) {
    let kw = backend.start().await;
    let mut admin = kw.admin().await;
    admin.tenant("acme", &["a"]).await;
    let policy = pb::Policy {
        default_limits: Some(limits(1)),
        tenant_limits: Some(limits(11)),
        ..Default::default()
    };
    assert_eq!(set_policy(&mut admin, policy).await.default_limits, Some(limits(1)));
    let request = pb::GetTenantRequest { name: "tenants/acme".to_owned() };
    let read = admin.tenants.get_tenant(request).await.unwrap().into_inner().tenant.unwrap();
    assert_eq!(read.policy.unwrap().tenant_limits, Some(limits(11)));

    let request = pb::CreateApplicationRequest {
        parent: "tenants/acme".to_owned(),
        application_id: "crm".to_owned(),
        application: Some(pb::Application {
            display_name: "CRM".to_owned(),
            limits: Some(limits(22)),
            ..Default::default()
        }),
        ..Default::default()
    };
    admin.applications.create_application(request).await.unwrap();
    let request = pb::GetApplicationRequest { name: CRM.to_owned() };
    let read = admin.applications.get_application(request).await.unwrap().into_inner();
    assert_eq!(read.application.unwrap().limits, Some(limits(22)));

    let request = pb::CreateCredentialRequest {
        parent: CRM.to_owned(),
        credential: Some(pb::Credential {
            kind: Kind::ApiKey.into(),
            limits: Some(limits(33)),
            ..Default::default()
        }),
        ..Default::default()
    };
    let made = admin.credentials.create_credential(request).await.unwrap().into_inner();
    let made = made.credential.unwrap();
    assert_eq!(made.limits, Some(limits(33)));
    let request = pb::ListCredentialsRequest { parent: CRM.to_owned(), ..Default::default() };
    let list = admin.credentials.list_credentials(request).await.unwrap().into_inner();
    assert_eq!(list.credentials[0].limits, Some(limits(33)));
    // A rotation keeps them.
    let request = pb::RotateCredentialRequest { name: made.name.clone(), ..Default::default() };
    let rotated = admin.credentials.rotate_credential(request).await.unwrap().into_inner();
    assert_eq!(rotated.credential.unwrap().limits, Some(limits(33)));
    assert_eq!(set(&mut admin, &made.name, Some(limits(44))).await, [Some(limits(44)); 2]);
}

async fn unset_limits_differ_from_empty_limits(backend: Backend) {
    let kw = backend.start().await;
    let mut admin = kw.admin().await;
    let name = admin.acme().await.0.name;
    let unlimited = pb::Limits::default();
    for limits in [None, Some(unlimited), Some(limits(5)), Some(unlimited), None] {
        assert_eq!(set(&mut admin, &name, limits).await, [limits; 2]);
    }
    // A number without a window gets a minute. A window without a number is ignored.
    let given = pb::Limits { requests: 7, token_window: seconds(3), ..Default::default() };
    let kept = pb::Limits { requests: 7, request_window: seconds(60), ..Default::default() };
    assert_eq!(set(&mut admin, &name, Some(given)).await, [Some(kept); 2]);
    // The largest valid numbers.
    let max = 1_000_000_000_000;
    let largest = pb::Limits {
        requests: max,
        request_window: seconds(86_400),
        items_per_request: max,
        tokens: max,
        token_window: seconds(86_400),
        observe_only: false,
    };
    assert_eq!(set(&mut admin, &name, Some(largest)).await, [Some(largest); 2]);
}

async fn limits_change_is_recorded_with_old_and_new_values(backend: Backend) {
    let kw = backend.start().await;
    let mut admin = kw.admin().await;
    let name = admin.acme().await.0.name;
    set(&mut admin, &name, Some(limits(5))).await;
    set(&mut admin, &name, Some(pb::Limits::default())).await;
    let policy = pb::Policy { tenant_limits: Some(limits(2)), ..Default::default() };
    set_policy(&mut admin, policy).await;
    let request = pb::ListAuditEventsRequest {
        parent: "tenants/acme".to_owned(),
        order_by: "time".to_owned(),
        page_size: 1000,
        ..Default::default()
    };
    let events = admin.audit.list_audit_events(request).await.unwrap().into_inner().events;
    let reported: Vec<_> = events
        .iter()
        .filter(|event| event.action.starts_with("Update"))
        .map(|event| {
            let [change] = &event.changes[..] else { panic!("{event:?}") };
            (event.action.as_str(), [&change.field, &change.before, &change.after])
        })
        .map(|(action, change)| (action, change.map(String::as_str)))
        .collect();
    let five = "5 requests in 6 s, 8 tokens in 9 s, 7 items in a request, observed only";
    let two = "2 requests in 3 s, 5 tokens in 6 s, 4 items in a request";
    let expected = [
        ("UpdateApplication", ["limits", "", five]),
        ("UpdateCredential", ["limits", "", five]),
        ("UpdateApplication", ["limits", five, "no limits"]),
        ("UpdateCredential", ["limits", five, "no limits"]),
        ("UpdateTenant", ["policy.tenant_limits", "", two]),
    ];
    assert_eq!(reported, expected);
}

async fn fixed_limits_apply_to_credentials(backend: Backend) {
    let kw = backend.start().await;
    let mut admin = kw.admin().await;
    let name = admin.acme().await.0.name;
    let fixed = pb::Policy { fixed_fields: vec!["limits".to_owned()], ..Default::default() };
    set_policy(&mut admin, fixed).await;
    let to_five = of_application(Some(limits(5)));
    for status in [
        admin.applications.update_application(to_five).await.unwrap_err(),
        admin
            .credentials
            .update_credential(of_credential(&name, Some(limits(5))))
            .await
            .unwrap_err(),
    ] {
        assert_eq!(reason(&status), "POLICY");
        let violations = status.get_details_precondition_failure().unwrap().violations;
        assert_eq!(violations[0].r#type, "fixed_fields");
    }
    assert_eq!(set(&mut admin, &name, None).await, [None; 2], "what does not change is no change");
}

async fn changing_limits_revokes_no_tokens(backend: Backend) {
    let kw = backend.start().await;
    let mut admin = kw.admin().await;
    let (credential, crm) = admin.acme().await;
    let token = crm.token(&kw.grpc()).await;
    set(&mut admin, &credential.name, Some(limits(1))).await;
    set_policy(&mut admin, pb::Policy { tenant_limits: Some(limits(1)), ..Default::default() })
        .await;
    assert!(admin.is_active(&token).await);
}
