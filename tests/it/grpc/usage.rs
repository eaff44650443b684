//! Usage: when and how often credentials were used, and which are expiring or unused.

use keyward::proto::admin as pb;
use keyward::proto::admin::credential::Kind;
use prost_types::Timestamp;

use crate::harness::{Admin, Backend, Keyward, on_both_databases, reason, until};

on_both_databases!(
    exchanges_and_checks_are_counted_by_day,
    usage_does_not_change_the_etag,
    usage_is_written_at_shutdown,
    failed_usage_write_is_repeated_once,
    expiring_or_unused_credentials_are_listed,
    applications_are_found_by_any_part_of_their_name,
    applications_are_filtered_by_state_and_expiry,
    pages_in_every_order_have_no_gaps,
    server_copies_last_uses_of_older_versions,
);

async fn written(kw: &Keyward) {
    kw.server().service.usage.write().await.unwrap();
}

async fn usage(admin: &mut Admin, name: &str) -> Vec<(String, i64, i64)> {
    let request = pb::ListApplicationUsageRequest { parent: name.to_owned(), ..Default::default() };
    let days = admin.applications.list_application_usage(request).await.unwrap().into_inner().days;
    days.into_iter().map(|day| (day.date, day.exchanges, day.checks)).collect()
}

async fn application(admin: &mut Admin, name: &str) -> pb::Application {
    let request = pb::GetApplicationRequest { name: name.to_owned() };
    admin.applications.get_application(request).await.unwrap().into_inner().application.unwrap()
}

async fn exchanges_and_checks_are_counted_by_day(backend: Backend) {
    let kw = backend.start().await;
    let mut admin = kw.admin().await;
    let (credential, secret) = admin.acme().await;
    let crm = "tenants/acme/applications/crm";
    assert_eq!(application(&mut admin, crm).await.last_use_time, None);
    let token = secret.token(&kw.grpc()).await;
    kw.post_as(&secret, "/oauth2/token", &[("grant_type", "client_credentials")]).await;
    assert!(admin.is_active(&token).await);
    let (_, key) = admin.credential(crm, Kind::ApiKey).await;
    assert!(admin.is_active(&key.secret).await);
    // Refused requests are not usage.
    secret.exchange(&kw.grpc(), &["nothing"], &[]).await.unwrap_err();
    written(&kw).await;
    let mut days = usage(&mut admin, crm).await;
    days.sort();
    assert_eq!(days, [("2026-06-01".to_owned(), 0, 1), ("2026-06-01".to_owned(), 2, 1)]);
    let used = application(&mut admin, crm).await;
    assert_eq!(used.last_use_time.unwrap().seconds, kw.now().as_second());
    assert_eq!(used.last_use_address, "127.0.0.1");

    kw.advance(86_400);
    secret.token(&kw.grpc()).await;
    let mut admin = kw.admin().await;
    written(&kw).await;
    secret.token(&kw.grpc()).await;
    written(&kw).await;
    let days = usage(&mut admin, crm).await;
    assert_eq!(days.last(), Some(&("2026-06-02".to_owned(), 2, 0)), "batches add up");
    let get = pb::GetCredentialRequest { name: credential.name.clone() };
    let read = admin.credentials.get_credential(get).await.unwrap().into_inner();
    let read = read.credential.unwrap();
    assert_eq!(read.last_use_time.unwrap().seconds, kw.now().as_second());
    assert_eq!(read.last_use_address, "127.0.0.1");

    let between = |start: &str, end: &str| pb::ListApplicationUsageRequest {
        parent: crm.to_owned(),
        start_date: start.to_owned(),
        end_date: end.to_owned(),
    };
    let request = between("2026-06-02", "2026-06-02");
    let day = admin.applications.list_application_usage(request).await.unwrap().into_inner().days;
    assert_eq!((day.len(), day[0].credential.clone()), (1, credential.name));
    for (start, end) in [("yesterday", ""), ("2026-06-02", "2026-06-01"), ("2020-01-01", "")] {
        let request = between(start, end);
        let status = admin.applications.list_application_usage(request).await.unwrap_err();
        assert_eq!(reason(&status), "INVALID_FIELD", "{start} {end}");
    }
}

