//! Lists of audit events follow indexes, and find what a scan of the whole log finds.

use keyward::internals::domain::{
    Action, AuditEvent, AuditFilter, Moment, Outcome, PageRequest, TenantId, UserName,
};
use keyward::internals::store::Store;

use super::{event, seal, store, tamper, write};
use crate::harness::{Backend, Dice, on_both_databases};

on_both_databases!(filters_find_what_a_scan_finds, page_ends_early_if_few_of_many_events_match);

const EVENTS: i64 = 3000;

async fn pages(store: &Store, filter: &AuditFilter, size: i32) -> Vec<Vec<AuditEvent>> {
    let tenant = TenantId::parse("acme").unwrap();
    let (mut pages, mut after) = (Vec::new(), None);
    loop {
        let page = PageRequest::new(size, after).unwrap();
        let mut session = store.read_list().await.unwrap();
        let page = session.list_audit_events(&tenant, 0, filter, &page).await.unwrap();
        after = page.next;
        pages.push(page.items);
        if after.is_none() {
            return pages;
        }
    }
}

async fn all(store: &Store, filter: &AuditFilter, size: i32) -> Vec<AuditEvent> {
    pages(store, filter, size).await.concat()
}

/// The documented meaning of a filter.
fn matches(event: &AuditEvent, filter: &AuditFilter) -> bool {
    let user = event.actor.user.as_ref().map(ToString::to_string);
    let of_resource = |wanted: &String| {
        let below = |name: &str, of: &str| {
            name == of || name.strip_prefix(of).is_some_and(|rest| rest.starts_with('/'))
        };
        // Its parents are whole resources: an even number of parts.
        below(&event.resource, wanted)
            || (below(wanted, &event.resource)
                && (wanted.split('/').count() - event.resource.split('/').count())
                    .is_multiple_of(2))
    };
    filter.resource.as_ref().is_none_or(of_resource)
        && filter
            .actor
            .as_ref()
            .is_none_or(|actor| event.actor.service == *actor || user.as_ref() == Some(actor))
        && filter.action.is_none_or(|action| event.action == action.into_str())
        && filter.start.is_none_or(|start| start <= Moment::from(event.at))
        && filter.end.is_none_or(|end| Moment::from(event.at) < end)
}

async fn filters_find_what_a_scan_finds(backend: Backend) {
    let (mut dice, seed) = Dice::any();
    let kw = backend.start().await;
    kw.admin().await.acme().await;
    let store = store(&kw, backend).await;
    let resources = [
        "tenants/acme",
        "tenants/acme/applications/crm",
        "tenants/acme/applications/crm/credentials/c1",
        "tenants/acme/applications/crm/credentials/c2",
        "tenants/acme/applications/crm2",
        "tenants/acme/applications/crm2/credentials/c1",
        "tenants/acme/users/sam",
        "tenants/other/applications/x",
        "keyward",
    ];
    let actions = ["UpdateTenant", "CreateCredential", "DeleteCredential", "Unknown"];
    let mut pick = |texts: &[&'static str]| {
        texts[usize::try_from(dice.roll(u64::try_from(texts.len()).unwrap())).unwrap()]
    };
    let start = kw.now().as_microsecond();
    let minute = 60_000_000;
    let mut events = Vec::new();
    for n in 0..EVENTS {
        // Clocks of servers differ by up to a minute.
        let skew = i64::try_from(pick(&["", "1234567"]).len()).unwrap() * 8_000_000;
        let at = Moment::from_microsecond(start + n * 10 * minute - skew).timestamp();
        let mut event = event("acme", at, "");
        pick(&resources).clone_into(&mut event.resource);
        pick(&actions).clone_into(&mut event.action);
        pick(&["one", "two", "keyward"]).clone_into(&mut event.actor.service);
        let user = pick(&["", "", "ann", "sam"]);
        event.actor.user = (!user.is_empty())
            .then(|| UserName::parse(&format!("tenants/acme/users/{user}")).unwrap());
        event.outcome = if pick(&["a", "b"]) == "a" { Outcome::Done } else { Outcome::Refused };
        events.push(event);
    }
    write(&store, &events).await;
    seal(&kw).await;
    // A part of them is not in the chain.
    tamper(
        &kw,
        "delete from audit_chain where tenant_id = 'acme' and number > 2900; \
         update audit_heads set number = 2900 where tenant_id = 'acme'",
    )
    .await;

    let everything = all(&store, &AuditFilter::default(), 1000).await;
    assert!(everything.len() > 3000);
    let at = |n: i64| Some(Moment::from_microsecond(start + n * minute));
    let (last, names) = (EVENTS * 10, resources);
    let mut filters = vec![AuditFilter::default()];
    for resource in names.into_iter().chain([
        "tenants/acme/applications",
        "tenants/acme/applications/none",
        "tenants/other",
        "none",
    ]) {
        filters.push(AuditFilter { resource: Some(resource.to_owned()), ..Default::default() });
    }
    for actor in ["one", "tenants/acme/users/sam", "none"] {
        filters.push(AuditFilter { actor: Some(actor.to_owned()), ..Default::default() });
    }
    for action in [Action::CreateCredential, Action::DeleteScope] {
        filters.push(AuditFilter { action: Some(action), ..Default::default() });
    }
    for (start, end) in [
        (at(0), None),
        (at(last / 2), None),
        (None, at(last / 2)),
        (at(last / 3), at(last / 3 + 15)),
        (at(last + 999), None),
        (None, at(-99_999_999)),
        (at(20), at(10)),
    ] {
        filters.push(AuditFilter { start, end, ..Default::default() });
        filters.push(AuditFilter {
            resource: Some("tenants/acme/applications/crm".to_owned()),
            actor: Some("two".to_owned()),
            action: Some(Action::DeleteCredential),
            start,
            end,
            ..Default::default()
        });
    }
    for filter in filters {
        for oldest_first in [false, true] {
            let filter = AuditFilter { oldest_first, ..filter.clone() };
            let mut expected: Vec<_> =
                everything.iter().filter(|event| matches(event, &filter)).cloned().collect();
            if oldest_first {
                expected.reverse();
            }
            let found = all(&store, &filter, 300).await;
            let numbers = |events: &[AuditEvent]| -> Vec<i64> {
                events.iter().map(|event| event.number).collect()
            };
            assert_eq!(numbers(&found), numbers(&expected), "{seed}: {filter:?}");
        }
    }
}

