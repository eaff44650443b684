//! Changed certificate files.

use std::fs;
use std::os::unix::fs::symlink;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::certificates::{Authority, Files};
use super::client::{HTTP1, Stream, answer, get};
use super::{TlsKeyward, until};
use crate::harness::{Backend, Credential};

const EXPIRY: &str = "keyward_certificate_expiry_timestamp_seconds";

/// The certificate that the server sends on a new connection.
async fn served(tls: &TlsKeyward) -> Vec<u8> {
    served_on(&tls.client().alpn(HTTP1).connect(tls.http()).await.unwrap())
}

fn served_on(stream: &Stream) -> Vec<u8> {
    stream.get_ref().1.peer_certificates().unwrap()[0].to_vec()
}

/// How often the certificate is replaced under load.
const REPLACEMENTS: i64 = 20;

#[expect(clippy::print_stdout, reason = "the figures are what an operator wants to know")]
fn report(exchanges: usize, handshakes: usize, failed: usize) {
    println!(
        "{REPLACEMENTS} certificates, {exchanges} exchanges, {handshakes} handshakes, {failed} failed"
    );
}

/// Exchanges a client secret for a token on a connection that stays open. Returns the status line.
async fn exchange(stream: &mut Stream, client: &Credential) -> std::io::Result<String> {
    let Credential { client_id, secret } = client;
    let body =
        format!("grant_type=client_credentials&client_id={client_id}&client_secret={secret}");
    let head = format!(
        "POST /oauth2/token HTTP/1.1\r\nHost: localhost\r\nContent-Length: {}\r\n\
         Content-Type: application/x-www-form-urlencoded\r\n\r\n",
        body.len()
    );
    stream.write_all(format!("{head}{body}").as_bytes()).await?;
    answer(stream).await
}

#[tokio::test(flavor = "multi_thread")]
async fn renewed_certificate_is_used_and_no_call_is_lost() {
    let tls = TlsKeyward::start(None, &[]).await;
    let (stop, answered) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let handshakes = Arc::new(AtomicUsize::new(0));
    let config = tls.client().alpn(HTTP1).config();
    let server = tls.http();
    let mut admin = tls.kw.admin().await;
    let (_, crm) = admin.acme().await;
    // One keeps its connection, one opens a new one for each request.
    let clients = [true, false].map(|keeps| {
        let (stop, answered) = (Arc::clone(&stop), Arc::clone(&answered));
        let (config, handshakes) = (Arc::clone(&config), Arc::clone(&handshakes));
        let crm = crm.clone();
        tokio::spawn(async move {
            let connect = async || {
                let stream = super::client::connect(Arc::clone(&config), server).await;
                handshakes.fetch_add(1, Ordering::Relaxed);
                stream
            };
            let mut failed = Vec::new();
            let mut stream = connect().await.unwrap();
            while !stop.load(Ordering::Relaxed) {
                if !keeps {
                    match connect().await {
                        Ok(new) => stream = new,
                        Err(error) => {
                            failed.push(error.to_string());
                            continue;
                        }
                    }
                }
                match exchange(&mut stream, &crm).await {
                    Ok(status) if status == "HTTP/1.1 200 OK" => {}
                    outcome => failed.push(format!("{outcome:?}")),
                }
                answered.fetch_add(1, Ordering::Relaxed);
            }
            failed
        })
    });
    for _ in 0..REPLACEMENTS {
        let before = answered.load(Ordering::Relaxed);
        let renewed = tls.authority.server();
        tls.files.put(&renewed);
        until("the new one is served", async || served(&tls).await == renewed.der).await;
        until("calls go on", async || answered.load(Ordering::Relaxed) > before + 20).await;
    }
    stop.store(true, Ordering::Relaxed);
    let mut failed = Vec::new();
    for client in clients {
        failed.extend(client.await.unwrap());
    }
    report(answered.load(Ordering::Relaxed), handshakes.load(Ordering::Relaxed), failed.len());
    assert!(failed.is_empty(), "{failed:#?}");
    assert!(tls.reloads("applied").await >= REPLACEMENTS);
}

#[tokio::test(flavor = "multi_thread")]
async fn client_authorities_follow_every_change_of_the_file() {
    let (one, two) = (Authority::new("one"), Authority::new("two"));
    let tls = TlsKeyward::start(Some(&one), &[]).await;
    let (of_one, of_two) = (one.client(), two.client());
    let takes = async |pair| tls.ask(Some(pair)).await.is_ok();
    assert!(takes(&of_one).await && !takes(&of_two).await);
    let mut kept =
        tls.client().identity(Some(&of_one)).alpn(HTTP1).connect(tls.http()).await.unwrap();
    get(&mut kept).await.unwrap();

    // The first certificate of the file stays the same.
    tls.files.write("ca.crt", &[one.pem(), two.pem()].concat());
    until("the second is accepted", async || takes(&of_two).await).await;
    assert!(takes(&of_one).await);
    tls.files.write("ca.crt", &[two.pem(), one.pem()].concat());
    until("it is reloaded", async || tls.reloads("applied").await == 2).await;
    assert!(takes(&of_one).await && takes(&of_two).await);
    tls.files.write("ca.crt", &two.pem());
    until("the first is refused", async || !takes(&of_one).await).await;
    assert!(takes(&of_two).await);
    assert_eq!(get(&mut kept).await.unwrap(), "HTTP/1.1 200 OK", "live connections stay");
}

