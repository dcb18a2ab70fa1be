//! The client's end of a connection.

mod call;
mod settings;

use std::collections::VecDeque;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use h2::client::{Connection, SendRequest};
use h2::{Ping, PingPong, Reason};
use http::{HeaderMap, Request};

use self::call::{Call, Outcome};
pub use self::settings::ClientSettings;
use crate::closing::Closing;
use crate::event::{Event, Kind};
use crate::pipe::Pipe;
use crate::ready::{Calls, Ready};
use crate::status::Code;

/// Above this many bytes that h2 does not read, because the peer does not read either, the caller shall stop to read.
const UNREAD: usize = 64 * 1024;

/// The size of a frame's header.
const FRAME_HEAD: usize = 9;

/// The type of the frame that a server begins with.
const SETTINGS: u8 = 4;

/// The connection is over or draining, so no call can be started.
#[derive(Debug, PartialEq, Eq)]
pub struct CannotStart(pub &'static str);

/// The client's end of one connection. `_core.pyi` describes its methods.
pub struct ClientConnection {
    settings: Arc<ClientSettings>,
    pipe: Pipe,
    open: Option<Open>,
    calls: Calls<Call>,
    /// Calls that were not started.
    waiting: VecDeque<u64>,
    /// How many open calls were started.
    started: usize,
    /// Calls that have ended since the events were fetched.
    ended: Vec<u64>,
    ready: Ready,
    /// The calls of `ready` while they are pumped.
    pumping: Vec<u64>,
    last_call: u64,
    events: Vec<Event>,
    awaits_pong: bool,
    is_draining: bool,
    /// The first bytes from the server, up to the head of a frame.
    opening: Vec<u8>,
    /// The number of bytes from the server.
    received: u64,
    /// Whether h2 may have something to do.
    is_dirty: bool,
}

struct Open {
    connection: Box<Connection<Pipe, Bytes>>,
    sender: SendRequest<Bytes>,
    ping_pong: Option<PingPong>,
}

impl ClientConnection {
    /// Makes it, with the preface to send.
    #[must_use]
    pub fn new(settings: Arc<ClientSettings>) -> Self {
        let pipe = Pipe::new(settings.output_bytes);
        let mut this = Self {
            open: None,
            calls: Calls::default(),
            waiting: VecDeque::new(),
            started: 0,
            ended: Vec::new(),
            ready: Ready::default(),
            pumping: Vec::new(),
            last_call: 0,
            events: Vec::new(),
            awaits_pong: false,
            is_draining: false,
            opening: Vec::new(),
            received: 0,
            is_dirty: true,
            settings,
            pipe,
        };
        let builder = this.settings.builder();
        let handshake = pin!(builder.handshake(this.pipe.clone()));
        match handshake.poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(Ok((sender, mut connection))) => {
                let ping_pong = connection.ping_pong();
                this.open = Some(Open { connection: Box::new(connection), sender, ping_pong });
            }
            // It only writes the preface, for which there is room.
            Poll::Ready(Err(_)) | Poll::Pending => this.events.push(Closing::panic().event()),
        }
        this
    }

    /// Takes bytes from the server; none mean that it closed its side.
    pub fn receive(&mut self, data: &[u8]) {
        self.forget();
        if self.is_closed() {
            return;
        }
        if data.is_empty() {
            self.pipe.end();
        } else {
            let missing = FRAME_HEAD - self.opening.len();
            self.opening.extend_from_slice(&data[..data.len().min(missing)]);
            self.received += data.len() as u64;
            self.pipe.push(data);
        }
        self.protected(Self::drive);
    }

    /// Moves the events out.
    pub fn take_events(&mut self) -> Vec<Event> {
        std::mem::take(&mut self.events)
    }

    /// Forgets the metadata of the calls that have ended.
    pub fn forget(&mut self) {
        for call in self.ended.drain(..) {
            self.calls.remove(&call);
        }
    }

    /// Calls `f` with the bytes for the server, and forgets them.
    pub fn take_output<R>(&mut self, f: impl FnOnce(&[u8]) -> R) -> R {
        if self.is_dirty {
            self.protected(Self::drive);
        }
        let (result, was_blocked) = self.pipe.take(f);
        self.is_dirty = was_blocked && !self.is_closed();
        result
    }

    /// Whether h2 may have more to send.
    #[must_use]
    pub fn has_more(&self) -> bool {
        self.is_dirty
    }

    /// Whether the caller shall read from the socket.
    #[must_use]
    pub fn is_reading(&self) -> bool {
        self.pipe.incoming() < UNREAD
    }

    /// Makes the head of a call.
    ///
    /// # Errors
    ///
    /// The path is not allowed; the text says so.
    pub fn request(&self, path: &str, metadata: HeaderMap, timeout_ms: u64) -> Result<Request<()>, String> {
        self.settings.request(path, metadata, timeout_ms)
    }

    /// Starts a unary call.
    ///
    /// # Errors
    ///
    /// No call can be started.
    pub fn unary(&mut self, request: Request<()>, framed: Bytes) -> Result<u64, CannotStart> {
        let mut call = self.new_call(true, request)?;
        call.send(framed);
        call.half_close();
        Ok(self.add(call))
    }

    /// Starts a call whose requests or responses are a stream.
    ///
    /// # Errors
    ///
    /// No call can be started.
    pub fn stream(&mut self, request: Request<()>) -> Result<u64, CannotStart> {
        let call = self.new_call(false, request)?;
        Ok(self.add(call))
    }

    fn new_call(&self, is_unary: bool, request: Request<()>) -> Result<Call, CannotStart> {
        if self.is_closed() {
            return Err(CannotStart("the connection is closed"));
        }
        if self.is_draining {
            return Err(CannotStart("the server accepts no new calls on this connection"));
        }
        let limit = self.settings.message.clone();
        Ok(Call::new(self.last_call + 1, is_unary, request, limit, self.settings.window_bytes))
    }

    fn add(&mut self, call: Call) -> u64 {
        self.last_call += 1;
        self.calls.insert(self.last_call, call);
        self.waiting.push_back(self.last_call);
        self.is_dirty = true;
        self.last_call
    }

    /// Queues a message of a stream.
    pub fn send(&mut self, call: u64, framed: Bytes) {
        self.with_call(call, |call| call.send(framed));
    }

    /// Ends the requests of a stream.
    pub fn half_close(&mut self, call: u64) {
        self.with_call(call, Call::half_close);
    }

    /// Acknowledges bytes of delivered messages.
    pub fn consumed(&mut self, call: u64, size: u64) {
        self.with_call(call, |call| call.consumed(size));
    }

    /// Ends a call with `RST_STREAM`.
    pub fn cancel(&mut self, call: u64) {
        self.protected(|this| {
            if this.calls.get(&call).is_some_and(|call| !call.is_over())
                && let Some(call) = this.calls.remove(&call)
            {
                this.started -= usize::from(!call.is_waiting());
                call.cancel();
                this.is_dirty = true;
            }
        });
    }

    /// Does something with a call that is not over, and has it pumped.
    fn with_call(&mut self, number: u64, action: impl FnOnce(&mut Call)) {
        if let Some(call) = self.calls.get_mut(&number).filter(|call| !call.is_over()) {
            action(call);
            self.ready.push(number);
            self.is_dirty = true;
        }
    }

    /// The headers of a response.
    #[must_use]
    pub fn headers(&self, call: u64) -> Option<&HeaderMap> {
        Some(&self.calls.get(&call)?.headers)
    }

    /// The trailers of a response.
    #[must_use]
    pub fn trailers(&self, call: u64) -> Option<&HeaderMap> {
        Some(&self.calls.get(&call)?.trailers)
    }

    /// Sends a ping, unless one is under way.
    pub fn ping(&mut self) -> bool {
        let ping_pong = self.open.as_mut().and_then(|open| open.ping_pong.as_mut());
        let Some(ping_pong) = ping_pong.filter(|_| !self.awaits_pong) else { return false };
        self.awaits_pong = ping_pong.send_ping(Ping::opaque()).is_ok();
        self.is_dirty |= self.awaits_pong;
        self.awaits_pong
    }

    /// Ends the connection now.
    pub fn close(&mut self) {
        self.protected(|this| this.end(&Closing::new(Reason::NO_ERROR, "closed by this side")));
    }

    /// Whether the connection is over.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.open.is_none()
    }

    /// Whether the server has sent GOAWAY.
    #[must_use]
    pub fn is_draining(&self) -> bool {
        self.is_draining
    }

    /// Whether the server's SETTINGS have arrived.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        let &[a, b, c, kind, ..] = self.opening.as_slice() else { return false };
        let size = FRAME_HEAD as u64 + u64::from(u32::from_be_bytes([0, a, b, c]));
        kind == SETTINGS && self.received >= size
    }

    /// The number of open calls.
    #[must_use]
    pub fn open_calls(&self) -> usize {
        self.calls.len() - self.ended.len()
    }

    /// The most open calls that the server allows.
    #[must_use]
    pub fn concurrent_calls(&self) -> usize {
        self.open.as_ref().map_or(0, |open| open.sender.current_max_send_streams())
    }

    /// Bytes received that were not delivered.
    pub fn held_bytes(&mut self) -> usize {
        self.pipe.incoming() + self.calls.values_mut().map(Call::held).sum::<usize>()
    }

    /// Bytes that wait for the server.
    #[must_use]
    pub fn unsent_bytes(&self) -> usize {
        self.pipe.outgoing() + self.calls.values().map(Call::unsent).sum::<usize>()
    }

    /// Bytes of messages in a call's queue.
    #[must_use]
    pub fn call_unsent_bytes(&self, call: u64) -> usize {
        self.calls.get(&call).map_or(0, Call::unsent)
    }

    /// Has h2 read, write and wake until nothing is left to do.
    fn drive(&mut self) {
        self.is_dirty = false;
        let mut context = Context::from_waker(Waker::noop());
        loop {
            let Some(open) = &mut self.open else { return };
            if let Poll::Ready(result) = Pin::new(open.connection.as_mut()).poll(&mut context) {
                self.pump_ready();
                let closing = if self.opening.starts_with(b"HTTP/") {
                    Closing::new(Reason::HTTP_1_1_REQUIRED, "the server speaks HTTP/1")
                } else {
                    Closing::of(result, self.pipe.ended())
                };
                return self.end(&closing);
            }
            self.notice_goaway(&mut context);
            let has_started = self.start(&mut context);
            if !self.pump_ready() && !has_started {
                break;
            }
        }
        self.read_pong(&mut context);
    }

    /// Starts calls that wait, as many as the server allows. Returns whether there were any.
    fn start(&mut self, context: &mut Context<'_>) -> bool {
        // Servers of gRPC reset calls over their limit, so the limit must be known before.
        if !self.is_ready() {
            return false;
        }
        let Some(open) = &mut self.open else { return false };
        let most = open.sender.current_max_send_streams();
        let mut has_started = false;
        while let Some(&number) = self.waiting.front() {
            let Some(call) = self.calls.get_mut(&number) else {
                // It was cancelled.
                self.waiting.pop_front();
                continue;
            };
            if self.started >= most || !matches!(open.sender.poll_ready(context), Poll::Ready(Ok(()))) {
                break;
            }
            self.waiting.pop_front();
            call.start(&mut open.sender, &mut self.events);
            if call.is_over() {
                self.ended.push(number);
            } else {
                self.started += 1;
                self.ready.push(number);
            }
            has_started = true;
        }
        has_started
    }

    /// Moves what can move for the calls that h2 woke. Returns whether there were any.
    fn pump_ready(&mut self) -> bool {
        let mut pumping = std::mem::take(&mut self.pumping);
        self.ready.take(&mut pumping);
        let had_any = !pumping.is_empty();
        for number in pumping.drain(..) {
            if let Some(call) = self.calls.get_mut(&number).filter(|call| call.is_started()) {
                call.pump(&self.ready.waker(number), &mut self.events);
                if call.is_over() {
                    self.started -= 1;
                    self.ended.push(number);
                }
            }
        }
        self.pumping = pumping;
        had_any
    }

    fn notice_goaway(&mut self, context: &mut Context<'_>) {
        let Some(open) = self.open.as_mut().filter(|_| !self.is_draining) else { return };
        let Poll::Ready(Err(error)) = open.sender.poll_ready(context) else { return };
        self.is_draining = true;
        let reason = error.reason().unwrap_or(Reason::NO_ERROR);
        self.events.push(Event::of(Kind::GoAway, 0, 0).number(u32::from(reason).into()).data(error.to_string()));
        for number in std::mem::take(&mut self.waiting) {
            if let Some(call) = self.calls.get_mut(&number) {
                call.end(Outcome::unprocessed("the server accepts no new calls on this connection"), &mut self.events);
                self.ended.push(number);
            }
        }
    }

    fn read_pong(&mut self, context: &mut Context<'_>) {
        let ping_pong = self.open.as_mut().and_then(|open| open.ping_pong.as_mut());
        let Some(ping_pong) = ping_pong.filter(|_| self.awaits_pong) else { return };
        if let Poll::Ready(Ok(_)) = ping_pong.poll_pong(context) {
            self.awaits_pong = false;
            self.events.push(Event::of(Kind::Pong, 0, 0));
        }
    }

    /// Ends the connection and every call of it.
    fn end(&mut self, closing: &Closing) {
        let Some(Open { mut connection, sender, ping_pong }) = self.open.take() else { return };
        let mut numbers: Vec<_> =
            self.calls.iter().filter(|(_, call)| !call.is_over()).map(|(number, _)| *number).collect();
        numbers.sort_unstable();
        for number in numbers {
            if let Some(call) = self.calls.get_mut(&number) {
                let text = format!("the connection ended: {}", closing.text);
                let outcome =
                    if call.is_waiting() { Outcome::unprocessed(text) } else { Outcome::new(Code::Unavailable, text) };
                call.end(outcome, &mut self.events);
                self.ended.push(number);
            }
        }
        self.waiting.clear();
        drop((sender, ping_pong));
        // Without calls and a sender, h2 says GOAWAY. If the connection is over already, it has nothing to do.
        if closing.reason == Reason::NO_ERROR && !self.pipe.ended() {
            let _ = Pin::new(connection.as_mut()).poll(&mut Context::from_waker(Waker::noop()));
        }
        self.events.push(closing.clone().event());
    }

    /// Runs `action`. If h2 panics, the connection ends instead of the process: its state is then not to be trusted.
    fn protected(&mut self, action: impl FnOnce(&mut Self)) {
        if catch_unwind(AssertUnwindSafe(|| action(self))).is_err() {
            // Dropped streams would panic again, because the lock that they share is poisoned.
            std::mem::forget(self.open.take());
            let mut calls: Vec<_> = self.calls.drain().collect();
            calls.sort_unstable_by_key(|(number, _)| *number);
            for (number, call) in calls {
                if !call.is_over() {
                    let event = Event::of(Kind::Status, number, 0).number(Code::Internal as u64);
                    self.events.push(event.data(Closing::panic().text));
                }
                std::mem::forget(call);
            }
            self.ended.clear();
            self.waiting.clear();
            self.is_dirty = false;
            self.events.push(Closing::panic().event());
        }
    }
}