async fn usage_does_not_change_the_etag(backend: Backend) {
    let kw = backend.start().await;
    let mut admin = kw.admin().await;
    let (_, secret) = admin.acme().await;
    let crm = "tenants/acme/applications/crm";
    let before = application(&mut admin, crm).await;
    kw.advance(5);
    let token = secret.token(&kw.grpc()).await;
    written(&kw).await;
    let after = application(&mut admin, crm).await;
    assert_eq!((after.etag, after.update_time), (before.etag, before.update_time));
    assert!(admin.is_active(&token).await);
    // A resource that is deleted meanwhile causes no error.
    let delete = pb::DeleteApplicationRequest { name: crm.to_owned(), ..Default::default() };
    admin.applications.delete_application(delete).await.unwrap();
    written(&kw).await;
}

async fn usage_is_written_at_shutdown(backend: Backend) {
    let mut kw = backend.start().await;
    let mut admin = kw.admin().await;
    let (_, secret) = admin.acme().await;
    secret.token(&kw.grpc()).await;
    kw.restart().await;
    let mut admin = kw.admin().await;
    let days = usage(&mut admin, "tenants/acme/applications/crm").await;
    assert_eq!(days, [("2026-06-01".to_owned(), 1, 0)]);
}

async fn failed_usage_write_is_repeated_once(backend: Backend) {
    let kw = backend.start().await;
    let mut admin = kw.admin().await;
    let (_, secret) = admin.acme().await;
    secret.token(&kw.grpc()).await;
    // The last use is written, then the counts fail: everything is rolled back.
    kw.sql("alter table usage_days rename to elsewhere", None).await.unwrap();
    kw.server().service.usage.write().await.unwrap_err();
    let crm = "tenants/acme/applications/crm";
    assert_eq!(application(&mut admin, crm).await.last_use_time, None);
    secret.token(&kw.grpc()).await;
    kw.sql("alter table elsewhere rename to usage_days", None).await.unwrap();
    written(&kw).await;
    written(&kw).await;
    assert_eq!(usage(&mut admin, crm).await, [("2026-06-01".to_owned(), 2, 0)]);
    assert_ne!(application(&mut admin, crm).await.last_use_time, None);
}

async fn expiring_or_unused_credentials_are_listed(backend: Backend) {
    let kw = backend.start().await;
    let mut admin = kw.admin().await;
    let (used, secret) = admin.acme().await;
    let day = 86_400;
    let at = |days: i64| Some(Timestamp { seconds: kw.now().as_second() + days * day, nanos: 0 });
    let crm = "tenants/acme/applications/crm";
    let mut ending = Vec::new();
    for days in [10, 100] {
        let request = pb::CreateCredentialRequest {
            parent: crm.to_owned(),
            credential: Some(pb::Credential {
                kind: Kind::ApiKey.into(),
                expire_time: at(days),
                ..Default::default()
            }),
            ..Default::default()
        };
        let made = admin.credentials.create_credential(request).await.unwrap().into_inner();
        ending.push(made.credential.unwrap().name);
    }
    let short = pb::CreateApplicationRequest {
        parent: "tenants/acme".to_owned(),
        application_id: "short".to_owned(),
        application: Some(pb::Application {
            display_name: "ends soon".to_owned(),
            expire_time: at(20),
            ..Default::default()
        }),
        ..Default::default()
    };
    admin.applications.create_application(short).await.unwrap();
    let (with_it, _) = admin.credential("tenants/acme/applications/short", Kind::ApiKey).await;
    let (soon, month) = (at(5), at(30));
    kw.advance(2 * 86_400);
    secret.token(&kw.grpc()).await;
    written(&kw).await;
    let mut admin = kw.admin().await;

    let mut list = async |expire_before, unused_since| {
        let request = pb::ListCredentialsRequest {
            parent: "tenants/acme/applications/-".to_owned(),
            expire_before,
            unused_since,
            ..Default::default()
        };
        let list = admin.credentials.list_credentials(request).await.unwrap().into_inner();
        let mut names: Vec<_> = list.credentials.into_iter().map(|one| one.name).collect();
        names.sort();
        names
    };
    let sorted = |names: &[&String]| {
        let mut names: Vec<_> = names.iter().map(|name| (*name).clone()).collect();
        names.sort();
        names
    };
    let now = Some(Timestamp { seconds: kw.now().as_second(), nanos: 0 });
    assert_eq!(list(month, None).await, sorted(&[&ending[0], &with_it.name]));
    assert_eq!(list(soon, None).await, [""; 0]);
    assert_eq!(list(None, now).await, sorted(&[&ending[0], &ending[1], &with_it.name]));
    let long_ago = Some(Timestamp { seconds: kw.now().as_second() - 30 * day, nanos: 0 });
    assert_eq!(list(None, long_ago).await, [""; 0], "who is young is not unused for long");
    assert_eq!(list(month, long_ago).await.len(), 2, "either");
    assert_eq!(
        list(None, None).await,
        sorted(&[&used.name, &ending[0], &ending[1], &with_it.name])
    );
}