/// Many events have the resource, many have the action, and three have both.
async fn page_ends_early_if_few_of_many_events_match(backend: Backend) {
    const EVENTS: i64 = 30_000;
    let kw = backend.start().await;
    kw.admin().await.acme().await;
    let store = store(&kw, backend).await;
    seal(&kw).await;
    let sql = format!(
        "begin; \
         insert into audit_events (tenant_id, number, at, service, action, resource, refused, \
           detail, changes) \
         with recursive numbers (n) as (select 1 union all select n + 1 from numbers where n < {EVENTS}) \
         select 'acme', 1000 + n, 1000000000000000 + n, 'one', \
           case when n % 2 = 0 or n % 10000 = 5001 then 'DeleteCredential' else 'UpdateTenant' end, \
           case when n % 2 = 1 then 'tenants/acme/applications/hot' else 'tenants/acme/users/u' end, \
           n < 0, '', '[]' from numbers; \
         insert into audit_chain (tenant_id, number, hash, parent, action) \
         select e.tenant_id, e.number, h.hash, 'tenants/acme', e.action from audit_events e \
           cross join audit_heads h where h.tenant_id = 'acme' and e.tenant_id = 'acme' \
             and e.number > 1000; \
         update audit_heads set number = {} where tenant_id = 'acme'; \
         delete from audit_unsealed; \
         commit",
        1000 + EVENTS
    );
    tamper(&kw, &sql).await;
    let below = AuditFilter {
        resource: Some("tenants/acme/applications".to_owned()),
        ..Default::default()
    };
    let all_below = all(&store, &below, 1000).await;
    assert_eq!(all_below.iter().filter(|event| event.number > 1000).count(), 15_000);
    for (action, unsealed) in [(Action::DeleteCredential, false), (Action::DeleteScope, true)] {
        if unsealed {
            tamper(&kw, "update audit_heads set number = 1000 where tenant_id = 'acme'").await;
        }
        for oldest_first in [false, true] {
            let filter = AuditFilter {
                resource: (!unsealed).then(|| "tenants/acme/applications/hot".to_owned()),
                action: Some(action),
                oldest_first,
                ..Default::default()
            };
            let pages = pages(&store, &filter, 2).await;
            let mut found: Vec<_> = pages.concat().iter().map(|event| event.number).collect();
            found.sort_unstable();
            assert_eq!(found, if unsealed { vec![] } else { vec![6001, 16001, 26001] });
            // Each page compares 5,000 events at most: of 15,000 by the action, or of all 30,000.
            assert!((4..=8).contains(&pages.len()), "{} pages", pages.len());
        }
    }
}
