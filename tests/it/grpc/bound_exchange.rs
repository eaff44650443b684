//! Exchange of bound tokens: it is a use of the token, and the new token is bound as well.

use std::sync::Arc;

use keyward::internals::domain::{
    Client, ClientCertificate, CredentialId, GrantRequest, TokenType,
};
use keyward::internals::error::Error;
use keyward::internals::service::{
    ExchangeRequest, GrantType, IssuedToken, PresentedToken, RequestContext,
};
use keyward::internals::store::{Database, PoolOptions, Store};
use keyward::proto::access::check_access_response::Outcome;

use crate::harness::{Backend, Credential, Keyward, PATIENCE};

async fn client(kw: &Keyward, credential: &Credential) -> Client {
    let id = CredentialId::parse(&credential.client_id).unwrap();
    let database = Database::Sqlite(kw.folder().join("keyward.db"));
    let pool = PoolOptions { max_connections: 1, acquire_timeout: PATIENCE };
    let store = Store::open(&database, pool).await.unwrap();
    store.read().await.unwrap().find_client(&id).await.unwrap().unwrap()
}

fn certificate() -> ClientCertificate {
    let made = rcgen::generate_simple_self_signed(["client".to_owned()]).unwrap();
    ClientCertificate::presented([&made.cert.der()[..]]).unwrap()
}

async fn issue(
    kw: &Keyward,
    client: &Arc<Client>,
    certificate: Option<&ClientCertificate>,
    grant: GrantType,
) -> Result<IssuedToken, Error> {
    let context = RequestContext::new(None, kw.now()).with_certificate(certificate);
    kw.server().service.tokens.issue_to(&context, client, grant).await
}

#[tokio::test(flavor = "multi_thread")]
async fn bound_token_is_exchanged_only_with_its_certificate() {
    let kw = Backend::Sqlite.start().await;
    let mut admin = kw.admin().await;
    let (_, crm) = admin.acme().await;
    let (_, gateway) = admin.exchanger("acme", "gateway", &["tenants/acme"]).await;
    let (right, wrong) = (certificate(), certificate());
    let owner = client(&kw, &crm).await;
    let plain = Arc::new(owner.clone());
    let mut with_certificate = owner;
    with_certificate.certificate_bound_tokens = true;
    let with_certificate = Arc::new(with_certificate);
    let gateway = Arc::new(client(&kw, &gateway).await);
    let own = || GrantType::ClientCredentials(GrantRequest::default());
    let unbound = issue(&kw, &plain, Some(&right), own()).await.unwrap();
    let bound = issue(&kw, &with_certificate, Some(&right), own()).await.unwrap();
    assert!(unbound.confirmation.is_none() && bound.confirmation.is_some());

    for (subject, actor) in
        [(&unbound, None), (&bound, None), (&unbound, Some(&bound)), (&bound, Some(&unbound))]
    {
        let mut presented = [Some(subject), actor].into_iter().flatten();
        let is_bound = presented.find_map(|token| token.confirmation.as_ref());
        for shown in [None, Some(&right), Some(&wrong)] {
            let presented = |token: &IssuedToken| PresentedToken {
                token: token.access_token.clone(),
                declared: TokenType::AccessToken,
            };
            let request = ExchangeRequest {
                subject: presented(subject),
                actor: actor.map(presented),
                requested: TokenType::AccessToken,
                wanted: GrantRequest::default(),
            };
            let grant = GrantType::TokenExchange(Box::new(request));
            let issued = issue(&kw, &gateway, shown, grant).await;
            let case = format!("{is_bound:?} with {shown:?}");
            if is_bound.is_some() && shown != Some(&right) {
                let Err(Error::InvalidFields(faults)) = issued else { panic!("{case}") };
                let expected =
                    if subject.confirmation.is_some() { "subject_token" } else { "actor_token" };
                assert_eq!(faults[0].field, expected, "{case}");
                continue;
            }
            let issued = issued.expect(&case);
            assert_eq!(issued.confirmation.as_ref(), is_bound, "{case}");
            let token = issued.access_token.expose();
            let outcome = admin.check(token, &["a"]).await.outcome();
            let needs_more = is_bound.is_some();
            assert_eq!(outcome == Outcome::NotPossessed, needs_more, "{case}");
        }
    }
}