async fn create(admin: &mut Admin, id: &str, display_name: &str) -> String {
    let request = pb::CreateApplicationRequest {
        parent: "tenants/acme".to_owned(),
        application_id: id.to_owned(),
        application: Some(pb::Application {
            display_name: display_name.to_owned(),
            ..Default::default()
        }),
        ..Default::default()
    };
    let made = admin.applications.create_application(request).await.unwrap().into_inner();
    made.application.unwrap().name
}

/// The ids of the applications that match, in order, over all pages.
async fn ids(admin: &mut Admin, request: pb::ListApplicationsRequest) -> Vec<String> {
    let (mut ids, mut page_token) = (Vec::new(), String::new());
    loop {
        let request = pb::ListApplicationsRequest {
            parent: "tenants/acme".to_owned(),
            page_size: 2,
            page_token,
            ..request.clone()
        };
        let page = admin.applications.list_applications(request).await.unwrap().into_inner();
        assert!(page.applications.len() <= 2);
        ids.extend(page.applications.iter().map(|a| a.name.rsplit('/').next().unwrap().to_owned()));
        page_token = page.next_page_token;
        if page_token.is_empty() {
            return ids;
        }
    }
}

async fn applications_are_found_by_any_part_of_their_name(backend: Backend) {
    let kw = backend.start().await;
    let mut admin = kw.admin().await;
    admin.tenant("acme", &["a"]).await;
    for (id, name) in
        [("1", "Zürich CRM"), ("2", "crm of Bern"), ("3", "100% reports_daily"), ("4", "other")]
    {
        create(&mut admin, id, name).await;
    }
    for (search, found) in [
        ("crm", &["1", "2"][..]),
        ("CRM", &["1", "2"]),
        ("ZÜRICH", &["1"]),
        ("n", &["2"]),
        ("%", &["3"]),
        ("s_d", &["3"]),
        ("_", &["3"]),
        ("\\", &[]),
        ("", &["1", "2", "3", "4"]),
    ] {
        let request =
            pb::ListApplicationsRequest { search: search.to_owned(), ..Default::default() };
        assert_eq!(ids(&mut admin, request).await, found, "{search}");
    }
}

async fn applications_are_filtered_by_state_and_expiry(backend: Backend) {
    use pb::application::State;
    let kw = backend.start().await;
    let mut admin = kw.admin().await;
    admin.tenant("acme", &["a"]).await;
    let soon = Timestamp { seconds: kw.now().as_second() + 100, nanos: 0 };
    for (id, disabled, expire_time) in
        [("active", false, None), ("disabled", true, None), ("ending", false, Some(soon))]
    {
        let request = pb::CreateApplicationRequest {
            parent: "tenants/acme".to_owned(),
            application_id: id.to_owned(),
            application: Some(pb::Application {
                display_name: id.to_owned(),
                disabled,
                expire_time,
                ..Default::default()
            }),
            ..Default::default()
        };
        admin.applications.create_application(request).await.unwrap();
    }
    let of =
        |state: State| pb::ListApplicationsRequest { state: state.into(), ..Default::default() };
    assert_eq!(ids(&mut admin, of(State::Active)).await, ["active", "ending"]);
    assert_eq!(ids(&mut admin, of(State::Disabled)).await, ["disabled"]);
    assert_eq!(ids(&mut admin, of(State::Expired)).await, [""; 0]);
    let ending = |seconds| pb::ListApplicationsRequest {
        expire_before: Some(Timestamp { seconds: soon.seconds + seconds, nanos: 0 }),
        ..Default::default()
    };
    assert_eq!(ids(&mut admin, ending(1)).await, ["ending"]);
    assert_eq!(ids(&mut admin, ending(0)).await, [""; 0]);
    kw.advance(100);
    assert_eq!(ids(&mut admin, of(State::Expired)).await, ["ending"]);
    assert_eq!(ids(&mut admin, of(State::Active)).await, ["active"]);
}

