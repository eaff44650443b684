//! The chain: what verifies, and how each manipulation is named.

use keyward::internals::domain::{ChainHash, FieldChange, UserName};
use keyward::proto::admin as pb;

use super::{audit, event, expect, logs, seal, store, tamper, write, write_events};
use crate::harness::{Backend, Dice, on_both_databases};

on_both_databases!(
    log_with_unusual_values_verifies,
    each_manipulation_has_its_own_message_and_code,
    events_of_older_servers_are_added_to_the_chain,
    forged_head_is_not_continued,
);

/// Texts that databases, drivers and JSON libraries treat differently.
const TEXTS: [&str; 14] = [
    "",
    "1",
    "1.0",
    "1e3",
    "null",
    "Ünïcödé 名前 🔑",
    "e\u{301} é",
    "\"quoted\" \\ back\\slash /",
    "line\nfeed\r\ttab",
    "\u{1}\u{7f}\u{2028}\u{feff}",
    "{\"b\":1,\"a\":2}",
    "  spaces  ",
    "'; drop table x; --",
    "99999999999999999999",
];

async fn log_with_unusual_values_verifies(backend: Backend) {
    let (mut dice, seed) = Dice::any();
    let kw = backend.start().await;
    let mut admin = kw.admin().await;
    admin.acme().await;
    let store = store(&kw, backend).await;
    let mut pick = |texts: &[&'static str]| {
        let n = dice.roll(u64::try_from(texts.len()).unwrap());
        texts[usize::try_from(n).unwrap()]
    };
    let times = [
        "1970-01-01T00:00:00Z",
        "1969-12-31T23:59:59.999999Z",
        "2026-06-01T12:00:00.1Z",
        "2026-06-01T12:00:00.123456Z",
        "2026-06-01T12:00:00.123456789Z",
        "2026-12-31T23:59:60Z",
        "9999-01-01T00:00:00.000001Z",
        "-000044-03-15T00:00:00Z",
    ];
    let mut events = Vec::new();
    for _ in 0..60 {
        let mut event = event("acme", pick(&times).parse().unwrap(), pick(&TEXTS));
        pick(&TEXTS).clone_into(&mut event.resource);
        pick(&TEXTS).clone_into(&mut event.action);
        pick(&TEXTS).clone_into(&mut event.actor.service);
        event.actor.address = Some(pick(&TEXTS)).filter(|text| !text.is_empty()).map(str::to_owned);
        let user = || UserName::parse("tenants/acme/users/sam").unwrap();
        event.actor.user = (pick(&["a", "b"]) == "a").then(user);
        event.changes = (0..pick(&["", "1", "22"]).len())
            .map(|_| {
                let mut value = || Some(pick(&TEXTS)).filter(|text| *text != "null");
                let (before, after) = (value().map(str::to_owned), value().map(str::to_owned));
                FieldChange::new("field", before, after)
            })
            .collect();
        events.push(event);
    }
    write(&store, &events).await;
    seal(&kw).await;
    let ran = audit(&kw, &["verify", "acme"]).await;
    assert_eq!(ran.code, 0, "{seed}: {ran:?}");

    // Another program computes the same hashes from the documented form.
    let request =
        pb::WatchAuditEventsRequest { parent: "tenants/acme".to_owned(), ..Default::default() };
    let mut stream = admin.audit.watch_audit_events(request).await.unwrap().into_inner();
    let message = stream.message().await.unwrap().unwrap();
    let mut hash = ChainHash::START;
    for (record, number) in message.records.iter().zip(1..) {
        let json: serde_json::Value = serde_json::from_str(&record.record).unwrap();
        assert_eq!(json["number"], number);
        hash = hash.next(&record.record);
        assert_eq!(hash.0[..], record.hash[..], "{seed}: {}", record.record);
    }
    let head = message.head.expect("all events are sent");
    let count = i64::try_from(message.records.len()).unwrap();
    assert_eq!((head.hash, head.number), (hash.0.to_vec(), count));
    let last = message.records.last().unwrap();
    let shown = last.event.as_ref().unwrap();
    assert_eq!(shown.detail, events.last().unwrap().detail);
}

