//! Pages are also limited by bytes, because clients accept messages of at most 4 MiB.

use keyward::proto::access as pb_access;
use keyward::proto::admin as pb;
use keyward::proto::admin::credential::Kind;
use prost::Message;

use crate::harness::{Admin, Backend, Keyward, on_both_databases, question};

on_both_databases!(pages_of_large_rows_fit_into_client_limits);

const ROWS: usize = 130;
/// The maximum for an application and a role.
const SCOPES: usize = 200;
const SCOPE_LENGTH: usize = 128;
const MOST: usize = 4 * 1024 * 1024;

/// All pages of a list, each with its size in bytes. The clients refuse larger pages than 4 MiB
/// themselves.
macro_rules! pages {
    ($client:expr, $call:ident, $request:expr, $items:ident) => {{
        let mut request = $request;
        let (mut items, mut sizes) = (Vec::new(), Vec::new());
        loop {
            let page = $client.$call(request.clone()).await.unwrap().into_inner();
            sizes.push(page.encoded_len());
            items.extend(page.$items);
            if page.next_page_token.is_empty() {
                break (items, sizes);
            }
            request.page_token = page.next_page_token;
        }
    }};
}

fn scopes() -> Vec<String> {
    (0..SCOPES).map(|n| format!("{n:x>SCOPE_LENGTH$}")).collect()
}

async fn tenant_of_large_rows(kw: &Keyward) -> Admin {
    let mut admin = kw.admin().await;
    let scopes = scopes();
    let scopes: Vec<_> = scopes.iter().map(String::as_str).collect();
    admin.tenant("acme", &scopes).await;
    for n in 0..ROWS {
        admin.role("acme", &format!("role-{n:03}"), &[], &scopes).await;
        admin.application("acme", &format!("app-{n:03}"), &scopes).await;
    }
    admin
}

fn assert_bounded(sizes: &[usize]) {
    assert!(sizes.len() > 1, "the rows are more than one page: {sizes:?}");
    assert!(sizes.iter().all(|size| *size < MOST), "{sizes:?}");
}

async fn pages_of_large_rows_fit_into_client_limits(backend: Backend) {
    let kw = backend.start().await;
    let mut admin = tenant_of_large_rows(&kw).await;
    let parent = || "tenants/acme".to_owned();
    let expected = |kind: &str, id: &str| {
        (0..ROWS).map(|n| format!("tenants/acme/{kind}/{id}-{n:03}")).collect::<Vec<_>>()
    };

    for order_by in ["", "create_time desc"] {
        let request = pb::ListApplicationsRequest {
            parent: parent(),
            page_size: 1000,
            order_by: order_by.to_owned(),
            ..Default::default()
        };
        let (applications, sizes) =
            pages!(admin.applications, list_applications, request, applications);
        assert_bounded(&sizes);
        let mut names: Vec<_> = applications.into_iter().map(|row| row.name).collect();
        names.sort_unstable();
        assert_eq!(names, expected("applications", "app"), "{order_by}");
    }

    let request = pb::ListRolesRequest { parent: parent(), page_size: 1000, ..Default::default() };
    let (roles, sizes) = pages!(admin.roles, list_roles, request, roles);
    assert_bounded(&sizes);
    let names: Vec<_> = roles.into_iter().map(|row| row.name).collect();
    assert_eq!(names, expected("roles", "role"));

    let request =
        pb::ListAuditEventsRequest { parent: parent(), page_size: 1000, ..Default::default() };
    let (events, sizes) = pages!(admin.audit, list_audit_events, request, events);
    assert_bounded(&sizes);
    let created = |action: &str| events.iter().filter(|event| event.action == action).count();
    assert_eq!((created("CreateApplication"), created("CreateRole")), (ROWS, ROWS));
}

#[tokio::test(flavor = "multi_thread")]
async fn largest_batch_of_checks_is_answered_in_one_message() {
    let kw = Backend::Sqlite.start().await;
    let mut admin = kw.admin().await;
    let scopes = scopes();
    let scopes: Vec<_> = scopes.iter().map(String::as_str).collect();
    admin.tenant("acme", &scopes).await;
    let application = admin.application("acme", "app", &scopes).await;
    let (_, key) = admin.credential(&application.name, Kind::ApiKey).await;
    let requests = vec![question(&key.secret, &[]); 100];
    let request = pb_access::BatchCheckAccessRequest { requests };
    let answer = admin.access.batch_check_access(request).await.unwrap().into_inner();
    assert!(answer.responses.iter().all(|response| response.allowed));
    assert!((2_600_000..MOST).contains(&answer.encoded_len()), "{}", answer.encoded_len());
}
