//! Memory budgets for request bodies.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::connect_from;
use super::served::Served;
use crate::harness::{in_time, until};

/// Together with the cost per request, this is more than a source may hold.
const REQUESTS: usize = 120;

/// A form that is not sent completely.
async fn part_of_a_form(server: &Served) -> TcpStream {
    let mut stream = connect_from("127.0.0.1", server.http).await.unwrap();
    let mut request = b"POST /oauth2/token HTTP/1.1\r\nHost: x\r\nContent-Length: 60000\r\n\
        Content-Type: application/x-www-form-urlencoded\r\n\r\n"
        .to_vec();
    request.resize(request.len() + 50_000, b'a');
    stream.write_all(&request).await.ok();
    stream
}

#[tokio::test(flavor = "multi_thread")]
async fn source_over_body_budget_is_refused_others_are_served() {
    let server = Served::start("true", &[("KEYWARD_LIMITS_REQUEST_TIMEOUT", "10m")]);
    let mut held = Vec::new();
    for _ in 0..REQUESTS {
        held.push(part_of_a_form(&server).await);
    }
    // The first answers are those to the refused requests.
    let mut answers = held.iter_mut().map(|stream| {
        Box::pin(async move {
            let mut answer = Vec::new();
            while !answer.ends_with(b"}") {
                if stream.read_buf(&mut answer).await.unwrap_or(0) == 0 {
                    break;
                }
            }
            String::from_utf8(answer).unwrap()
        })
    });
    let first = futures_util::future::select_all(answers.by_ref());
    let (answer, ..) = in_time("some are refused", first).await;
    assert!(answer.starts_with("HTTP/1.1 429 "), "{answer}");
    assert!(answer.contains("temporarily_unavailable"), "{answer}");
    assert!(answer.to_lowercase().contains("retry-after: 1"), "{answer}");

    assert_eq!(server.token_from("127.0.0.2").await.status(), 200);
    drop(held);
    until("what was held is given back", async || {
        server.token_from("127.0.0.1").await.status() == 200
    })
    .await;
}
