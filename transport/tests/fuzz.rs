//! Throws random bytes, and frames that are nearly right, at `receive`.
//!
//! `FUZZ_SECONDS` says how long (2 by default), `FUZZ_SEED` where to begin. A failure names the seed of its round:
//! `FUZZ_SEED=that FUZZ_SECONDS=0 cargo test --test fuzz` repeats it.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use grpc_sansio::client::{ClientConnection, ClientSettings};
use grpc_sansio::event::{Event, Kind};
use grpc_sansio::http1::PREFACE;
use grpc_sansio::messages::{MessageLimit, frame};
use grpc_sansio::server::{Route, RouteKind, ServerConnection, ServerSettings};
use grpc_sansio::status::trailers;
use http::HeaderMap;
use http::uri::Scheme;

/// xorshift64*: a failure must be repeatable, and nothing else matters.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D)
    }

    fn below(&mut self, most: usize) -> usize {
        usize::try_from(self.next() % most as u64).unwrap()
    }

    fn one_in(&mut self, chances: usize) -> bool {
        self.below(chances) == 0
    }

    fn bytes(&mut self, most: usize) -> Vec<u8> {
        (0..self.below(most)).map(|_| self.next().to_le_bytes()[0]).collect()
    }
}

const PATHS: [&str; 4] = ["/a/Unary", "/a/Guarded", "/a/Stream", "/a/None"];

fn server() -> ServerConnection {
    let kinds = [RouteKind::Unary, RouteKind::GuardedUnary, RouteKind::Stream];
    let routes: HashMap<_, _> =
        PATHS.iter().zip(kinds).zip(0..).map(|((path, kind), index)| ((*path).into(), Route { index, kind })).collect();
    ServerConnection::new(Arc::new(ServerSettings {
        routes,
        message: MessageLimit { bytes: 1_000, refusal: "too large".into() },
        unknown_method: "unknown".into(),
        header_bytes: 1_000,
        header_refusal: "metadata".into(),
        http1_refusal: "http1".into(),
        concurrent_calls: 10,
        window_bytes: 2_000,
        connection_window_bytes: 70_000,
        output_bytes: 5_000,
        pending_resets: 20,
        remembered_resets: 10,
        local_errors: 50,
    }))
}

fn client() -> ClientConnection {
    ClientConnection::new(Arc::new(ClientSettings {
        authority: "a".parse().unwrap(),
        scheme: Scheme::HTTP,
        user_agent: "fuzz".parse().unwrap(),
        message: MessageLimit { bytes: 1_000, refusal: "too large".into() },
        header_bytes: 1_000,
        window_bytes: 2_000,
        connection_window_bytes: 70_000,
        output_bytes: 5_000,
    }))
}

fn http2_frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let mut frame = u32::try_from(payload.len()).unwrap().to_be_bytes()[1..].to_vec();
    frame.extend([kind, flags]);
    frame.extend(stream.to_be_bytes());
    frame.extend(payload);
    frame
}

/// A header as HPACK's literal without indexing.
fn literal(block: &mut Vec<u8>, name: &str, value: &str) {
    block.push(0);
    for text in [name, value] {
        block.push(u8::try_from(text.len()).unwrap());
        block.extend(text.as_bytes());
    }
}

fn request_headers(random: &mut Random) -> Vec<u8> {
    let mut block = Vec::new();
    let method = if random.one_in(20) { "GET" } else { "POST" };
    for (name, value) in [(":method", method), (":scheme", "http"), (":path", PATHS[random.below(PATHS.len())])] {
        literal(&mut block, name, value);
    }
    let pairs = [
        ("content-type", "application/grpc"),
        ("te", "trailers"),
        ("grpc-timeout", "5S"),
        ("grpc-timeout", "x"),
        ("grpc-encoding", "gzip"),
        ("grpc-encoding", "deflate"),
        ("grpc-encoding", "br"),
        ("a-bin", "AAAA"),
        ("a-bin", "!"),
    ];
    literal(&mut block, "content-type", "application/grpc");
    for _ in 0..random.below(4) {
        let (name, value) = pairs[random.below(pairs.len())];
        literal(&mut block, name, value);
    }
    block
}

