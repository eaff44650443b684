//! How long the tokens of an application live: by its own lifetime and its tenant's.

use keyward::proto::admin as pb;
use keyward::proto::admin::credential::Kind;
use keyward::proto::token as tokens;
use prost_types::Duration;
use tonic::Status;
use tonic_types::StatusExt;

use crate::harness::{
    API_KEY, Admin, Backend, Credential, Keyward, exchange_of, mask, on_both_databases, reason,
};

on_both_databases!(
    shorter_lifetime_of_tenant_and_application_applies,
    lifetime_out_of_bounds_is_refused_by_its_field,
    change_of_a_lifetime_is_audited_and_revokes_nothing,
    application_is_created_with_a_lifetime,
    exchanged_api_key_gives_no_longer_token,
);

const CRM: &str = "tenants/acme/applications/crm";

fn seconds(seconds: i64) -> Duration {
    Duration { seconds, nanos: 0 }
}

async fn set(admin: &mut Admin, lifetime: Option<Duration>) -> Result<pb::Application, Status> {
    let application = pb::Application {
        name: CRM.to_owned(),
        access_token_lifetime: lifetime,
        ..Default::default()
    };
    let request = pb::UpdateApplicationRequest {
        application: Some(application),
        update_mask: mask(&["access_token_lifetime"]),
    };
    Ok(admin.applications.update_application(request).await?.into_inner().application.unwrap())
}

async fn set_of_tenant(admin: &mut Admin, lifetime: i64) {
    let tenant = pb::Tenant {
        name: "tenants/acme".to_owned(),
        access_token_lifetime: Some(seconds(lifetime)),
        ..Default::default()
    };
    let request = pb::UpdateTenantRequest {
        tenant: Some(tenant),
        update_mask: mask(&["access_token_lifetime"]),
    };
    admin.tenants.update_tenant(request).await.unwrap();
}

async fn lived(kw: &Keyward, client: &Credential) -> i64 {
    client.exchange(&kw.grpc(), &[], &[]).await.unwrap().expires_in.unwrap().seconds
}

async fn shorter_lifetime_of_tenant_and_application_applies(backend: Backend) {
    let kw = backend.start().await;
    let mut admin = kw.admin().await;
    let (_, crm) = admin.acme().await;
    assert_eq!(lived(&kw, &crm).await, 900, "by default");
    for (of_application, of_tenant, expected) in [
        (Some(60), 900, 60),
        (Some(300), 900, 300),
        (Some(300), 120, 120),
        (Some(3600), 120, 120),
        (Some(3600), 3600, 3600),
        (None, 3600, 3600),
    ] {
        set_of_tenant(&mut admin, of_tenant).await;
        let changed = set(&mut admin, of_application.map(seconds)).await.unwrap();
        assert_eq!(changed.access_token_lifetime, of_application.map(seconds));
        let case = format!("{of_application:?} {of_tenant}");
        assert_eq!(lived(&kw, &crm).await, expected, "{case}: at the next token");
        let answer = kw.token_for(&crm, &[]).await.json();
        assert_eq!(answer["expires_in"], expected, "{case}");
    }
    set(&mut admin, Some(seconds(300))).await.unwrap();
    // The end of the application still ends its tokens.
    let end = pb::Application {
        name: CRM.to_owned(),
        expire_time: Some(seconds_from(&kw, 100)),
        ..Default::default()
    };
    let request = pb::UpdateApplicationRequest {
        application: Some(end),
        update_mask: mask(&["expire_time"]),
    };
    admin.applications.update_application(request).await.unwrap();
    assert_eq!(lived(&kw, &crm).await, 100);
}

fn seconds_from(kw: &Keyward, seconds: i64) -> prost_types::Timestamp {
    prost_types::Timestamp { seconds: kw.now().as_second() + seconds, nanos: 0 }
}

