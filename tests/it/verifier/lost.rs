//! What happens when the feed is lost, and how it is found again.

use std::time::Duration;

use keyward::internals::clock::Clock;
use keyward::proto::admin as pb;
use keyward::proto::admin::credential::Kind;
use keyward::verifier::{Refusal, Settings, Verifier, WhenLost};
use tokio::net::TcpListener;
use tokio::time::timeout;

use super::{
    ACME, PATIENCE, gateway, is_lost, now, refused, revoke, settings, taken, until, verifier,
};
use crate::harness::{Admin, Backend, Credential, Keyward, Proxy};

/// A server, its administrator, acme's application, and a verifier whose wire can be cut.
struct Wired {
    kw: Keyward,
    admin: Admin,
    crm: Credential,
    gateway: Credential,
    proxy: Proxy,
}

impl Wired {
    async fn to(kw: Keyward) -> Self {
        let mut admin = kw.admin().await;
        let (_, crm) = admin.acme().await;
        let gateway = gateway(&mut admin).await;
        let proxy = Proxy::to(kw.server().grpc).await;
        Self { kw, admin, crm, gateway, proxy }
    }

    fn settings(&self) -> Settings {
        let server = format!("http://{}", self.proxy.address);
        Settings { max_lag: Duration::from_secs(2), ..settings(&self.kw, &server, &self.gateway) }
    }

    async fn verifier(&self) -> Verifier {
        Verifier::connect(self.settings()).await.unwrap()
    }

    async fn token(&self) -> String {
        self.crm.token(&self.kw.grpc()).await
    }
}

