//! Concurrency: no errors and no lost rows.

use std::collections::HashSet;

use keyward::proto::admin as pb;
use keyward::proto::admin::credential::Kind;

use crate::harness::{Backend, Credential, on_both_databases};

on_both_databases!(two_hundred_concurrent_creates_and_exchanges_succeed);

const MANY: usize = 200;

async fn two_hundred_concurrent_creates_and_exchanges_succeed(backend: Backend) {
    // All tests share the same cores for hashes.
    let patient = [("secrets.hash_wait", "5m"), ("limits.request_timeout", "5m")];
    let kw = backend.start_with(&patient).await;
    let mut admin = kw.admin().await;
    admin.tenant("acme", &["a"]).await;

    let creates = (0..MANY).map(|n| {
        let (applications, credentials) = (admin.applications.clone(), admin.credentials.clone());
        tokio::spawn(create(applications, credentials, n))
    });
    let mut made = Vec::new();
    for create in creates.collect::<Vec<_>>() {
        made.push(create.await.unwrap());
    }

    let grpc = kw.grpc();
    let exchanges = made.iter().cloned().map(|credential| {
        let grpc = grpc.clone();
        tokio::spawn(async move { credential.token(&grpc).await })
    });
    let mut tokens = HashSet::new();
    for exchange in exchanges.collect::<Vec<_>>() {
        tokens.insert(exchange.await.unwrap());
    }
    assert_eq!(tokens.len(), MANY);

    let request = pb::ListApplicationsRequest {
        parent: "tenants/acme".to_owned(),
        page_size: 1000,
        page_token: String::new(),
        ..Default::default()
    };
    let list = admin.applications.list_applications(request).await.unwrap().into_inner();
    assert_eq!(list.applications.len(), MANY);
    assert!(admin.is_active(tokens.iter().next().unwrap()).await);
}

type Applications =
    pb::application_service_client::ApplicationServiceClient<crate::harness::Authorized>;
type Credentials =
    pb::credential_service_client::CredentialServiceClient<crate::harness::Authorized>;

async fn create(
    mut applications: Applications,
    mut credentials: Credentials,
    n: usize,
) -> Credential {
    let request = pb::CreateApplicationRequest {
        parent: "tenants/acme".to_owned(),
        application: Some(pb::Application {
            display_name: format!("application {n}"),
            scopes: vec!["a".to_owned()],
            ..Default::default()
        }),
        ..Default::default()
    };
    let application = applications.create_application(request).await.unwrap().into_inner();
    let request = pb::CreateCredentialRequest {
        parent: application.application.unwrap().name,
        credential: Some(pb::Credential { kind: Kind::ClientSecret.into(), ..Default::default() }),
        request_id: String::new(),
    };
    let made = credentials.create_credential(request).await.unwrap().into_inner();
    Credential { client_id: made.credential.unwrap().client_id, secret: made.secret }
}