async fn lifetime_out_of_bounds_is_refused_by_its_field(backend: Backend) {
    let kw = backend.start().await;
    let mut admin = kw.admin().await;
    let (_, crm) = admin.acme().await;
    for right in [60, 3600] {
        set(&mut admin, Some(seconds(right))).await.unwrap();
    }
    set(&mut admin, Some(seconds(120))).await.unwrap();
    let fraction = Duration { seconds: 60, nanos: 1 };
    let wrong = [-1, 0, 1, 59, 3601, i64::MAX].map(seconds).into_iter().chain([fraction]);
    for wrong in wrong {
        let status = set(&mut admin, Some(wrong)).await.unwrap_err();
        assert_eq!(reason(&status), "INVALID_FIELD", "{wrong:?}");
        let violations = status.get_details_bad_request().unwrap().field_violations;
        assert_eq!(violations[0].field, "application.access_token_lifetime", "{wrong:?}");
        let request = pb::CreateApplicationRequest {
            parent: "tenants/acme".to_owned(),
            application: Some(pb::Application {
                display_name: "New".to_owned(),
                access_token_lifetime: Some(wrong),
                ..Default::default()
            }),
            ..Default::default()
        };
        let status = admin.applications.create_application(request).await.unwrap_err();
        let violations = status.get_details_bad_request().unwrap().field_violations;
        assert_eq!(violations[0].field, "application.access_token_lifetime", "{wrong:?}");
    }
    assert_eq!(lived(&kw, &crm).await, 120, "nothing was changed");
}

async fn change_of_a_lifetime_is_audited_and_revokes_nothing(backend: Backend) {
    let kw = backend.start().await;
    let mut admin = kw.admin().await;
    let (_, crm) = admin.acme().await;
    let token = crm.token(&kw.grpc()).await;
    for (lifetime, before, after) in
        [(Some(300), "", "300s"), (Some(60), "300s", "60s"), (None, "60s", "")]
    {
        set(&mut admin, lifetime.map(seconds)).await.unwrap();
        let request =
            pb::ListAuditEventsRequest { parent: "tenants/acme".to_owned(), ..Default::default() };
        let events = admin.audit.list_audit_events(request).await.unwrap().into_inner().events;
        let changes: Vec<_> = events[0]
            .changes
            .iter()
            .map(|change| (&*change.field, &*change.before, &*change.after))
            .collect();
        assert_eq!(changes, [("access_token_lifetime", before, after)]);
    }
    assert!(admin.is_active(&token).await);
    kw.advance(899);
    assert!(admin.is_active(&token).await, "it keeps its own lifetime");
}

async fn application_is_created_with_a_lifetime(backend: Backend) {
    let kw = backend.start().await;
    let mut admin = kw.admin().await;
    admin.tenant("acme", &["a"]).await;
    let request = pb::CreateApplicationRequest {
        parent: "tenants/acme".to_owned(),
        application_id: "crm".to_owned(),
        application: Some(pb::Application {
            display_name: "CRM".to_owned(),
            scopes: vec!["a".to_owned()],
            access_token_lifetime: Some(seconds(77)),
            ..Default::default()
        }),
        ..Default::default()
    };
    let made = admin.applications.create_application(request).await.unwrap().into_inner();
    let made = made.application.unwrap();
    assert_eq!(made.access_token_lifetime, Some(seconds(77)));
    let (_, crm) = admin.credential(CRM, Kind::ClientSecret).await;
    assert_eq!(lived(&kw, &crm).await, 77);
    let request = pb::GetApplicationRequest { name: CRM.to_owned() };
    let read = admin.applications.get_application(request).await.unwrap().into_inner();
    assert_eq!(read.application.unwrap().access_token_lifetime, Some(seconds(77)));
}

async fn exchanged_api_key_gives_no_longer_token(backend: Backend) {
    let kw = backend.start().await;
    let mut admin = kw.admin().await;
    let (_, crm) = admin.acme().await;
    let (_, key) = admin.credential(CRM, Kind::ApiKey).await;
    let (_, gateway) = admin.exchanger("acme", "gateway", &["tenants/acme"]).await;
    set(&mut admin, Some(seconds(60))).await.unwrap();
    let of_key = tokens::ExchangeTokenRequest {
        subject_token_type: API_KEY.to_owned(),
        ..exchange_of(&key.secret)
    };
    let of_token = exchange_of(&crm.token(&kw.grpc()).await);
    for request in [of_key, of_token] {
        let issued = gateway.exchange_token(&kw.grpc(), request).await.unwrap();
        assert_eq!(issued.expires_in.unwrap().seconds, 60);
    }
}