fn response_headers(random: &mut Random) -> Vec<u8> {
    let mut block = Vec::new();
    if !random.one_in(4) {
        literal(&mut block, ":status", ["200", "200", "200", "404", "100", "x"][random.below(6)]);
    }
    let pairs = [
        ("content-type", "application/grpc"),
        ("content-type", "text/html"),
        ("grpc-status", "0"),
        ("grpc-status", "99"),
        ("grpc-message", "%f"),
        ("grpc-encoding", "gzip"),
    ];
    for _ in 0..random.below(4) {
        let (name, value) = pairs[random.below(pairs.len())];
        literal(&mut block, name, value);
    }
    block
}

fn message(random: &mut Random) -> Vec<u8> {
    let mut bytes = frame(&random.bytes(1_200)).unwrap().to_vec();
    if random.one_in(8) {
        bytes[0] = random.next().to_le_bytes()[0] % 3;
    }
    if random.one_in(8) {
        bytes[random.below(5)] ^= 1;
    }
    let cut = random.below(bytes.len() + 1);
    if random.one_in(4) { bytes[..cut].to_vec() } else { bytes }
}

/// What a peer might say, most of it sensible.
fn input(random: &mut Random, headers: fn(&mut Random) -> Vec<u8>) -> Vec<u8> {
    if random.one_in(100) {
        return random.bytes(300);
    }
    let stream = u32::try_from(random.below(40)).unwrap() | u32::from(!random.one_in(20));
    let end = u8::from(random.one_in(3));
    match random.below(12) {
        0..4 => http2_frame(1, 4 | end, stream, &headers(random)),
        4..8 => http2_frame(0, end, stream, &message(random)),
        8 => http2_frame(3, 0, stream, &[0, 0, 0, random.next().to_le_bytes()[0] % 14]),
        9 => http2_frame(8, 0, if random.one_in(2) { 0 } else { stream }, &[0, 0, 4, random.next().to_le_bytes()[0]]),
        10 => match random.below(4) {
            0 => http2_frame(6, end, 0, &[7; 8]),
            1 => http2_frame(4, 1, 0, &[]),
            2 => http2_frame(4, 0, 0, &[0, 4, 0, 0, 0, random.next().to_le_bytes()[0]]),
            _ => http2_frame(7, 0, 0, &[0, 0, 0, stream.to_le_bytes()[0], 0, 0, 0, end]),
        },
        _ => {
            let kind = random.next().to_le_bytes()[0] % 12;
            http2_frame(kind, random.next().to_le_bytes()[0], stream, &random.bytes(40))
        }
    }
}

/// What must be true of the events of any connection.
#[derive(Default)]
struct Seen {
    over: HashSet<u64>,
    is_closed: bool,
}

impl Seen {
    fn check(&mut self, events: &[Event], ends: &[Kind]) {
        for event in events {
            assert!(!self.is_closed, "{event:?} after CLOSED");
            self.is_closed |= event.kind == Kind::Closed;
            assert!(!self.over.contains(&event.call), "{event:?} of a call that is over");
            if ends.contains(&event.kind) {
                self.over.insert(event.call);
            }
            let text = String::from_utf8_lossy(&event.data);
            assert!(!text.starts_with("internal error"), "{event:?}: h2 or the core panicked");
        }
    }
}

fn serve(connection: &mut ServerConnection, seen: &mut Seen, random: &mut Random) {
    loop {
        let events = connection.take_events();
        if events.is_empty() {
            break;
        }
        seen.check(&events, &[Kind::Reset, Kind::Refused]);
        for event in events {
            let call = event.call;
            match (event.kind, random.below(5)) {
                (Kind::Call, 0) => connection.finish(call, trailers(7, "no", b"")),
                (Kind::Call, _) => connection.admit(call),
                (Kind::Unary, 0) | (Kind::Message, 1) => continue,
                (Kind::Unary, 1) => connection.reset(call, h2::Reason::CANCEL),
                (Kind::Unary, 2) => connection.reply(call, frame(&vec![1; 30_000]).unwrap()),
                (Kind::Unary, _) => connection.reply(call, frame(&event.data).unwrap()),
                (Kind::Message, 0) => connection.finish(call, trailers(3, "enough", b"x")),
                (Kind::Message, _) => {
                    connection.send(call, frame(&event.data).unwrap());
                    connection.consumed(call, event.data.len() as u64);
                    continue;
                }
                (Kind::HalfClosed, _) => connection.finish(call, HeaderMap::new()),
                _ => continue,
            }
            if matches!(event.kind, Kind::Unary | Kind::HalfClosed) {
                seen.over.insert(call);
            }
        }
    }
}