/// Waits until a verifier has heard nothing for too long.
async fn lost(verifier: &Verifier) {
    until("it is lost", || verifier.lag() > Duration::from_secs(2)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_the_feed_tokens_are_refused_and_with_it_taken_again() {
    let mut wired = Wired::to(Backend::Sqlite.start().await).await;
    let verifier = wired.verifier().await;
    let other = wired.token().await;
    revoke(&mut wired.admin, ACME, "").await;
    refused(&verifier, &other, &Refusal::Revoked).await;
    let good = wired.token().await;
    taken(&verifier, &good).await;

    wired.proxy.cut().await;
    let cut = now();
    until("it is lost", || is_lost(&verifier, &good)).await;
    assert!(cut.elapsed() < Duration::from_secs(10), "{:?}", cut.elapsed());
    assert!(verifier.lag() > Duration::from_secs(2));
    assert!(verifier.verify(&good).unwrap_err().is_temporary());
    assert_eq!(verifier.verify(&other), Err(Refusal::Revoked), "that is certain");
    assert_eq!(verifier.verify("x"), Err(Refusal::Malformed), "and so is that");

    // Whatever is revoked meanwhile is known before anything is taken again.
    let late = wired.token().await;
    revoke(&mut wired.admin, "tenants/acme/applications/crm", "").await;
    let new = wired.token().await;
    wired.proxy.mend().await;
    taken(&verifier, &new).await;
    assert_eq!(verifier.verify(&good), Err(Refusal::Revoked));
    assert_eq!(verifier.verify(&late), Err(Refusal::Revoked));
    assert!(verifier.lag() <= Duration::from_secs(2));
}

#[tokio::test(flavor = "multi_thread")]
async fn who_would_rather_go_on_does_so_for_as_long_as_he_said() {
    let mut wired = Wired::to(Backend::Sqlite.start().await).await;
    let patient =
        Settings { when_lost: WhenLost::RefuseAfter(Duration::from_secs(3)), ..wired.settings() };
    let patient = Verifier::connect(patient).await.unwrap();
    let strict = wired.verifier().await;
    let good = wired.token().await;
    taken(&patient, &good).await;
    wired.proxy.cut().await;
    until("the strict one refuses", || is_lost(&strict, &good)).await;
    assert!(patient.lag() > Duration::from_secs(5) || patient.verify(&good).is_ok());
    until("its time is over", || is_lost(&patient, &good)).await;
    assert!(patient.lag() > Duration::from_secs(5));
    wired.proxy.mend().await;
    taken(&patient, &good).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_silent_wire_is_a_lost_one() {
    let mut wired = Wired::to(Backend::Sqlite.start().await).await;
    let verifier = wired.verifier().await;
    let good = wired.token().await;
    taken(&verifier, &good).await;
    // Nothing ends and nothing comes: as when a machine loses its power.
    wired.proxy.hold();
    until("it is lost", || is_lost(&verifier, &good)).await;
    revoke(&mut wired.admin, ACME, "").await;
    let new = wired.token().await;
    // Those that were held stay so: it has to come again by itself.
    wired.proxy.release();
    taken(&verifier, &new).await;
    assert_eq!(verifier.verify(&good), Err(Refusal::Revoked));
}

#[tokio::test(flavor = "multi_thread")]
async fn who_comes_back_goes_on_where_he_was() {
    let mut wired = Wired::to(Backend::Sqlite.start().await).await;
    let (old, credential) = {
        let application = "tenants/acme/applications/crm";
        let (made, _) = wired.admin.credential(application, Kind::ClientSecret).await;
        (wired.token().await, made.name)
    };
    revoke(&mut wired.admin, ACME, "").await;
    // For this verifier time stands still, so that it forgets nothing.
    let clock = Clock::manual(wired.kw.now());
    let verifier =
        Verifier::connect(Settings { clock: clock.clone(), ..wired.settings() }).await.unwrap();
    assert_eq!(verifier.revocations(), 1);
    wired.proxy.cut().await;
    lost(&verifier).await;
    // At the server the first lapses and is gone: it would not be in a snapshot.
    wired.kw.advance(7200);
    wired.kw.server().service.purge_revocations().await.unwrap();
    let mut admin = wired.kw.admin().await;
    revoke(&mut admin, &credential, "late").await;
    let good = wired.token().await;
    // What the clock shows decides over tokens, and time that passed over what is forgotten.
    clock.set_ahead(Duration::from_hours(2));
    wired.proxy.mend().await;
    taken(&verifier, &good).await;
    assert_eq!(verifier.revocations(), 2, "what was known and what came");
    clock.set_back(Duration::from_hours(2));
    assert_eq!(verifier.verify(&old), Err(Refusal::Revoked));
}

#[tokio::test(flavor = "multi_thread")]
async fn who_was_away_too_long_begins_anew() {
    let mut wired = Wired::to(Backend::Sqlite.start().await).await;
    revoke(&mut wired.admin, ACME, "").await;
    let verifier = wired.verifier().await;
    assert_eq!(verifier.revocations(), 1);
    wired.proxy.cut().await;
    lost(&verifier).await;
    revoke(&mut wired.admin, ACME, "").await;
    wired.kw.advance(2 * 3600);
    wired.kw.server().service.purge_revocations().await.unwrap();
    let mut admin = wired.kw.admin().await;
    let revoked = wired.token().await;
    revoke(&mut admin, ACME, "").await;
    let good = wired.token().await;
    wired.proxy.mend().await;
    taken(&verifier, &good).await;
    assert_eq!(verifier.verify(&revoked), Err(Refusal::Revoked));
    assert_eq!(verifier.revocations(), 1, "the one that there is");
    // And from there it goes on.
    revoke(&mut admin, "tenants/acme/applications/crm", "").await;
    refused(&verifier, &good, &Refusal::Revoked).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_comes_again_is_found_again() {
    let mut wired = Wired::to(Backend::Sqlite.start().await).await;
    let verifier = wired.verifier().await;
    let revoked = wired.token().await;
    taken(&verifier, &revoked).await;
    revoke(&mut wired.admin, ACME, "").await;
    wired.kw.restart().await;
    wired.proxy.lead_to(wired.kw.server().grpc).await;
    refused(&verifier, &revoked, &Refusal::Revoked).await;
    let good = wired.token().await;
    taken(&verifier, &good).await;
    let mut admin = wired.kw.admin().await;
    revoke(&mut admin, "tenants/acme/applications/crm", "").await;
    refused(&verifier, &good, &Refusal::Revoked).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn declared_list_takes_the_place_of_the_one_before() {
    let mut wired = Wired::to(Backend::Sqlite.start().await).await;
    revoke(&mut wired.admin, ACME, "").await;
    let settings = Settings { max_lag: Duration::from_hours(1), ..wired.settings() };
    let verifier = Verifier::connect(settings).await.unwrap();
    assert_eq!(verifier.revocations(), 1);
    // The name of the list is what tells them apart.
    wired.kw.sql("update revocation_feed set id = id || '.1'", None).await.unwrap();
    wired.kw.server().service.revocations().catch_up().await.unwrap();
    for _ in 0..2 {
        revoke(&mut wired.admin, ACME, "").await;
    }
    until("the new list is known", || verifier.revocations() == 3).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_of_its_own_that_ends_is_followed_by_another_one() {
    let kw = Backend::Sqlite.start().await;
    let mut admin = kw.admin().await;
    let (_, crm) = admin.acme().await;
    let gateway = gateway(&mut admin).await;
    let verifier = verifier(&kw, &gateway).await;
    // The server ends the stream of a token that has expired.
    kw.advance(1000);
    let token = crm.token(&kw.grpc()).await;
    let mut admin = kw.admin().await;
    revoke(&mut admin, ACME, "").await;
    refused(&verifier, &token, &Refusal::Revoked).await;
    // And of one that was revoked.
    revoke(&mut admin, "tenants/system/applications/gateway", "").await;
    let token = crm.token(&kw.grpc()).await;
    revoke(&mut admin, ACME, "").await;
    refused(&verifier, &token, &Refusal::Revoked).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_of_its_own_is_renewed_before_it_ends() {
    let kw = Backend::Sqlite.start().await;
    let mut admin = kw.admin().await;
    let (_, crm) = admin.acme().await;
    let application = admin.application("system", "gateway", &["keyward.verify"]).await;
    // Time stands still for the server: each of its tokens lives for these seconds.
    let soon = prost_types::Timestamp { seconds: kw.now().as_second() + 2, nanos: 0 };
    let request = pb::CreateCredentialRequest {
        parent: application.name.clone(),
        credential: Some(pb::Credential {
            kind: Kind::ClientSecret.into(),
            expire_time: Some(soon),
            ..Default::default()
        }),
        ..Default::default()
    };
    let made = admin.credentials.create_credential(request).await.unwrap().into_inner();
    let client_id = made.credential.unwrap().client_id;
    let gateway = Credential { client_id, secret: made.secret };
    let verifier = verifier(&kw, &gateway).await;
    let good = crm.token(&kw.grpc()).await;
    taken(&verifier, &good).await;
    let (service, began) = (&kw.server().service, now());
    until("some seconds have passed", || {
        assert!(service.watching() > 0, "it is never without a stream");
        assert!(verifier.verify(&good).is_ok());
        began.elapsed() > Duration::from_secs(6)
    })
    .await;
    service.write_usage().await.unwrap();
    let request =
        pb::ListApplicationUsageRequest { parent: application.name, ..Default::default() };
    let usage = admin.applications.list_application_usage(request).await.unwrap().into_inner();
    let exchanges = usage.days[0].exchanges;
    assert!((3..=6).contains(&exchanges), "every 1.6 s: {exchanges}");
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_right_to_the_feed_nothing_is_taken_any_more() {
    let mut wired = Wired::to(Backend::Sqlite.start().await).await;
    let verifier = wired.verifier().await;
    let (_, key) =
        wired.admin.credential("tenants/system/applications/gateway", Kind::ApiKey).await;
    let settings = Settings { access: super::access(&key), ..wired.settings() };
    let with_key = Verifier::connect(settings).await.unwrap();
    let good = wired.token().await;
    taken(&verifier, &good).await;
    taken(&with_key, &good).await;
    let name = "tenants/system/applications/gateway".to_owned();
    let request = pb::DeleteApplicationRequest { name, etag: String::new() };
    wired.admin.applications.delete_application(request).await.unwrap();
    for verifier in [&verifier, &with_key] {
        until("it is lost", || is_lost(verifier, &good)).await;
    }
    assert!(wired.admin.is_active(&good).await, "the token itself is good");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_that_is_behind_takes_nothing_back() {
    // B hears of what happened at A only when somebody makes it look.
    let slow = [("revocations.poll_interval", "1h"), ("revocations.max_staleness", "2h")];
    let [a, b] = Keyward::replicas(None, &slow).await;
    let mut wired = Wired::to(a).await;
    let settings = Settings { max_lag: Duration::from_hours(1), ..wired.settings() };
    let verifier = Verifier::connect(settings).await.unwrap();
    let token = wired.token().await;
    revoke(&mut wired.admin, ACME, "").await;
    refused(&verifier, &token, &Refusal::Revoked).await;
    wired.proxy.lead_to(b.server().grpc).await;
    until("it follows the other one", || b.server().service.watching() > 0).await;
    let at_b = b.server().service.revocations().index();
    until("which knows as much", || at_b.last() == 1).await;
    assert_eq!(verifier.verify(&token), Err(Refusal::Revoked));
    assert_eq!(verifier.revocations(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_sent_away_again_and_again_comes_less_and_less_often() {
    let kw = Backend::Sqlite.start().await;
    let gateway = gateway(&mut kw.admin().await).await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let server = format!("http://{}", listener.local_addr().unwrap());
    let _verifier = Verifier::start(settings(&kw, &server, &gateway)).unwrap();
    let mut came = 0;
    let knocking = async {
        loop {
            drop(listener.accept().await.unwrap());
            came += 1;
        }
    };
    timeout(Duration::from_secs(4), knocking).await.unwrap_err();
    // After pauses of 50 ms and then twice as long each, but for a half by chance; each time
    // the keys and the list are asked for.
    assert!((3..=25).contains(&came), "{came}");
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_left_of_a_verifier_that_is_dropped() {
    let wired = Wired::to(Backend::Sqlite.start().await).await;
    let (one, other) = (wired.verifier().await, wired.verifier().await);
    let watching = || wired.kw.server().service.watching();
    until("both watch", || watching() == 2).await;
    let same = one.clone();
    drop((one, other));
    until("one is left", || watching() == 1).await;
    assert!(same.verify(&wired.token().await).is_ok());
    drop(same);
    until("none is left", || watching() == 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_stops_waits_for_no_verifier() {
    let kw = Backend::Sqlite.start_with(&[("limits.shutdown_grace", "10m")]).await;
    let gateway = gateway(&mut kw.admin().await).await;
    let verifier = verifier(&kw, &gateway).await;
    timeout(PATIENCE, kw.stop()).await.unwrap();
    drop(verifier);
}