async fn each_manipulation_has_its_own_message_and_code(backend: Backend) {
    let kw = backend.start().await;
    let mut admin = kw.admin().await;
    let store = store(&kw, backend).await;
    let tenants = [
        "same", "detail", "time", "outcome", "gap", "swap", "hash", "nohash", "tail", "all",
        "gone", "head", "forged", "back", "again",
    ];
    for tenant in tenants {
        admin.tenant(tenant, &[]).await;
        write_events(&kw, &store, tenant, 12).await;
    }
    seal(&kw).await;
    expect(&kw, &["verify"], 0, "verified").await;
    let heads = kw.folder().join("heads.jsonl");
    let keep = async || {
        let ran = audit(&kw, &["head"]).await;
        assert_eq!(ran.code, 0, "{ran:?}");
        std::fs::write(&heads, ran.out).unwrap();
    };

    // The state of one tenant now, to put it back later.
    let kept = "create table kept as select * from audit_heads where tenant_id = 'back'";
    kw.sql(kept, None).await.unwrap();
    let last = |log: &pb::AuditLog| log.last_number;
    let before = logs(&mut admin).await.iter().find(|log| log.name.contains("back")).map(last);
    let before = before.unwrap();
    write_events(&kw, &store, "back", 3).await;
    seal(&kw).await;
    keep().await;
    expect(&kw, &["verify", "--head", heads.to_str().unwrap()], 0, "verified").await;

    let no = |kw: &crate::harness::Keyward| if kw.database_url().is_some() { "false" } else { "0" };
    let yes = if no(&kw) == "0" { "1" } else { "true" };
    let cases: [(&str, &str); 13] = [
        (
            "detail",
            "update audit_events set detail = 'x' where tenant_id = 'detail' and number = 5",
        ),
        ("time", "update audit_events set at = at + 1 where tenant_id = 'time' and number = 5"),
        (
            "outcome",
            &format!(
                "update audit_events set refused = {yes} where tenant_id = 'outcome' \
                and number = 5"
            ),
        ),
        ("gap", "delete from audit_events where tenant_id = 'gap' and number in (5, 6)"),
        (
            "swap",
            "update audit_events set number = -1 where tenant_id = 'swap' and number = 5; \
             update audit_events set number = 5 where tenant_id = 'swap' and number = 9; \
             update audit_events set number = 9 where tenant_id = 'swap' and number = -1",
        ),
        (
            "hash",
            "update audit_chain set hash = (select hash from audit_chain \
               where tenant_id = 'hash' and number = 4) where tenant_id = 'hash' and number = 5",
        ),
        ("nohash", "delete from audit_chain where tenant_id = 'nohash' and number = 5"),
        (
            "tail",
            "delete from audit_events where tenant_id = 'tail' and number > 10; \
             delete from audit_chain where tenant_id = 'tail' and number > 10",
        ),
        (
            "all",
            "delete from audit_events where tenant_id = 'all'; \
             delete from audit_chain where tenant_id = 'all'",
        ),
        (
            "gone",
            "delete from audit_events where tenant_id = 'gone'; \
             delete from audit_chain where tenant_id = 'gone'; \
             delete from audit_heads where tenant_id = 'gone'",
        ),
        ("head", "update audit_heads set signed_at = signed_at + 1 where tenant_id = 'head'"),
        (
            "back",
            &format!(
                "delete from audit_events where tenant_id = 'back' and number > {before}; \
                 delete from audit_chain where tenant_id = 'back' and number > {before}; \
                 delete from audit_heads where tenant_id = 'back'; \
                 insert into audit_heads select * from kept"
            ),
        ),
        (
            // The server itself signs a new chain of what was changed.
            "again",
            "update audit_events set detail = 'x' where tenant_id = 'again' and number = 5; \
             delete from audit_chain where tenant_id = 'again'; \
             delete from audit_heads where tenant_id = 'again'; \
             insert into audit_unsealed values ('again', 13, 0)",
        ),
    ];
    for (_, sql) in cases {
        tamper(&kw, sql).await;
    }
    while logs(&mut admin).await.iter().any(|log| log.name.contains("again") && log.head.is_none())
    {
        kw.server().service.audit.seal().await.unwrap();
    }
    for (tenant, code, text) in [
        ("same", 0, "verified"),
        ("detail", 10, "event 5 was changed"),
        ("time", 10, "event 5 was changed"),
        ("outcome", 10, "event 5 was changed"),
        ("gap", 11, "events 5 to 6 are missing"),
        ("swap", 12, "event 9 is at the place of event 5"),
        ("hash", 10, "the stored hash of event 5 was changed"),
        ("nohash", 10, "the stored hash of event 5 was changed or deleted"),
        ("tail", 13, "the log ends at event 10, and its signed head is event 13"),
        ("all", 14, "it has no event, and its signed head is event 13"),
        ("gone", 14, "the tenant has no event and no signed head"),
        ("head", 17, "the head at event 13 has a wrong signature"),
        // What one cannot see without a head from outside.
        ("back", 0, "verified"),
        ("again", 0, "verified"),
    ] {
        expect(&kw, &["verify", tenant], code, text).await;
    }
    let head = ["--head", heads.to_str().unwrap()];
    for (tenant, code, text) in [
        ("same", 0, "verified"),
        ("tail", 13, "the newest events are missing"),
        ("gone", 14, "its signed head is event 13"),
        ("back", 15, "the log was set back to an older state: it ends at event 13"),
        ("again", 16, "the log was written again: event 13 is not the one that was signed"),
    ] {
        expect(&kw, &["verify", tenant, head[0], head[1]], code, text).await;
    }
    // All logs: the first fault is the result, and the others are listed too.
    let ran = audit(&kw, &["verify", head[0], head[1], "-o", "json"]).await;
    assert_eq!(ran.code, 16, "{ran:?}");
    let all: serde_json::Value = serde_json::from_str(&ran.out).unwrap();
    let of = |tenant: &str| {
        let all = all.as_array().unwrap();
        all.iter().find(|log| log["tenant"] == tenant).unwrap()["result"].clone()
    };
    assert_eq!(of("swap"), "AUDIT_EVENT_REORDERED");
    assert_eq!(of("system"), "verified");
    assert_eq!(of("back"), "AUDIT_LOG_ROLLED_BACK");

    // A tenant of which nothing at all is left is known from its head.
    tamper(
        &kw,
        "delete from tenants where id = 'gone'; delete from audit_unsealed where tenant_id = 'gone'",
    )
    .await;
    let ran = audit(&kw, &["verify", head[0], head[1], "-o", "json"]).await;
    assert!(ran.out.contains("AUDIT_LOG_GONE"), "{ran:?}");
    assert!(ran.out.contains("\"gone\""), "{ran:?}");
}

