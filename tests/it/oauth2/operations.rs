//! The operations interface.

use crate::harness::{Backend, on_both_databases};

on_both_databases!(server_is_alive_and_ready_and_has_metrics);

#[tokio::test(flavor = "multi_thread")]
async fn unknown_paths_do_not_create_metrics() {
    let kw = Backend::Sqlite.start().await;
    let client = reqwest::Client::builder().http2_prior_knowledge().build().unwrap();
    for (path, timeout) in [
        ("/keyward.token.v1.TokenService/Made-up", "x"),
        ("/keyward.token.v1.TokenService/Made-up", "1S"),
        ("/made-up", "1S"),
    ] {
        let request = client
            .post(format!("{}{path}", kw.grpc()))
            .header("content-type", "application/grpc")
            .header("grpc-timeout", timeout);
        request.send().await.unwrap();
    }
    kw.send(kw.request(reqwest::Method::GET, "/made-up")).await;
    let metrics = reqwest::get(format!("http://{}/metrics", kw.server().ops));
    let metrics = metrics.await.unwrap().text().await.unwrap();
    assert!(metrics.contains("method=\"unknown\""), "{metrics}");
    assert!(!metrics.to_lowercase().contains("made-up"), "{metrics}");
}

async fn server_is_alive_and_ready_and_has_metrics(backend: Backend) {
    let kw = backend.start().await;
    let (_, crm) = kw.admin().await.acme().await;
    assert_eq!(kw.token_for(&crm, &[]).await.status, 200);
    let ops = format!("http://{}", kw.server().ops);
    for path in ["/livez", "/readyz"] {
        let answer = reqwest::get(format!("{ops}{path}")).await.unwrap();
        assert_eq!(answer.status(), 200, "{path}");
    }
    let metrics = reqwest::get(format!("{ops}/metrics")).await.unwrap().text().await.unwrap();
    for line in [
        r#"keyward_requests_total{face="http",method="/oauth2/token",code="200"} 1"#,
        r#"keyward_requests_total{face="grpc",method="/keyward.token.v1.TokenService/IssueToken",code="0"} 1"#,
        "keyward_secret_hashes_total ",
        r#"keyward_requests_in_flight{face="http"} 0"#,
        "# EOF",
    ] {
        assert!(metrics.contains(line), "{line} is not in\n{metrics}");
    }
    assert!(!metrics.contains(&crm.secret) && !metrics.contains(&crm.client_id));
}