#[tokio::test(flavor = "multi_thread")]
async fn unusable_files_are_refused_and_old_ones_stay_in_use() {
    let clients = Authority::new("clients");
    let tls = TlsKeyward::start(Some(&clients), &[("http.tls.client_auth", "optional")]).await;
    let first = served(&tls).await;
    let leaf = format!("{EXPIRY}{{face=\"http\",kind=\"leaf\"}}");
    let expiry = tls.metric(&leaf).await;
    let next = tls.authority.between((2020, 1, 1), (2027, 1, 1));
    // Another pair, so that no two files of neighbouring cases belong together.
    let other = tls.authority.server();
    let expired = tls.authority.between((2020, 1, 1), (2026, 5, 31));
    let early = tls.authority.between((2027, 1, 1), (2028, 1, 1));
    let original = fs::read_to_string(tls.files.path("tls.crt")).unwrap();
    let key = fs::read_to_string(tls.files.path("tls.key")).unwrap();
    let half = |text: &str| text[..text.len() / 2].to_owned();
    let bad_ca = [clients.pem(), half(&clients.pem())].concat();
    for (what, certificate, key, ca) in [
        ("another key", &next.certificate, &key, &clients.pem()),
        ("half a key", &next.certificate, &half(&next.key), &clients.pem()),
        ("an empty key", &next.certificate, &String::new(), &clients.pem()),
        ("half a certificate", &half(&other.certificate), &other.key, &clients.pem()),
        ("expired", &expired.certificate, &expired.key, &clients.pem()),
        ("not yet valid", &early.certificate, &early.key, &clients.pem()),
        ("half an authority", &original, &key, &bad_ca),
        ("no authority", &original, &key, &String::new()),
    ] {
        let refused = tls.reloads("refused").await;
        tls.files.write("ca.crt", ca);
        tls.files.write("tls.key", key);
        tls.files.write("tls.crt", certificate);
        until(what, async || tls.reloads("refused").await > refused).await;
        assert_eq!(served(&tls).await, first, "{what}");
        assert!(tls.ask(Some(&clients.client())).await.is_ok(), "{what}");
        assert_eq!(tls.metric(&leaf).await, expiry, "{what}");
    }
    let refused = tls.reloads("refused").await;
    fs::remove_file(tls.files.path("tls.key")).unwrap();
    until("a missing file", async || tls.reloads("refused").await > refused).await;
    assert_eq!(served(&tls).await, first);

    tls.files.write("ca.crt", &clients.pem());
    tls.files.put(&next);
    until("good files are used", async || served(&tls).await == next.der).await;
    let end: jiff::Timestamp = "2027-01-01T00:00:00Z".parse().unwrap();
    assert_eq!(tls.metric(&leaf).await, end.as_second(), "the metric follows");
}

#[tokio::test(flavor = "multi_thread")]
async fn expiry_metric_shows_what_is_served_of_each_kind() {
    let tls = TlsKeyward::start(None, &[]).await;
    let series = async || {
        let metrics = tls.metrics().await;
        metrics.lines().filter(|line| line.starts_with(EXPIRY)).count()
    };
    assert_eq!(series().await, 1, "a leaf alone");
    let leaf = tls.authority.between((2020, 1, 1), (2027, 1, 1));
    tls.files.write("tls.key", &leaf.key);
    tls.files.write("tls.crt", &[leaf.certificate.clone(), tls.authority.pem()].concat());
    until("it has a chain", async || series().await == 2).await;
    tls.files.write("tls.crt", &leaf.certificate);
    until("it has none", async || series().await == 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn swapped_symbolic_link_is_a_change() {
    let authority = Authority::new("server authority");
    let files = Files::new();
    // As Kubernetes mounts a secret: tls.crt -> ..data/tls.crt, ..data -> a folder.
    let versions = ["one", "two"].map(|folder| {
        let pair = authority.server();
        fs::create_dir(files.folder().join(folder)).unwrap();
        files.write(&format!("{folder}/tls.crt"), &pair.certificate);
        files.write(&format!("{folder}/tls.key"), &pair.key);
        pair
    });
    symlink("one", files.folder().join("..data")).unwrap();
    for name in ["tls.crt", "tls.key"] {
        symlink(format!("..data/{name}"), files.folder().join(name)).unwrap();
    }
    let (certificate, key) = (files.path("tls.crt"), files.path("tls.key"));
    let settings = [
        ("http.tls.certificate", certificate.as_str()),
        ("http.tls.key", key.as_str()),
        ("tls.reload_interval", "20ms"),
    ];
    let kw = Backend::Sqlite.start_with(&settings).await;
    let tls = TlsKeyward { kw, authority, files };
    assert_eq!(served(&tls).await, versions[0].der);
    symlink("two", tls.files.folder().join("..data_tmp")).unwrap();
    fs::rename(tls.files.folder().join("..data_tmp"), tls.files.folder().join("..data")).unwrap();
    until("the other is served", async || served(&tls).await == versions[1].der).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn http_2_connection_survives_a_reload() {
    let tls = TlsKeyward::start(None, &[]).await;
    let mut kept = tls.client().alpn(&["h2"]).connect(tls.http()).await.unwrap();
    kept.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0").await.unwrap();
    let renewed = tls.authority.server();
    tls.files.put(&renewed);
    until("the new one is served", async || served(&tls).await == renewed.der).await;
    // A PING, and its acknowledgement after the server's SETTINGS.
    kept.write_all(b"\0\0\x08\x06\0\0\0\0\0keyward!").await.unwrap();
    let mut received = Vec::new();
    while !received.windows(8).any(|part| part == b"keyward!") {
        assert_ne!(kept.read_buf(&mut received).await.unwrap(), 0, "it is closed");
    }
}