/// A server of an older version knows no chain: it inserts rows, and nothing else.
async fn events_of_older_servers_are_added_to_the_chain(backend: Backend) {
    let kw = backend.start().await;
    let mut admin = kw.admin().await;
    admin.acme().await;
    seal(&kw).await;
    let head = async |admin: &mut crate::harness::Admin| {
        let request = pb::GetAuditLogRequest { name: "tenants/acme/auditLog".to_owned() };
        let answer = admin.audit.get_audit_log(request).await.unwrap().into_inner();
        answer.log.unwrap().head.unwrap()
    };
    let before = head(&mut admin).await;
    let no = if backend == Backend::Sqlite { "0" } else { "false" };
    for n in 1..=3 {
        let number = before.number + n;
        let sql = format!(
            "insert into audit_events (tenant_id, number, at, service, action, resource, refused, \
             detail, changes) values ('acme', {number}, {n}, 'keyward', 'UpdateTenant', \
             'tenants/acme', {no}, 'older', '[]')"
        );
        kw.sql(Box::leak(sql.into_boxed_str()), None).await.unwrap();
    }
    // By the server's own background task.
    while head(&mut admin).await.number < before.number + 3 {
        tokio::task::yield_now().await;
    }
    admin.role("acme", "new", &[], &[]).await;
    seal(&kw).await;
    expect(&kw, &["verify", "acme"], 0, "verified").await;
}

/// A change of an event, its hashes and the head together is not signed by the server.
async fn forged_head_is_not_continued(backend: Backend) {
    let kw = backend.start().await;
    let mut admin = kw.admin().await;
    let store = store(&kw, backend).await;
    for tenant in ["acme", "other"] {
        admin.tenant(tenant, &[]).await;
        write_events(&kw, &store, tenant, 3).await;
    }
    seal(&kw).await;
    tamper(
        &kw,
        "update audit_events set detail = 'x' where tenant_id = 'acme' and number = 4; \
         update audit_heads set hash = (select hash from audit_heads where tenant_id = 'other') \
           where tenant_id = 'acme'",
    )
    .await;
    write_events(&kw, &store, "acme", 1).await;
    write_events(&kw, &store, "other", 1).await;
    let heads = async |admin: &mut crate::harness::Admin| {
        let logs = logs(admin).await;
        let of = |tenant: &str| {
            let log = logs.iter().find(|log| log.name.contains(tenant)).unwrap();
            log.head.as_ref().unwrap().number
        };
        (of("acme"), of("other"))
    };
    while heads(&mut admin).await.1 < 5 {
        kw.server().service.audit.seal().await.unwrap();
    }
    assert_eq!(heads(&mut admin).await, (4, 5), "the other log goes on");
    expect(&kw, &["verify", "acme"], 17, "wrong signature").await;
}
