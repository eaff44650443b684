//! Which credentials may accept a token of another issuer.

use keyward::internals::domain::{
    Application, Credential, CredentialId, CredentialKind, Federation, KeySource, Record,
    Registration, TenantId,
};
use keyward::internals::store::Store;

use super::{acme, credential, now, tenant};
use crate::harness::{Backend, on_both_databases};

on_both_databases!(credentials_are_found_by_issuer_and_subject);

const ISSUER: &str = "https://issuer.example";

fn federated(application: &Application, id: u8, issuer: &str, subject: &str) -> Credential {
    let mut made = credential(application, id);
    made.kind = CredentialKind::Federated;
    made.secrets.clear();
    made.settings.registration = Some(Registration::Federated(Federation {
        issuer: issuer.to_owned(),
        keys: Some(KeySource::JwksUri("https://issuer.example/keys".to_owned())),
        subject: subject.to_owned(),
        audiences: Vec::new(),
        claims: Vec::new(),
    }));
    made
}

async fn found(store: &Store, tenant: &str, subject: &str, max: usize) -> Vec<CredentialId> {
    let tenant = TenantId::parse(tenant).unwrap();
    let mut session = store.read().await.unwrap();
    session.federated_credentials(&tenant, (ISSUER, subject), max).await.unwrap()
}

async fn credentials_are_found_by_issuer_and_subject(backend: Backend) {
    let (fresh, application) = acme(backend).await;
    let long = "s".repeat(1024);
    let all = [
        federated(&application, 1, ISSUER, "a"),
        federated(&application, 2, ISSUER, "b"),
        federated(&application, 3, ISSUER, ""),
        federated(&application, 4, "https://issuer.example/", "a"),
        federated(&application, 5, &format!("{ISSUER}a"), ""),
        federated(&application, 6, ISSUER, &long),
    ];
    let [a, b, any, .., with_long] = all.each_ref().map(|credential| credential.name.credential);
    let mut tx = fresh.store.begin().await.unwrap();
    assert!(tx.insert_tenant(&tenant("other")).await.unwrap());
    for credential in &all {
        assert!(tx.insert_credential(credential, None).await.unwrap());
    }
    // One without a registration of this kind is not there.
    assert!(tx.insert_credential(&credential(&application, 7), None).await.unwrap());
    tx.commit().await.unwrap();
    let store = &fresh.store;
    assert_eq!(found(store, "acme", "a", 9).await, [a, any]);
    assert_eq!(found(store, "acme", "a", 1).await, [a]);
    assert_eq!(found(store, "acme", "c", 9).await, [any]);
    assert_eq!(found(store, "acme", &long, 9).await, [any, with_long]);
    assert!(found(store, "other", "a", 9).await.is_empty());

    let changed = Credential {
        record: Record { revision: 2, ..Record::new(now()) },
        ..federated(&application, 1, ISSUER, "b")
    };
    let mut tx = store.begin().await.unwrap();
    assert!(tx.update_credential(&changed).await.unwrap());
    assert!(!tx.update_credential(&changed).await.unwrap(), "it has another revision");
    tx.delete_credential(&any).await.unwrap();
    tx.commit().await.unwrap();
    assert!(found(store, "acme", "a", 9).await.is_empty());
    assert_eq!(found(store, "acme", "b", 9).await, [a, b]);
}
