//! The audit log of one tenant: pages of each kind of filter.

use std::time::Duration;

use keyward::internals::clock::Stopwatch;
use keyward::proto::admin::{GetAuditLogRequest, ListAuditEventsRequest};

use super::{Grown, postgres, up_to};
use crate::curve::Curve;
use crate::report::{Figure, Target, median};
use crate::scene::copied::Copied;
use crate::settings::{Part, Settings};

const SIZES: [u32; 4] = [10_000, 100_000, 1_000_000, 10_000_000];
const USUAL: u32 = 100_000;
/// The longest page, in milliseconds.
const BOUND: f64 = 50.0;
/// How often a page is read.
const TIMES: usize = 5;
/// The events of the set-up have lower numbers.
const FIRST: u32 = 101;

/// The columns of the copied events. One in 1,000 is of a rare resource, user or action. Of the
/// others, even ones update applications and are by one user, and odd ones update credentials and
/// are by another.
const OWN: [(&str, &str); 5] = [
    ("number", "n"),
    ("at", "at + n * 1000"),
    (
        "resource",
        "'tenants/acme/applications/' || case when n % 1000 = 501 then 'rare' \
         when n % 2 = 0 then 'app-' || n / 2 % 5000 \
         else 'app-' || n / 2 % 5000 || '/credentials/' || n / 2 % 5000 end",
    ),
    (
        "user_name",
        "'tenants/acme/users/' || case when n % 1000 = 503 then 'rare' \
         when n % 2 = 0 then 'even' else 'odd' end",
    ),
    ("action", ACTION),
];
const ACTION: &str = "case when n % 1000 = 505 then 'DeleteApplication' \
    when n % 2 = 0 then 'UpdateApplication' else 'UpdateCredential' end";
/// The same for the chain.
const CHAIN: [(&str, &str); 3] = [
    ("number", "n"),
    (
        "parent",
        "case when n % 1000 = 501 or n % 2 = 0 then 'tenants/acme' \
         else 'tenants/acme/applications/app-' || n / 2 % 5000 end",
    ),
    ("action", ACTION),
];

/// What is listed: resource, user, action and order.
const FILTERS: [(&str, &str, &str, &str, &str); 11] = [
    ("the newest", "", "", "", ""),
    ("the oldest", "", "", "", "time"),
    ("one in 1,000 by resource", "rare", "", "", ""),
    ("one application with its credentials", "app-7", "", "", ""),
    ("a resource with the events of its parent only", "none", "", "", ""),
    ("one in 1,000 by user", "", "rare", "", ""),
    ("half of all by user, the oldest", "", "even", "", "time"),
    ("one in 1,000 by action", "", "", "DeleteApplication", ""),
    ("half of all by action", "", "", "UpdateCredential", ""),
    ("user and action that are in one of 1,000", "", "odd", "DeleteApplication", ""),
    ("user and action that never occur together", "", "even", "UpdateCredential", ""),
];

pub(super) async fn measure(settings: &Settings) -> Grown {
    let title = "The longest page of an audit log, of any filter";
    let mut curve = Curve::new("audit-pages", title, "audit events", "ms", Some(BOUND));
    let mut figures = Vec::new();
    let (_server, url) = postgres().await;
    for (backend, url) in [("SQLite", None), ("PostgreSQL", Some(url))] {
        let mut copied = Copied::start(url).await;
        sealed(&copied).await;
        let mut last = FIRST - 1;
        for size in up_to(&SIZES, settings, USUAL) {
            fill(&mut copied, last + 1, size).await;
            last = size;
            let mut longest = 0.0_f64;
            for filter in FILTERS {
                let times = list(&copied, filter).await;
                longest = longest.max(median(&times));
                let name = format!("{size} audit events on {backend}: {}", filter.0);
                let figure = Figure::new(Part::Growth, name, "ms", times);
                figures.push(figure.target(Target::AtMost(BOUND)));
            }
            curve.add(backend, size, longest);
        }
    }
    Grown { figures, curves: vec![curve] }
}

/// Waits until the chain has a head.
async fn sealed(copied: &Copied) {
    let mut audit = copied.keyward.admin().await.audit.clone();
    let watch = Stopwatch::start();
    loop {
        let request = GetAuditLogRequest { name: "tenants/acme/auditLog".to_owned() };
        let log = audit.get_audit_log(request).await.unwrap().into_inner().log.unwrap();
        if log.head.is_some_and(|head| head.number == log.last_number) {
            return;
        }
        assert!(watch.elapsed() < Duration::from_mins(1), "events are added to the chain");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Copies the first event of the tenant. Hashes are not those of the events, which matters only when
/// a log is verified.
async fn fill(copied: &mut Copied, first: u32, last: u32) {
    copied.keyward.stop();
    let mut database = copied.database().await;
    let original = "tenant_id = 'acme' and number = 1";
    for (table, own) in [("audit_events", &OWN[..]), ("audit_chain", &CHAIN[..])] {
        let triggers = database.drop_triggers(table).await;
        database.copy(table, original, own, first..=last).await;
        for trigger in triggers {
            database.execute(trigger).await;
        }
    }
    let head = format!("update audit_heads set number = {last} where tenant_id = 'acme'");
    assert_eq!(database.execute(head).await, 1);
    database.tidy().await;
    drop(database);
    copied.keyward.start_again().await;
}

/// The durations of pages, in milliseconds.
async fn list(copied: &Copied, filter: (&str, &str, &str, &str, &str)) -> Vec<f64> {
    let (_, resource, user, action, order) = filter;
    let name = |kind: &str, id: &str| match id {
        "" => String::new(),
        id => format!("tenants/acme/{kind}/{id}"),
    };
    let mut audit = copied.keyward.admin().await.audit.clone();
    let mut times = Vec::new();
    for _ in 0..TIMES {
        let request = ListAuditEventsRequest {
            parent: "tenants/acme".to_owned(),
            resource: name("applications", resource),
            actor: name("users", user),
            action: action.to_owned(),
            order_by: order.to_owned(),
            ..Default::default()
        };
        let watch = Stopwatch::start();
        let page = audit.list_audit_events(request).await.unwrap().into_inner();
        times.push(watch.elapsed().as_secs_f64() * 1e3);
        let is_empty = user == "even" && action == "UpdateCredential";
        assert_eq!(page.events.is_empty(), is_empty, "{filter:?}");
    }
    times
}
