//! A temporarily full disk: writes are refused, and work again as soon as there is space.

use std::process::Command;

use keyward::proto::admin as pb;
use keyward::proto::token::RevokeTokenRequest;
use tempfile::TempDir;
use tokio::task::spawn_blocking;
use tonic::{Code, Status};

use super::binary::{Serving, exported};
use crate::harness::{Admin, Credential, until};

/// Limits the size of files, or removes the limit.
fn limit_files(serving: &Serving, size: &str) {
    let process = serving.id().to_string();
    let done = Command::new("prlimit")
        .args(["--pid", &process, &format!("--fsize={size}:unlimited")])
        .status();
    assert!(done.expect("prlimit of util-linux runs").success());
}

async fn ready(serving: &Serving) -> (u16, String) {
    let answer = reqwest::get(format!("{}/readyz", serving.ops)).await.unwrap();
    (answer.status().as_u16(), answer.text().await.unwrap())
}

fn unavailable(status: &Status) {
    assert_eq!(status.code(), Code::Unavailable, "{status:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn full_disk_refuses_writes_until_space_is_free() {
    let folder = TempDir::new().unwrap();
    let data = folder.path().to_str().unwrap().to_owned();
    let serving = spawn_blocking(move || Serving::start(&["--data-dir", &data])).await.unwrap();
    let printed = spawn_blocking({
        let data = folder.path().to_owned();
        move || {
            let arguments = ["bootstrap", "--data-dir", data.to_str().unwrap()];
            super::binary::Finished::of(&mut super::binary::keyward(arguments)).worked()
        }
    })
    .await
    .unwrap();
    let admin = Credential {
        client_id: exported(&printed, "KEYWARD_CLIENT_ID").to_owned(),
        secret: exported(&printed, "KEYWARD_CLIENT_SECRET").to_owned(),
    };
    let mut admin = Admin::new(serving.grpc.clone(), &admin).await;
    let (_, crm) = admin.acme().await;
    let application = "tenants/acme/applications/crm";
    let (first, second) = (crm.token(&serving.grpc).await, crm.token(&serving.grpc).await);
    assert_eq!(ready(&serving).await.0, 200);

    for round in 0..3 {
        limit_files(&serving, "1");
        let change = pb::UpdateApplicationRequest {
            application: Some(pb::Application {
                name: application.to_owned(),
                description: format!("round {round}"),
                ..Default::default()
            }),
            update_mask: crate::harness::mask(&["description"]),
        };
        let refused = admin.applications.update_application(change.clone()).await.unwrap_err();
        unavailable(&refused);
        let revoke = RevokeTokenRequest { token: first.clone() };
        unavailable(&admin.tokens.revoke_token(revoke.clone()).await.unwrap_err());
        // Readiness reuses the last successful write for a second.
        until("it is not ready", async || ready(&serving).await.0 == 503).await;
        let (_, body) = ready(&serving).await;
        assert!(body.starts_with("not ready\ndatabase: "), "{body}");
        // Requests that write nothing still work.
        assert!(!crm.token(&serving.grpc).await.is_empty());
        assert!(admin.is_active(&second).await);

        limit_files(&serving, "unlimited");
        admin.applications.update_application(change).await.expect("the next write works");
        assert_eq!(ready(&serving).await.0, 200);
    }
    admin.tokens.revoke_token(RevokeTokenRequest { token: first.clone() }).await.unwrap();
    assert!(!admin.is_active(&first).await);
    assert!(admin.is_active(&second).await);
}
