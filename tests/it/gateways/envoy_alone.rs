//! What Envoy does with tokens of Keyward by itself: it verifies them with the published keys, and gets
//! them for a program that has no credential.

use keyward::internals::clock::Clock;

use super::{Scene, refused};
use crate::harness::gateway::{EchoService, EnvoyRun, Gateway};
use crate::harness::{Backend, until};

/// Envoy's time is real. Then the administrator needs another token.
async fn move_to_present(scene: &mut Scene) {
    let ahead = Clock::system().now().duration_since(scene.kw.now());
    scene.kw.advance(u64::try_from(ahead.as_secs()).unwrap());
    scene.admin = scene.kw.admin().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn envoy_verifies_tokens_with_the_published_keys() {
    let mut scene = Scene::start(Backend::Sqlite, &[]).await;
    move_to_present(&mut scene).await;
    let token = scene.crm.token(&scene.kw.grpc()).await;
    let service = EchoService::start().await;
    let run = EnvoyRun {
        file: "jwt.yaml",
        keyward: scene.http(),
        service: service.port,
        environment: ("KEYWARD", ""),
    };
    let envoy = Gateway::envoy(run, |config| {
        config.replace("https://keyward.example.com", "https://keyward.test")
    });
    let bearer = format!("Bearer {token}");
    let headers = [("Authorization", bearer.as_str()), ("X-Keyward-Tenant", "forged")];
    let answer = envoy.send("GET /v1/calls", &headers).await;
    assert_eq!(answer.received("x-keyward-application"), ["tenants/acme/applications/crm"]);
    assert_eq!(answer.received("x-keyward-scopes"), ["a b"]);
    assert!(!answer.body.contains("forged") && !answer.body.contains(&token), "{answer:?}");

    refused(&envoy.send("GET /v1/calls", &[]).await, 401);
    let (signed, signature) = token.rsplit_once('.').unwrap();
    let other = if signature.starts_with('A') { 'B' } else { 'A' };
    let forged = format!("Bearer {signed}.{other}{}", &signature[1..]);
    refused(&envoy.send("GET /v1/calls", &[("Authorization", &forged)]).await, 401);
    let query = format!("GET /v1/calls?access_token={token}");
    refused(&envoy.send(&query, &[]).await, 401);
    scene.revoke().await;
    let revoked = envoy.send("GET /v1/calls", &headers).await;
    assert_eq!(revoked.status, 200, "it knows no revocations, as its file says: {revoked:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn envoy_adds_a_token_for_a_program_without_credential() {
    let mut scene = Scene::start(Backend::Sqlite, &[]).await;
    let service = EchoService::start().await;
    let run = EnvoyRun {
        file: "egress.yaml",
        keyward: scene.http(),
        service: service.port,
        environment: ("KEYWARD_CLIENT_SECRET", &scene.crm.secret),
    };
    let id = scene.crm.client_id.clone();
    let envoy = Gateway::envoy(run, |config| config.replace("CLIENT_ID\n", &format!("{id}\n")));
    // Envoy asks for its first token while it starts.
    until("Envoy has a token", async || envoy.send("GET /", &[]).await.status == 200).await;
    for headers in [&[][..], &[("Authorization", "Bearer of-the-program")]] {
        let answer = envoy.send("GET /v1/calls", headers).await;
        let sent = answer.received("authorization");
        let [sent] = sent[..] else { panic!("{answer:?}") };
        assert!(scene.admin.is_active(sent.strip_prefix("Bearer ").unwrap()).await, "{answer:?}");
    }
}
