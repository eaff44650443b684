//! Scans the headers of HTTP/1.1 requests, and answers malformed requests. Hyper answers these
//! itself, without a body, and has no hook to change that. OAuth clients read the error from a JSON
//! body on every status, so hyper's answer is replaced before it is sent.

/// The two headers that determine the length of a body (RFC 9112, section 6).
const LENGTH: &[u8] = b"content-length:";
const CODING: &[u8] = b"transfer-encoding:";
const MAX_NAME: usize = CODING.len();

/// Scans the header of one request, line by line.
#[derive(Debug, Default)]
pub(super) struct HeadScanner {
    /// The beginning of the current line.
    begin: [u8; MAX_NAME],
    /// The length of the current line so far.
    length: usize,
    has_length: bool,
    has_coding: bool,
    position: Position,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Position {
    /// Before the first line. Empty lines here are skipped, as in hyper.
    #[default]
    Before,
    Inside,
    After,
}

impl HeadScanner {
    /// Takes the next bytes. Returns false if the header has both a `Content-Length` and a
    /// `Transfer-Encoding`: a proxy may have used the other one and seen a different end of the
    /// request (request smuggling; RFC 9112, section 6.1).
    pub(super) fn follow(&mut self, mut bytes: &[u8]) -> bool {
        while self.position != Position::After && !bytes.is_empty() {
            let end = bytes.iter().position(|byte| *byte == b'\n');
            let (line, rest) = bytes.split_at(end.unwrap_or(bytes.len()));
            let begin = self.begin.get_mut(self.length..).unwrap_or_default();
            for (kept, byte) in begin.iter_mut().zip(line) {
                *kept = *byte;
            }
            self.length += line.len();
            bytes = rest.get(1..).unwrap_or_default();
            if end.is_some() {
                self.end_line();
            }
        }
        !(self.has_length && self.has_coding)
    }

    fn end_line(&mut self) {
        let begin = &self.begin[..self.length.min(MAX_NAME)];
        let is =
            |name: &[u8]| begin.get(..name.len()).is_some_and(|it| it.eq_ignore_ascii_case(name));
        self.has_length |= is(LENGTH);
        self.has_coding |= is(CODING);
        self.position = match (matches!(begin, b"" | b"\r"), self.position) {
            (false, _) => Position::Inside,
            (true, Position::Before) => Position::Before,
            (true, _) => Position::After,
        };
        self.length = 0;
    }
}

/// The replacement for an answer of hyper's own, if these bytes start one.
pub(super) fn replacement(bytes: &[u8]) -> Option<Vec<u8>> {
    let code = bytes.strip_prefix(b"HTTP/1.1 4")?.first_chunk::<2>()?;
    Some(match code {
        b"31" => answer("431 Request Header FieldErrors Too Large", "the header is too large"),
        b"14" => answer("414 URI Too Long", "the URI is too long"),
        _ => answer("400 Bad Request", "this is not a well-formed HTTP request"),
    })
}

/// The answer to a header with both a `Content-Length` and a `Transfer-Encoding`.
pub(super) fn ambiguous() -> Vec<u8> {
    answer("400 Bad Request", "a request has a Content-Length or a Transfer-Encoding, not both")
}

/// The answer to a request without TLS on a listener that uses TLS.
pub(super) fn needs_tls() -> Vec<u8> {
    answer("400 Bad Request", "this port uses TLS: use https://")
}

fn answer(status: &str, says: &str) -> Vec<u8> {
    let body = format!("{{\"error\":\"invalid_request\",\"error_description\":\"{says}\"}}");
    let length = body.len();
    let head = format!(
        "HTTP/1.1 {status}\r\ncontent-type: application/json\r\ncache-control: no-store\r\n\
         x-content-type-options: nosniff\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n"
    );
    [head, body].concat().into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn passes(head: &str) -> bool {
        let results: Vec<_> = (1..=head.len())
            .map(|size| {
                let mut followed = HeadScanner::default();
                head.as_bytes().chunks(size).all(|part| followed.follow(part))
            })
            .collect();
        assert!(results.iter().all(|passed| *passed == results[0]), "{head}: {results:?}");
        results[0]
    }

    #[test]
    fn header_with_two_lengths_is_refused_at_any_split() {
        for passing in [
            "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nTransfer-Encoding: chunked\r\n",
            "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\nX-Content-Length: 3\r\n\r\n",
            "POST / HTTP/1.1\nContent-Length: 3\n\nTransfer-Encoding: chunked\n",
            "GET /content-length: HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n",
        ] {
            assert!(passes(passing), "{passing}");
        }
        for refused in [
            "POST / HTTP/1.1\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n",
            "POST / HTTP/1.1\r\nTRANSFER-ENCODING: chunked\r\nHost: x\r\ncontent-length:3\r\n\r\n",
            "POST / HTTP/1.1\nContent-Length: 3\nTransfer-Encoding: chunked\n\n",
            "\r\n\r\nPOST / HTTP/1.1\r\nTransfer-Encoding: x\r\nContent-Length: 3\r\n\r\n",
        ] {
            assert!(!passes(refused), "{refused}");
        }
    }

    #[test]
    fn only_hyper_error_answers_are_replaced() {
        let replaced =
            replacement(b"HTTP/1.1 431 Request Header FieldErrors Too Large\r\n").unwrap();
        assert!(replaced.starts_with(b"HTTP/1.1 431 "));
        assert!(replacement(b"HTTP/1.1 200 OK\r\n").is_none());
        assert!(replacement(b"{\"keys\":[]}").is_none());
    }
}
