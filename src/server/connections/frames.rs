//! Tracks HTTP/2 frames in a byte stream (RFC 9113, section 4.1). It distinguishes control frames
//! from frames of requests, and finds the positions where a frame can be inserted.

use std::time::Duration;

use crate::clock::Stopwatch;

/// The credit of a new connection, and its maximum: the number of control frames that a client can
/// send at once. A normal client sends a handful at the start, and a PING every few seconds.
const BURST: i64 = 500;
/// The credit that returns every second.
const PER_SECOND: i64 = 20;
/// The credit for a HEADERS frame, which starts a request. Clients send `WINDOW_UPDATE` or
/// `RST_STREAM` frames for the answer.
const FOR_REQUEST: i64 = 6;
/// The number of bytes that earn one credit. Clients acknowledge what they read, with
/// `WINDOW_UPDATE` and with PING to measure the round-trip time.
const BYTES_FOR_ONE: usize = 32;

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const SETTINGS: u8 = 4;
const PING: u8 = 6;

/// The length of a frame header.
const HEADER: usize = 9;
/// The length of the connection preface, which a client sends before its first frame.
const PREFACE: usize = 24;

/// The error code for a peer that causes too much load (RFC 9113, section 7).
const ENHANCE_YOUR_CALM: u8 = 0xb;
const GOAWAY: u8 = 7;

/// Finds the frames in a stream of bytes.
#[derive(Debug, Default)]
struct Frames {
    header: [u8; HEADER],
    /// The number of bytes of the header so far.
    filled: usize,
    /// The remaining bytes of the payload or the preface.
    left: usize,
}

#[derive(Clone, Copy, Debug)]
struct Frame {
    kind: u8,
    length: usize,
    stream: u32,
}

impl Frames {
    /// Takes the next bytes. Calls `found` for each frame whose header ends in them.
    fn follow(&mut self, mut bytes: &[u8], mut found: impl FnMut(Frame)) {
        loop {
            let skip = self.left.min(bytes.len());
            self.left -= skip;
            bytes = &bytes[skip..];
            if bytes.is_empty() {
                return;
            }
            let part = (HEADER - self.filled).min(bytes.len());
            self.header[self.filled..self.filled + part].copy_from_slice(&bytes[..part]);
            self.filled += part;
            bytes = &bytes[part..];
            if self.filled == HEADER {
                let [high, middle, low, kind, _flags, stream @ ..] = self.header;
                let length = u32::from_be_bytes([0, high, middle, low]) as usize;
                let stream = u32::from_be_bytes(stream) & (u32::MAX >> 1);
                (self.filled, self.left) = (0, length);
                found(Frame { kind, length, stream });
            }
        }
    }

    fn is_between_frames(&self) -> bool {
        self.filled == 0 && self.left == 0
    }
}

/// Limits the control frames of a client with a credit, which requests and time refill.
#[derive(Debug)]
pub(super) struct FrameMeter {
    received: Frames,
    sent: Frames,
    credit: i64,
    refilled: Stopwatch,
    last_stream: u32,
}

impl FrameMeter {
    pub(super) fn new() -> Self {
        Self {
            received: Frames { left: PREFACE, ..Frames::default() },
            sent: Frames::default(),
            credit: BURST,
            refilled: Stopwatch::start(),
            last_stream: 0,
        }
    }

    /// Takes bytes that the client sent. Returns false if it sent too many control frames.
    pub(super) fn received(&mut self, bytes: &[u8]) -> bool {
        let (credit, last_stream) = (&mut self.credit, &mut self.last_stream);
        self.received.follow(bytes, |frame| {
            *credit += match frame.kind {
                HEADERS => {
                    *last_stream = frame.stream.max(*last_stream);
                    FOR_REQUEST
                }
                // Large frames earn credit. Many tiny frames are a flood too.
                DATA => i64::try_from(frame.length / BYTES_FOR_ONE).unwrap_or(0) - 1,
                // The server has to answer these.
                SETTINGS => -4,
                PING => -2,
                _ => -1,
            };
        });
        self.credit = self.credit.min(BURST);
        self.credit >= 0 || self.refill(self.refilled.elapsed())
    }

    /// Adds the credit for the elapsed time. Called only when the credit is used up, so that most
    /// reads need no clock.
    fn refill(&mut self, elapsed: Duration) -> bool {
        let earned = i64::try_from(elapsed.as_millis()).unwrap_or(i64::MAX) / (1000 / PER_SECOND);
        if earned > 0 {
            self.credit = self.credit.saturating_add(earned).min(BURST);
            self.refilled = Stopwatch::start();
        }
        self.credit >= 0
    }

