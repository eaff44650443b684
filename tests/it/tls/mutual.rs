//! Client certificates.

use super::certificates::{Authority, Pair};
use super::client::{HTTP1, VERSIONS, get};
use super::{TlsKeyward, until};

const OK: &str = "HTTP/1.1 200 OK";
/// A client whose certificate is refused: with TLS 1.2 in the handshake, with 1.3 at the first
/// answer.
const REFUSED: &str = "refused";

/// The status line of a request with each version, or [`REFUSED`].
async fn outcomes(tls: &TlsKeyward, identity: Option<&Pair>) -> [String; 2] {
    let mut outcomes = [String::new(), String::new()];
    for (version, outcome) in VERSIONS.into_iter().zip(&mut outcomes) {
        let client = tls.client().identity(identity).alpn(HTTP1).version(version);
        let answered = async { get(&mut client.connect(tls.http()).await?).await };
        *outcome = answered.await.unwrap_or_else(|_| REFUSED.to_owned());
    }
    outcomes
}

#[tokio::test(flavor = "multi_thread")]
async fn required_client_certificate_is_verified() {
    let clients = Authority::new("clients");
    let tls = TlsKeyward::start(Some(&clients), &[]).await;
    let expired = clients.between((2020, 1, 1), (2026, 5, 31));
    let early = clients.between((2026, 6, 2), (2100, 1, 1));
    // The same name, another key.
    let foreign = Authority::new("clients").client();
    assert_eq!(outcomes(&tls, Some(&clients.client())).await, [OK, OK]);
    assert_eq!(outcomes(&tls, None).await, [REFUSED, REFUSED], "without one");
    assert_eq!(outcomes(&tls, Some(&expired)).await, [REFUSED, REFUSED], "expired");
    assert_eq!(outcomes(&tls, Some(&early)).await, [REFUSED, REFUSED], "not yet valid");
    assert_eq!(outcomes(&tls, Some(&foreign)).await, [REFUSED, REFUSED], "of another authority");
    let refused = "keyward_tls_handshakes_total\
                   {face=\"http\",result=\"client_certificate\",version=\"none\"}";
    until("all are counted", async || tls.metric(refused).await == 8).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn optional_client_certificate_is_verified_if_sent() {
    let clients = Authority::new("clients");
    let settings = [("http.tls.client_auth", "optional")];
    let tls = TlsKeyward::start(Some(&clients), &settings).await;
    assert_eq!(outcomes(&tls, Some(&clients.client())).await, [OK, OK]);
    assert_eq!(outcomes(&tls, None).await, [OK, OK]);
    let expired = clients.between((2020, 1, 1), (2026, 5, 31));
    assert_eq!(outcomes(&tls, Some(&expired)).await, [REFUSED, REFUSED]);
}

#[tokio::test(flavor = "multi_thread")]
async fn listener_without_client_auth_asks_for_no_certificate() {
    let clients = Authority::new("clients");
    let tls = TlsKeyward::start(Some(&clients), &[("http.tls.client_auth", "none")]).await;
    assert_eq!(outcomes(&tls, None).await, [OK, OK]);
    assert_eq!(outcomes(&tls, Some(&Authority::new("x").client())).await, [OK, OK]);
}

#[tokio::test(flavor = "multi_thread")]
async fn any_certificate_is_taken_from_a_client_that_has_its_key() {
    let tls = TlsKeyward::start(None, &[("http.tls.client_auth", "any")]).await;
    let (one, other) = (Authority::new("clients"), Authority::new("clients"));
    let expired = one.between((2020, 1, 1), (2026, 5, 31));
    assert_eq!(outcomes(&tls, None).await, [OK, OK], "without one");
    for identity in [&one.client(), &other.client(), &expired] {
        assert_eq!(outcomes(&tls, Some(identity)).await, [OK, OK]);
    }
    let stolen = Pair { key: other.client().key, ..one.client() };
    assert_eq!(outcomes(&tls, Some(&stolen)).await, [REFUSED, REFUSED], "without its key");
    let garbage = Pair { der: vec![0x30, 0], ..one.client() };
    assert_eq!(outcomes(&tls, Some(&garbage)).await, [REFUSED, REFUSED], "no certificate");
}

#[tokio::test(flavor = "multi_thread")]
async fn client_certificates_are_bounded_in_number_and_size() {
    let clients = Authority::new("clients");
    for (authority, settings) in
        [(None, &[("http.tls.client_auth", "any")][..]), (Some(&clients), &[])]
    {
        let tls = TlsKeyward::start(authority, settings).await;
        let with = |count: usize, bytes: usize| Pair {
            intermediates: vec![vec![0; bytes]; count],
            ..clients.client()
        };
        assert_eq!(outcomes(&tls, Some(&with(8, 100))).await, [OK, OK]);
        assert_eq!(outcomes(&tls, Some(&with(9, 100))).await, [REFUSED, REFUSED], "too many");
        assert_eq!(outcomes(&tls, Some(&with(2, 17_000))).await, [REFUSED, REFUSED], "too large");
    }
}
