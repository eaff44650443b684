//! One document: which addresses are reached, and what an answer may be.

use std::time::Duration;

use futures_util::future::join_all;
use keyward::internals::domain::Networks;
use keyward::internals::outbound::{
    FetchError, Fetcher, MAX_DOCUMENT, OutboundMetrics, OutboundOptions, PlaintextHosts,
};

use super::stub::{Reply, StubHost};
use super::{LOOPBACK, fetcher};
use crate::harness::until;

const BODY: &str = r#"{"keys":[]}"#;

#[tokio::test(flavor = "multi_thread")]
async fn document_is_fetched_by_name_and_by_address() {
    let host = StubHost::start(Reply::json("cache-control: public, max-age=77\r\n", BODY)).await;
    let fetcher = fetcher(&host, LOOPBACK);
    for name in ["localhost", "127.0.0.1", "LOCALHOST"] {
        let document = fetcher.get_json(&host.url(name)).await.unwrap();
        assert_eq!(document.body, BODY.as_bytes(), "{name}");
        assert_eq!(document.max_age, Some(Duration::from_secs(77)));
    }
    assert_eq!(fetcher.metrics().fetched.get(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn internal_address_is_not_connected_to() {
    let host = StubHost::start(Reply::json("", BODY)).await;
    let port = host.port();
    for networks in ["", "10.0.0.0/8, 192.0.2.7"] {
        let fetcher = fetcher(&host, networks);
        for name in [
            "localhost",
            "localhost.",
            "127.0.0.1",
            "127.1",
            "0x7f000001",
            "2130706433",
            "0.0.0.0",
            "[::1]",
            "[::]",
            "[::ffff:127.0.0.1]",
            "[::ffff:7f00:1]",
            "[::127.0.0.1]",
            "[64:ff9b::7f00:1]",
            "169.254.169.254",
            "[fd00:ec2::254]",
            "[fe80::1]",
            "100.100.100.200",
            "172.16.0.1",
            "192.168.0.1",
        ] {
            let refused = fetcher.get_json(&format!("https://{name}:{port}/jwks?of=a")).await;
            let expected = [FetchError::AddressRefused, FetchError::Resolve];
            assert!(
                refused.as_ref().is_err_and(|error| expected.contains(error)),
                "{name}: {refused:?}"
            );
        }
        for name in ["localhost", "127.0.0.1", "127.1", "[::ffff:127.0.0.1]", "169.254.169.254"] {
            let refused = fetcher.get_json(&format!("https://{name}:{port}/jwks?of=a")).await;
            assert_eq!(refused, Err(FetchError::AddressRefused), "{name}");
        }
        for literal in ["127.0.0.1", "[::1]", "[::ffff:10.9.9.9]", "169.254.169.254"] {
            let checked = fetcher.check_url(&format!("https://{literal}/jwks"));
            assert_eq!(checked.is_err(), !literal.contains("10.9") || networks.is_empty());
        }
    }
    assert_eq!(host.connections(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn address_must_be_an_https_url() {
    let host = StubHost::plaintext(Reply::json("", BODY)).await;
    let with = |hosts: &str| {
        let options = OutboundOptions {
            allowed_networks: Networks::parse(LOOPBACK).unwrap(),
            plaintext_hosts: PlaintextHosts::parse(hosts).unwrap(),
            ca_file: None,
        };
        Fetcher::new(options, OutboundMetrics::default()).unwrap()
    };
    let fetcher = with("localhost");
    assert!(fetcher.get_json(&host.url("localhost")).await.is_ok());
    for url in [
        host.url("127.0.0.1"),
        host.url("localhost.evil.test"),
        host.url("localhost@127.0.0.1"),
        "ftp://localhost/".to_owned(),
        "file:///etc/passwd".to_owned(),
        "localhost".to_owned(),
        "/jwks".to_owned(),
        "//localhost/jwks".to_owned(),
        "https://".to_owned(),
        "https:///jwks".to_owned(),
        "https://user:secret@keys.test/".to_owned(),
        "https://keys.test/#fragment".to_owned(),
        "https://keys.test:99999/".to_owned(),
        "https://keys.test:/".to_owned(),
        "https://keys test/".to_owned(),
        "https://keys.test/\r\nx: y".to_owned(),
        format!("https://keys.test/{}", "a".repeat(2048)),
        String::new(),
    ] {
        let refused = fetcher.get_json(&url).await;
        assert!(matches!(refused, Err(FetchError::Url(_))), "{url}: {refused:?}");
        assert!(fetcher.check_url(&url).is_err(), "{url}");
    }
    assert!(matches!(with("").get_json(&host.url("localhost")).await, Err(FetchError::Url(_))));
    assert_eq!(host.connections(), 1);
    assert_eq!(fetcher.metrics().address.get(), 18);
    for bad in ["keys.internal:80", "http://keys.internal", "a@b", "a/b"] {
        assert!(PlaintextHosts::parse(bad).is_err(), "{bad}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn only_a_small_json_answer_is_accepted() {
    let host = StubHost::start(Reply::json("", BODY)).await;
    let fetcher = fetcher(&host, LOOPBACK);
    let url = host.url("localhost");
    let get = async |reply: Reply| {
        host.answer(reply);
        fetcher.get_json(&url).await.map(drop)
    };
    let typed = |kind: &str| Reply::with("200 OK", &format!("content-type: {kind}\r\n"), BODY);
    for kind in [
        "application/json",
        "application/json; charset=utf-8",
        "Application/JSON",
        "application/jwk-set+json",
        "application/vnd.acme+json;v=1",
    ] {
        assert_eq!(get(typed(kind)).await, Ok(()), "{kind}");
    }
    for kind in ["text/html", "text/plain", "application/jsonp", "json", "application/octet-stream"]
    {
        assert_eq!(get(typed(kind)).await, Err(FetchError::ContentType), "{kind}");
    }
    assert_eq!(get(Reply::with("200 OK", "", BODY)).await, Err(FetchError::ContentType));
    for status in ["301 Moved", "302 Found", "303 See", "307 Temporary", "308 Permanent", "304 Not"]
    {
        let lines = "location: https://localhost/\r\ncontent-type: application/json\r\n";
        assert_eq!(
            get(Reply::with(status, lines, BODY)).await,
            Err(FetchError::Redirect),
            "{status}"
        );
    }
    for (status, number) in [("500 Fault", 500), ("404 Not Found", 404), ("201 Created", 201)] {
        let reply = Reply::with(status, "content-type: application/json\r\n", BODY);
        assert_eq!(get(reply).await, Err(FetchError::Status(number)));
    }
    let compressed = Reply::json("content-encoding: gzip\r\n", BODY);
    assert_eq!(get(compressed).await, Err(FetchError::Encoding));
    for body in ["", "{\"keys\":[", "<html></html>", "{}{}"] {
        assert_eq!(get(Reply::json("", body)).await, Err(FetchError::NotJson), "{body}");
    }
    let fits = format!("\"{}\"", "a".repeat(MAX_DOCUMENT - 2));
    assert_eq!(get(Reply::json("", &fits)).await, Ok(()));
    let long = format!("\"{}\"", "a".repeat(MAX_DOCUMENT - 1));
    assert_eq!(get(Reply::json("", &long)).await, Err(FetchError::TooLarge));
    // The announced length is refused before anything is read.
    let head = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n";
    let announced = format!("{head}content-length: 99999999999\r\n\r\n");
    assert_eq!(get(Reply::Hang(announced.into())).await, Err(FetchError::TooLarge));
    // Without a length, it is counted.
    let endless = format!("{head}connection: close\r\n\r\n");
    assert_eq!(get(Reply::Endless(endless.into())).await, Err(FetchError::TooLarge));
    let chunked = format!("{head}transfer-encoding: chunked\r\n\r\nFFFFFF\r\n");
    assert_eq!(get(Reply::Endless(chunked.into())).await, Err(FetchError::TooLarge));
    let cut = format!("{head}content-length: 100\r\n\r\n{{\"keys\":[");
    assert!(matches!(get(Reply::Bytes(cut.into())).await, Err(FetchError::Broken(_))));
    let headers = format!("{head}x: {}\r\n\r\n", "a".repeat(100_000));
    assert!(matches!(get(Reply::Bytes(headers.into())).await, Err(FetchError::Broken(_))));
    assert!(matches!(
        get(Reply::Bytes(b"SSH-2.0-x\r\n".to_vec())).await,
        Err(FetchError::Broken(_))
    ));
}

#[tokio::test(flavor = "multi_thread")]
async fn certificate_of_another_authority_is_refused() {
    let (host, other) = (
        StubHost::start(Reply::json("", BODY)).await,
        StubHost::start(Reply::json("", BODY)).await,
    );
    let refused = fetcher(&other, LOOPBACK).get_json(&host.url("localhost")).await;
    assert!(matches!(refused, Err(FetchError::Tls(_))), "{refused:?}");
    assert_eq!(host.requests(), 0);
    let options = |path: &str| OutboundOptions { ca_file: Some(path.into()), ..Default::default() };
    for path in ["/nonexistent/ca.pem", "/dev/null"] {
        let refused = Fetcher::new(options(path), OutboundMetrics::default()).unwrap_err();
        assert!(refused.starts_with("outbound.ca_file: "), "{refused}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn slow_hosts_take_a_bounded_time_and_number_of_places() {
    let head = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 9\r\n\r\n{";
    let host = StubHost::start(Reply::Hang(head.into())).await;
    let fetcher = fetcher(&host, LOOPBACK);
    let url = host.url("127.0.0.1");
    let all = join_all((0..100).map(|_| fetcher.get_json(&url))).await;
    let count = |wanted: FetchError| all.iter().filter(|got| **got == Err(wanted.clone())).count();
    assert_eq!((count(FetchError::Timeout), count(FetchError::Busy)), (72, 28));
    // As the first ones give up, a few others can begin in the last milliseconds.
    assert!((8..=16).contains(&host.requests()), "all others waited: {}", host.requests());
    host.answer(Reply::json("", BODY));
    until("places are free again", async || fetcher.get_json(&url).await.is_ok()).await;
}
