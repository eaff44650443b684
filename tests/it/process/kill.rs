//! kill -9 while a client revokes, disables and rotates: what was acknowledged is there when
//! the server is back, and nothing is half done.

use std::time::Duration;

use keyward::proto::access::ListRevocationsRequest;
use keyward::proto::access::revocation::Revoked;
use keyward::proto::access::revocation_service_client::RevocationServiceClient;
use keyward::proto::admin as pb;
use keyward::proto::admin::credential::Kind;
use keyward::proto::token::RevokeTokensRequest;
use tempfile::TempDir;
use tokio::time::sleep;

use super::binary::{Finished, Serving, exported, keyward};
use crate::harness::{Admin, Credential, fresh_database, mask};

/// 200 in all, over four servers at once.
const KILLS_EACH: u64 = 50;

/// What a client was told.
#[derive(Debug, Default)]
struct Told {
    /// Tokens that were revoked, by their ids.
    revoked: Vec<String>,
    /// Whether the credential is disabled; `None` when no answer came.
    disabled: Option<bool>,
}

/// Whoever calls as administrator; his token is good across restarts.
async fn admin(serving: &Serving, token: &str) -> Admin {
    Admin::with_token(&serving.grpc, token.to_owned()).await
}

/// Revokes and disables as fast as answers come, until one does not.
async fn write(mut admin: Admin, credential: String, lane: u64, round: u64) -> Told {
    let mut told = Told::default();
    for n in 0_u64.. {
        let id = format!("{lane}-{round}-{n}");
        let request = RevokeTokensRequest {
            name: credential.clone(),
            token_id: id.clone(),
            reason: String::new(),
        };
        if admin.tokens.revoke_tokens(request).await.is_err() {
            return told;
        }
        told.revoked.push(id);
        let disabled = n % 2 == 0;
        let change = pb::Credential { name: credential.clone(), disabled, ..Default::default() };
        let request = pb::UpdateCredentialRequest {
            credential: Some(change),
            update_mask: mask(&["disabled"]),
        };
        told.disabled = None;
        if admin.credentials.update_credential(request).await.is_err() {
            return told;
        }
        told.disabled = Some(disabled);
    }
    told
}

/// Rotates without overlap until an answer does not come; the secret that was told last.
async fn rotate(mut admin: Admin, credential: String, mut secret: String) -> String {
    loop {
        let request = pb::RotateCredentialRequest {
            name: credential.clone(),
            overlap: Some(prost_types::Duration::default()),
            ..Default::default()
        };
        match admin.credentials.rotate_credential(request).await {
            Ok(rotated) => secret = rotated.into_inner().secret,
            Err(_) => return secret,
        }
    }
}

/// All that is revoked, by number; the ids of single tokens.
async fn listed(serving: &Serving, token: &str) -> (Vec<i64>, Vec<String>) {
    let channel = crate::harness::bearer(&serving.grpc, token).await;
    let mut client = RevocationServiceClient::new(channel);
    let (mut numbers, mut ids) = (Vec::new(), Vec::new());
    let mut page_token = String::new();
    loop {
        let request = ListRevocationsRequest { page_size: 1000, page_token };
        let page = client.list_revocations(request).await.unwrap().into_inner();
        for revocation in page.revocations {
            numbers.push(revocation.number);
            if let Some(Revoked::TokenId(id)) = revocation.revoked {
                ids.push(id);
            }
        }
        if page.next_page_token.is_empty() {
            return (numbers, ids);
        }
        page_token = page.next_page_token;
    }
}