    /// Takes bytes that the server sent.
    pub(super) fn sent(&mut self, bytes: &[u8]) {
        let credit = i64::try_from(bytes.len() / BYTES_FOR_ONE).unwrap_or(0);
        self.credit = (self.credit + credit).min(BURST);
        self.sent.follow(bytes, |_| ());
    }

    /// A GOAWAY frame with `ENHANCE_YOUR_CALM`, if it can be inserted at this position.
    pub(super) fn goaway(&self) -> Option<[u8; 17]> {
        if !self.sent.is_between_frames() {
            return None;
        }
        let mut frame = [0; 17];
        frame[2] = 8;
        frame[3] = GOAWAY;
        frame[9..13].copy_from_slice(&self.last_stream.to_be_bytes());
        frame[16] = ENHANCE_YOUR_CALM;
        Some(frame)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RST_STREAM: u8 = 3;
    const WINDOW_UPDATE: u8 = 8;

    fn frame(kind: u8, stream: u32, payload: usize) -> Vec<u8> {
        let length = u32::try_from(payload).unwrap().to_be_bytes();
        let mut bytes = vec![length[1], length[2], length[3], kind, 0];
        bytes.extend(stream.to_be_bytes());
        bytes.resize(HEADER + payload, 0);
        bytes
    }

    fn meter() -> FrameMeter {
        let mut meter = FrameMeter::new();
        assert!(meter.received(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"));
        meter
    }

    /// How many of these are accepted at once.
    fn passed(bytes: &[u8], max: usize) -> usize {
        let mut meter = meter();
        (0..max).take_while(|_| meter.received(bytes)).count()
    }

    #[test]
    fn control_frame_floods_are_refused_and_requests_pass() {
        for kind in [2, RST_STREAM, SETTINGS, PING, WINDOW_UPDATE, 9, 0xfa] {
            assert!(passed(&frame(kind, 1, 4), 100_000) <= 510, "{kind}");
        }
        assert!(passed(&frame(DATA, 1, 0), 100_000) <= 510);
        assert!(passed(&frame(DATA, 1, 1), 100_000) <= 510);
        assert_eq!(passed(&frame(DATA, 1, 16_384), 10_000), 10_000);
        let request = [
            frame(HEADERS, 1, 20),
            frame(DATA, 1, 5),
            frame(WINDOW_UPDATE, 0, 4),
            frame(PING, 0, 8),
        ]
        .concat();
        assert_eq!(passed(&request, 10_000), 10_000);
    }

    #[test]
    fn client_can_acknowledge_each_message_of_a_stream() {
        let mut meter = meter();
        for _ in 0..10_000 {
            meter.sent(&frame(DATA, 1, 90));
            let acknowledged = [frame(WINDOW_UPDATE, 0, 4), frame(WINDOW_UPDATE, 1, 4)].concat();
            assert!(meter.received(&acknowledged));
        }
    }

    #[test]
    fn frames_are_found_at_any_split_of_the_bytes() {
        let bytes = [frame(HEADERS, 5, 3), frame(DATA, 5, 1), frame(PING, 0, 8)].concat();
        for size in 1..bytes.len() {
            let mut frames = Frames::default();
            let mut found = Vec::new();
            for part in bytes.chunks(size) {
                frames.follow(part, |frame| found.push((frame.kind, frame.length, frame.stream)));
            }
            assert_eq!(found, [(HEADERS, 3, 5), (DATA, 1, 5), (PING, 8, 0)], "{size}");
            assert!(frames.is_between_frames());
        }
    }

    #[test]
    fn goaway_is_inserted_only_between_frames() {
        let mut meter = meter();
        meter.received(&frame(HEADERS, 7, 0));
        let bytes = frame(SETTINGS, 0, 6);
        meter.sent(&bytes[..10]);
        assert_eq!(meter.goaway(), None);
        meter.sent(&bytes[10..]);
        let goaway = meter.goaway().unwrap();
        assert_eq!(goaway, [0, 0, 8, 7, 0, 0, 0, 0, 0, 0, 0, 0, 7, 0, 0, 0, 0xb]);
    }

    #[test]
    fn credit_is_refilled_over_time() {
        let mut meter = meter();
        while meter.received(&frame(PING, 0, 8)) {}
        assert!(meter.refill(Duration::from_secs(1)));
    }
}