async fn pages_in_every_order_have_no_gaps(backend: Backend) {
    let kw = backend.start().await;
    let mut admin = kw.admin().await;
    admin.tenant("acme", &["a"]).await;
    // Some names and times are equal, so the id decides.
    for (id, name) in [("e", "b"), ("d", "A"), ("c", "b"), ("b", "C"), ("a", "b")] {
        create(&mut admin, id, name).await;
        if id != "d" {
            kw.advance(1);
        }
    }
    for (order_by, expected) in [
        ("", "a b c d e"),
        ("name desc", "e d c b a"),
        ("display_name", "d a c e b"),
        ("display_name desc", "b e c a d"),
        ("create_time", "e c d b a"),
        ("create_time desc", "a b d c e"),
        ("last_use_time", "a b c d e"),
        ("last_use_time desc", "e d c b a"),
    ] {
        let request =
            pb::ListApplicationsRequest { order_by: order_by.to_owned(), ..Default::default() };
        assert_eq!(ids(&mut admin, request).await.join(" "), expected, "{order_by}");
    }
    // The most recently used are last: c earlier, a now.
    for id in ["c", "a"] {
        let name = format!("tenants/acme/applications/{id}");
        let (_, key) = admin.credential(&name, Kind::ApiKey).await;
        assert!(admin.is_active(&key.secret).await);
        written(&kw).await;
        kw.advance(1);
    }
    for (order_by, expected) in
        [("last_use_time", "b d e c a"), ("last_use_time desc", "a c e d b")]
    {
        let request =
            pb::ListApplicationsRequest { order_by: order_by.to_owned(), ..Default::default() };
        assert_eq!(ids(&mut admin, request).await.join(" "), expected, "{order_by}");
    }
    let request = pb::ListApplicationsRequest {
        parent: "tenants/acme".to_owned(),
        order_by: "scopes".to_owned(),
        ..Default::default()
    };
    let status = admin.applications.list_applications(request).await.unwrap_err();
    assert_eq!(reason(&status), "INVALID_FIELD");
    // A page token is only valid for its order.
    let first = pb::ListApplicationsRequest {
        parent: "tenants/acme".to_owned(),
        page_size: 1,
        ..Default::default()
    };
    let page = admin.applications.list_applications(first.clone()).await.unwrap().into_inner();
    let other = pb::ListApplicationsRequest {
        page_token: page.next_page_token,
        order_by: "name desc".to_owned(),
        ..first
    };
    let status = admin.applications.list_applications(other).await.unwrap_err();
    assert_eq!(reason(&status), "INVALID_PAGE_TOKEN");
}

async fn server_copies_last_uses_of_older_versions(backend: Backend) {
    /// As a migration leaves the copies, which searches sort by.
    const NONE: &str = "update application_names set last_used_at = null; \
        update copied_last_uses set tenant_id = '', application_id = '', finished = false; \
        create table uncopied (n integer check (n = 0));";
    const ALL: &str = "insert into uncopied \
        select count(*) from application_names where last_used_at is null";
    let kw = backend.start().await;
    let mut admin = kw.admin().await;
    let (_, secret) = admin.acme().await;
    secret.token(&kw.grpc()).await;
    written(&kw).await;
    kw.sql(NONE, None).await.unwrap();
    kw.advance(10);
    until("last uses are copied", async || kw.sql(ALL, None).await.is_ok()).await;
}