async fn lane(lane: u64, database: Option<String>) -> usize {
    let folder = TempDir::new().unwrap();
    let path = folder.path().to_str().unwrap().to_owned();
    let mut arguments = vec!["--data-dir", &path];
    if let Some(url) = &database {
        arguments.extend(["--database-url", url]);
    }
    let bootstrap = ["bootstrap"].iter().chain(&arguments).copied();
    let printed = Finished::of(&mut keyward(bootstrap)).worked();
    let first = Credential {
        client_id: exported(&printed, "KEYWARD_CLIENT_ID").to_owned(),
        secret: exported(&printed, "KEYWARD_CLIENT_SECRET").to_owned(),
    };
    let environment = [
        // The same wherever it listens, or no token would be good after a restart.
        ("KEYWARD_ISSUER", "https://keyward.test"),
        ("KEYWARD_SECRETS_WRONG_SECRETS", "0"),
    ];
    let start = || Serving::start_with(&arguments, &environment);
    let mut serving = start();
    let mut setup = Admin::new(serving.grpc.clone(), &first).await;
    let token = setup.token.clone();
    let (credential, _) = setup.acme().await;
    let crm = "tenants/acme/applications/crm";
    let (rotated, mut secret) = setup.credential(crm, Kind::ClientSecret).await;
    let mut acknowledged = Vec::new();
    for round in 0..KILLS_EACH {
        let writer = write(admin(&serving, &token).await, credential.name.clone(), lane, round);
        let writer = tokio::spawn(writer);
        let rotator = admin(&serving, &token).await;
        let rotator = tokio::spawn(rotate(rotator, rotated.name.clone(), secret.secret.clone()));
        // Another moment in each round.
        let moment = (lane * 7_919 + round * 104_729) % 200_000;
        sleep(Duration::from_micros(moment)).await;
        serving.kill();
        let told = writer.await.unwrap();
        let last_secret = rotator.await.unwrap();
        acknowledged.extend(told.revoked);

        serving = start();
        let (numbers, ids) = listed(&serving, &token).await;
        let expected: Vec<_> = (1..=i64::try_from(numbers.len()).unwrap()).collect();
        assert_eq!(numbers, expected, "round {round}: no gap, nothing out of order");
        for id in &acknowledged {
            assert!(ids.contains(id), "round {round}: {id} was acknowledged");
        }
        let mut after = admin(&serving, &token).await;
        let request = pb::GetCredentialRequest { name: credential.name.clone() };
        let read = after.credentials.get_credential(request).await.unwrap().into_inner();
        if let Some(disabled) = told.disabled {
            assert_eq!(read.credential.unwrap().disabled, disabled, "round {round}");
        }
        // The last rotation is done or not: then its secret was told to nobody.
        secret.secret = last_secret;
        let request = pb::GetCredentialRequest { name: rotated.name.clone() };
        let read = after.credentials.get_credential(request).await.unwrap().into_inner();
        let live = read.credential.unwrap().secrets;
        assert_eq!(live.len(), 1, "round {round}: one secret, the old or the new one");
        let works = secret.exchange(&serving.grpc, &[], &[]).await.is_ok();
        let is_last = secret.secret.ends_with(&live[0].last_four);
        assert_eq!(works, is_last, "round {round}");
        if !works {
            let request = pb::RotateCredentialRequest {
                name: rotated.name.clone(),
                overlap: Some(prost_types::Duration::default()),
                ..Default::default()
            };
            let fresh = after.credentials.rotate_credential(request).await.unwrap();
            secret.secret = fresh.into_inner().secret;
        }
    }
    serving.stop("-TERM");
    acknowledged.len()
}

#[tokio::test(flavor = "multi_thread")]
async fn no_acknowledged_write_is_lost_in_two_hundred_kills() {
    let lanes = [
        tokio::spawn(lane(0, None)),
        tokio::spawn(lane(1, None)),
        tokio::spawn(lane(2, Some(fresh_database().await))),
        tokio::spawn(lane(3, Some(fresh_database().await))),
    ];
    let mut acknowledged = 0;
    for lane in lanes {
        acknowledged += lane.await.unwrap();
    }
    #[expect(clippy::print_stdout, reason = "how much was at stake")]
    {
        println!("{acknowledged} acknowledged revocations over 200 kills");
    }
    assert!(acknowledged > 50, "{acknowledged}: something was at stake");
}
