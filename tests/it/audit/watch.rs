//! Streams of audit events.

use keyward::proto::admin as pb;
use tonic::Streaming;

use super::{event, locked, seal, store};
use crate::harness::{Admin, Backend, on_both_databases, reason};

on_both_databases!(
    watcher_gets_a_late_commit_before_later_numbers,
    stream_resumes_at_its_cursor_and_ends_with_the_right,
);

type Stream = Streaming<pb::WatchAuditEventsResponse>;

async fn watch(admin: &mut Admin, cursor: &str) -> Stream {
    let request = pb::WatchAuditEventsRequest {
        parent: "tenants/acme".to_owned(),
        cursor: cursor.to_owned(),
    };
    admin.audit.watch_audit_events(request).await.unwrap().into_inner()
}

fn details(message: &pb::WatchAuditEventsResponse) -> Vec<String> {
    let events = message.records.iter().map(|record| record.event.as_ref().unwrap());
    events.map(|event| event.detail.clone()).collect()
}

/// Messages until one of them has the head.
async fn caught_up(stream: &mut Stream) -> (Vec<String>, String) {
    let mut all = Vec::new();
    loop {
        let message = stream.message().await.unwrap().unwrap();
        all.extend(details(&message));
        if message.head.is_some() {
            return (all, message.cursor);
        }
    }
}

/// A transaction takes its number and commits late. A second one, of another connection, is
/// committed as soon as it can. A reader that passed the first number would never see its event.
async fn watcher_gets_a_late_commit_before_later_numbers(backend: Backend) {
    let kw = backend.start().await;
    let mut admin = kw.admin().await;
    admin.acme().await;
    seal(&kw).await;
    let (one, other) = (store(&kw, backend).await, store(&kw, backend).await);
    let mut stream = watch(&mut admin, "").await;
    caught_up(&mut stream).await;

    let mut late = locked(&one, "acme").await;
    late.insert_audit_event(&event("acme", kw.now(), "late")).await.unwrap();
    let now = kw.now();
    let second = tokio::spawn(async move {
        let mut tx = locked(&other, "acme").await;
        tx.insert_audit_event(&event("acme", now, "second")).await.unwrap();
        tx.commit().await.unwrap();
    });
    // The server adds to the chain what it sees; several heartbeats pass.
    for _ in 0..3 {
        if backend == Backend::Postgres {
            kw.server().service.audit.seal().await.unwrap();
        }
        let message = stream.message().await.unwrap().unwrap();
        assert!(message.records.is_empty(), "{:?}", details(&message));
    }
    late.commit().await.unwrap();
    second.await.unwrap();
    let mut seen = Vec::new();
    while seen.len() < 2 {
        seen.extend(details(&stream.message().await.unwrap().unwrap()));
    }
    assert_eq!(seen, ["late", "second"]);
}

async fn stream_resumes_at_its_cursor_and_ends_with_the_right(backend: Backend) {
    let kw = backend.start().await;
    let mut admin = kw.admin().await;
    admin.acme().await;
    admin.role("acme", "auditor", &["audit.view"], &[]).await;
    let ann = admin.user("acme", "ann", &["auditor"]).await;
    let mut ann = admin.console(&kw).await.acting_for(&ann);
    let store = store(&kw, backend).await;
    super::write_events(&kw, &store, "acme", 450).await;
    seal(&kw).await;

    let mut stream = watch(&mut ann, "").await;
    let (all, cursor) = caught_up(&mut stream).await;
    assert!(all.len() > 450);
    // From a cursor within, nothing is missing or repeated.
    let mut stream = watch(&mut ann, "").await;
    let first = stream.message().await.unwrap().unwrap();
    assert!(first.head.is_none(), "more follows");
    assert_eq!(first.start.as_ref().unwrap().number, 0);
    let mut rest = watch(&mut ann, &first.cursor).await;
    let (rest, end) = caught_up(&mut rest).await;
    assert_eq!([details(&first), rest].concat(), all);
    assert_eq!(end, cursor);
    // A cursor of another log, and one beyond the end.
    let (number, _) = cursor.split_once('-').unwrap();
    let next = number.parse::<i64>().unwrap() + 1;
    for wrong in [format!("{number}-{}", "0".repeat(64)), next.to_string()] {
        let status = watch(&mut ann, &wrong).await.message().await.unwrap_err();
        assert_eq!(reason(&status), "CURSOR_TOO_OLD", "{wrong}");
    }

    // The right ends, and so does the stream.
    let mut stream = watch(&mut ann, &cursor).await;
    stream.message().await.unwrap().unwrap();
    admin.user("acme", "ann", &[]).await;
    let status = loop {
        match stream.message().await {
            Ok(message) => drop(message.unwrap()),
            Err(status) => break status,
        }
    };
    assert_eq!(reason(&status), "PERMISSION_DENIED");

    // Places are bounded for one application.
    let mut streams = Vec::new();
    for _ in 0..16 {
        streams.push(watch(&mut admin, &cursor).await);
    }
    let request =
        pb::WatchAuditEventsRequest { parent: "tenants/acme".to_owned(), ..Default::default() };
    let status = admin.audit.watch_audit_events(request.clone()).await.unwrap_err();
    assert_eq!(reason(&status), "OVERLOADED");
    drop(streams);
    while admin.audit.watch_audit_events(request.clone()).await.is_err() {
        tokio::task::yield_now().await;
    }
}
