//! Many concurrent revocations while connections break repeatedly: nothing is missed.

use std::time::Duration;

use futures_util::future::join_all;
use keyward::proto::admin::credential::Kind;
use keyward::verifier::{Refusal, Settings, Verifier};

use super::{gateway, refused, revoke, settings};
use crate::harness::{Admin, Keyward, Proxy, RedisServer, pause, until};

const WRITERS: usize = 64;
const EACH: usize = 12;

/// Gets tokens and revokes them, by token, credential or application. Returns the tokens.
async fn write(kw: &Keyward, admin: &mut Admin, writer: usize) -> Vec<String> {
    let application = admin.application("acme", &format!("app-{writer}"), &["a"]).await;
    let (credential, secret) = admin.credential(&application.name, Kind::ClientSecret).await;
    let mut revoked = Vec::new();
    for n in 0..EACH {
        let token = secret.token(&kw.grpc()).await;
        let id =
            jsonwebtoken::dangerous::insecure_decode::<keyward::internals::keys::Claims>(&token);
        match n % 3 {
            0 => revoke(admin, &credential.name, &id.unwrap().claims.jti).await,
            1 => revoke(admin, &credential.name, "").await,
            _ => revoke(admin, &application.name, "").await,
        }
        revoked.push(token);
        pause(Duration::from_millis(10 * ((writer + n) % 7) as u64)).await;
    }
    revoked
}

#[tokio::test(flavor = "multi_thread")]
async fn verifier_misses_no_revocation_over_breaking_connections() {
    let redis = RedisServer::start();
    // All tests share the same cores for hashes.
    let patient = [("secrets.hash_wait", "5m"), ("limits.request_timeout", "5m")];
    let replicas: [Keyward; 2] = Box::pin(Keyward::replicas(Some(&redis.url()), &patient)).await;
    let mut admin = replicas[0].admin().await;
    admin.tenant("acme", &["a"]).await;
    let gateway = gateway(&mut admin).await;
    let mut proxy = Proxy::to(replicas[0].server().grpc).await;
    let server = format!("http://{}", proxy.address);
    let settings = Settings {
        // This test checks what is known, not how old it is.
        max_lag: Duration::from_hours(1),
        ..settings(&replicas[0], &server, &gateway)
    };
    let verifier = Verifier::connect(settings).await.unwrap();

    let writers = (0..WRITERS).map(|writer| {
        let replica = &replicas[writer % 2];
        async move {
            let mut admin = replica.admin().await;
            write(replica, &mut admin, writer).await
        }
    });
    let mut writing = Box::pin(join_all(writers));
    let mut breaks = 0_u64;
    let revoked = loop {
        tokio::select! {
            revoked = &mut writing => break revoked.concat(),
            () = pause(Duration::from_millis(40 + breaks * 37 % 150)) => {}
        }
        // Alternates between replicas: one may not know yet what the other sent.
        breaks += 1;
        let next = usize::try_from(breaks % 2).unwrap();
        proxy.lead_to(replicas[next].server().grpc).await;
    };
    assert!(breaks > 5, "{breaks}");
    assert_eq!(revoked.len(), WRITERS * EACH);
    for token in &revoked {
        refused(&verifier, token, &Refusal::Revoked).await;
    }
    let held = replicas[0].server().service.revocations().index().len();
    until("as many as the server holds", async || verifier.revocations() == held).await;
    assert_eq!(held, WRITERS * EACH);
    tell(breaks, held);
}

#[expect(clippy::print_stdout, reason = "how often it broke is what is asked")]
fn tell(breaks: u64, held: usize) {
    println!("{held} revocations over a wire that broke {breaks} times: none missing");
}
