//! Audit logs over a change of the master key.

use keyward::proto::admin as pb;

use super::{KeyFiles, NEW, OLD, rewrap, rewrap_all, uses, viewable_acme};
use crate::audit::{expect, logs, seal};
use crate::harness::{Backend, on_both_databases, until};

on_both_databases!(log_verifies_over_a_change_of_the_key, forged_head_is_not_signed_again,);

async fn log_verifies_over_a_change_of_the_key(backend: Backend) {
    let keys = KeyFiles::new();
    let mut kw = keys.start(backend, OLD, None).await;
    let mut admin = kw.admin().await;
    let (_, crm) = viewable_acme(&mut admin).await;
    // Its log gets no new events.
    admin.tenant("quiet", &["a"]).await;
    seal(&kw).await;
    let public = |logs: Vec<pb::AuditLog>, tenant: &str| {
        let log = logs.into_iter().find(|log| log.name == format!("tenants/{tenant}/auditLog"));
        log.unwrap().head.unwrap().public_key
    };
    let old = public(logs(&mut admin).await, "quiet");
    let kept = kw.folder().join("heads.jsonl");
    let heads = crate::audit::audit(&kw, &["head"]).await;
    std::fs::write(&kept, heads.out).unwrap();
    let kept = kept.display().to_string();
    let kept = kept.as_str();

    kw.restart_with(&keys.settings(NEW, Some(OLD))).await;
    let mut admin = kw.admin().await;
    admin.application("acme", "later", &["a"]).await;
    crm.token(&kw.grpc()).await;
    seal(&kw).await;
    expect(&kw, &["verify"], 0, "verified").await;
    rewrap_all(&mut admin).await;
    let new = public(logs(&mut admin).await, "quiet");
    assert_ne!(old, new, "a log without events is signed again too");
    until("the hashes have moved", async || uses(&mut admin, OLD).await.removable).await;

    kw.restart_with(&keys.settings(NEW, None)).await;
    let mut admin = kw.admin().await;
    admin.application("quiet", "later", &["a"]).await;
    seal(&kw).await;
    expect(&kw, &["verify"], 0, "verified").await;
    // Heads that were kept outside trust the old key alone, until the new one is named.
    expect(&kw, &["verify", "--head", kept], 17, "AUDIT_SIGNATURE_WRONG").await;
    let [old, new] = [old, new].map(|key| {
        use base64::Engine;
        base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(key)
    });
    let both = ["verify", "--head", kept, "--key", old.as_str(), "--key", new.as_str()];
    expect(&kw, &both, 0, "verified").await;
}

async fn forged_head_is_not_signed_again(backend: Backend) {
    let keys = KeyFiles::new();
    let mut kw = keys.start(backend, OLD, None).await;
    viewable_acme(&mut kw.admin().await).await;
    seal(&kw).await;
    kw.sql("update audit_heads set signed_at = signed_at + 1 where tenant_id = 'acme'", None)
        .await
        .unwrap();
    kw.restart_with(&keys.settings(NEW, Some(OLD))).await;
    let mut admin = kw.admin().await;
    let (_, left) = rewrap(&mut admin).await.unwrap();
    assert!(left >= 1);
    while rewrap(&mut admin).await.unwrap().1 > 1 {}
    assert_eq!(uses(&mut admin, OLD).await.audit_signatures, 1);
    expect(&kw, &["verify", "acme"], 17, "AUDIT_SIGNATURE_WRONG").await;
}