fn attack_server(random: &mut Random) {
    let (mut connection, mut seen) = (server(), Seen::default());
    let mut bytes = if random.one_in(30) { random.bytes(30) } else { PREFACE.to_vec() };
    if !random.one_in(30) {
        bytes.extend(http2_frame(4, 0, 0, &[]));
    }
    for _ in 0..random.below(60) {
        bytes.extend(input(random, request_headers));
        if random.one_in(3) {
            let cut = random.below(bytes.len() + 1);
            connection.receive(&bytes[..cut.max(1)]);
            bytes.drain(..cut.max(1));
            if bytes.is_empty() {
                bytes.extend(http2_frame(6, 0, 0, &[0; 8]));
            }
        }
        serve(&mut connection, &mut seen, random);
        if random.one_in(2) {
            assert!(connection.take_output(<[u8]>::len) <= 5_000 + 17_000);
        }
        match random.below(200) {
            0 => connection.drain(),
            1 => connection.close(h2::Reason::NO_ERROR),
            2 => drop(connection.ping()),
            _ => {}
        }
        assert!(connection.held_bytes() < 400_000);
    }
    connection.receive(b"");
    serve(&mut connection, &mut seen, random);
    assert!(connection.is_closed() && seen.is_closed);
    assert_eq!(connection.open_calls(), 0);
}

fn attack_client(random: &mut Random) {
    let (mut connection, mut seen) = (client(), Seen::default());
    let mut started = 0;
    if !random.one_in(30) {
        connection.receive(&http2_frame(4, 0, 0, &[]));
    }
    for _ in 0..random.below(60) {
        if let Ok(request) = connection.request("/a/Unary", HeaderMap::new(), 5) {
            let is_started = match random.below(6) {
                0 => connection.unary(request, frame(b"hello").unwrap()).is_ok(),
                1 => connection.stream(request).is_ok(),
                _ => false,
            };
            started += u64::from(is_started);
        }
        if started > 0 {
            let call = 1 + random.next() % started;
            match random.below(12) {
                0 => connection.send(call, frame(&random.bytes(3_000)).unwrap()),
                1 => connection.half_close(call),
                2 => connection.consumed(call, 1_000),
                3 => {
                    connection.cancel(call);
                    seen.check(&connection.take_events(), &[Kind::Unary, Kind::Status]);
                    seen.over.insert(call);
                }
                _ => {}
            }
        }
        connection.receive(&input(random, response_headers));
        seen.check(&connection.take_events(), &[Kind::Unary, Kind::Status]);
        if random.one_in(2) {
            assert!(connection.take_output(<[u8]>::len) <= 5_000 + 17_000);
            seen.check(&connection.take_events(), &[Kind::Unary, Kind::Status]);
        }
        assert!(connection.held_bytes() < 400_000);
    }
    connection.receive(b"");
    seen.check(&connection.take_events(), &[Kind::Unary, Kind::Status]);
    assert!(connection.is_closed() && seen.is_closed);
    assert_eq!(connection.open_calls(), 0);
    assert_eq!(seen.over.len() as u64, started);
}

fn variable(name: &str, otherwise: u64) -> u64 {
    std::env::var(name).ok().and_then(|value| value.parse().ok()).unwrap_or(otherwise)
}

fn rounds(attack: fn(&mut Random)) {
    let first = variable("FUZZ_SEED", 1);
    let end = Instant::now() + Duration::from_secs(variable("FUZZ_SECONDS", 2));
    for seed in first.. {
        let outcome = std::panic::catch_unwind(|| attack(&mut Random(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)));
        assert!(outcome.is_ok(), "FUZZ_SEED={seed} fails");
        if Instant::now() >= end {
            println!("{} rounds", seed - first + 1);
            break;
        }
    }
}

#[test]
fn a_server_survives_what_any_client_says() {
    rounds(attack_server);
}

#[test]
fn a_client_survives_what_any_server_says() {
    rounds(attack_client);
}
