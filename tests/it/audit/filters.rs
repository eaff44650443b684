//! Lists of audit events follow indexes, and find what a scan of the whole log finds.

use keyward::internals::domain::{
    Action, AuditEvent, AuditFilter, Moment, Outcome, PageRequest, TenantId, UserName,
};
use keyward::internals::store::Store;

use super::{event, seal, store, tamper, write};
use crate::harness::{Backend, Dice, on_both_databases};

on_both_databases!(filters_find_what_a_scan_finds);

const EVENTS: i64 = 3000;

async fn all(store: &Store, filter: &AuditFilter, size: i32) -> Vec<AuditEvent> {
    let tenant = TenantId::parse("acme").unwrap();
    let (mut events, mut after) = (Vec::new(), None);
    loop {
        let page = PageRequest::new(size, after).unwrap();
        let mut session = store.read_list().await.unwrap();
        let page = session.list_audit_events(&tenant, 0, filter, &page).await.unwrap();
        after = page.next();
        events.extend(page.items);
        if after.is_none() {
            return events;
        }
    }
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
