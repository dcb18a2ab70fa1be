//! The server's end of a connection.

mod call;
mod settings;

use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use h2::server::SendResponse;
use h2::{Ping, PingPong, Reason, RecvStream};
use http::{HeaderMap, Request};

use self::call::{Call, Fate};
pub use self::settings::{Route, RouteKind, ServerSettings};
use crate::closing::Closing;
use crate::event::{Event, Kind};
use crate::http1::{self, Opening};
use crate::messages::{self, Messages};
use crate::pipe::Pipe;
use crate::ready::{Calls, Ready};
use crate::status::trailers;

/// A response up to this size is handed to h2 at once. A larger one waits here for the peer's window.
const DIRECT_REPLY: usize = 16 * 1024;

/// Above this many bytes that h2 does not read, because the peer does not read either, the caller shall stop to read.
const UNREAD: usize = 64 * 1024;

/// The server's end of one connection. `_core.pyi` describes its methods.
pub struct ServerConnection {
    settings: Arc<ServerSettings>,
    pipe: Pipe,
    state: State,
    calls: Calls<Call>,
    ready: Ready,
    /// The calls of `ready` while they are pumped.
    pumping: Vec<u64>,
    /// Calls whose CALL event is due if their request does not arrive at once.
    incomplete: Vec<u64>,
    /// Delivered unary calls. Most are answered before their resets would have to be watched.
    unwatched: Vec<u64>,
    last_call: u64,
    events: Vec<Event>,
    ping_pong: Option<PingPong>,
    awaits_pong: bool,
    is_draining: bool,
    /// The first bytes from the peer, up to the size of HTTP/2's preface.
    opening: Vec<u8>,
    /// Whether h2 may have something to do.
    is_dirty: bool,
}

enum State {
    Opening(Box<h2::server::Handshake<Pipe, Bytes>>),
    Open(Box<h2::server::Connection<Pipe, Bytes>>),
    Closed,
}

impl ServerConnection {
    /// Makes it for a connection on which nothing has been received.
    #[must_use]
    pub fn new(settings: Arc<ServerSettings>) -> Self {
        let pipe = Pipe::new(settings.output_bytes);
        let handshake = settings.builder().handshake(pipe.clone());
        Self {
            settings,
            pipe,
            state: State::Opening(Box::new(handshake)),
            calls: Calls::default(),
            ready: Ready::default(),
            pumping: Vec::new(),
            incomplete: Vec::new(),
            unwatched: Vec::new(),
            last_call: 0,
            events: Vec::new(),
            ping_pong: None,
            awaits_pong: false,
            is_draining: false,
            opening: Vec::new(),
            is_dirty: false,
        }
    }

    /// Takes bytes from the peer; none mean that it closed its side.
    pub fn receive(&mut self, data: &[u8]) {
        if self.is_closed() {
            return;
        }
        if data.is_empty() {
            self.pipe.end();
        } else {
            let missing = http1::PREFACE.len() - self.opening.len();
            self.opening.extend_from_slice(&data[..data.len().min(missing)]);
            self.pipe.push(data);
        }
        self.protected(Self::drive);
    }

    /// Moves the events out.
    pub fn take_events(&mut self) -> Vec<Event> {
        std::mem::take(&mut self.events)
    }

    /// Calls `f` with the bytes for the peer, and forgets them.
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

    /// The headers of a call.
    #[must_use]
    pub fn headers(&self, call: u64) -> Option<&HeaderMap> {
        Some(&self.open_call(call)?.headers)
    }

    /// The authority that the client called.
    #[must_use]
    pub fn authority(&self, call: u64) -> Option<&str> {
        Some(self.open_call(call)?.authority.as_ref().map_or("", |authority| authority.as_str()))
    }

    fn open_call(&self, call: u64) -> Option<&Call> {
        self.calls.get(&call).filter(|call| !call.is_over())
    }

    /// Admits a call.
    pub fn admit(&mut self, call: u64) {
        self.with_call(call, |call| {
            call.admit();
            Fate::Open
        });
    }

    /// Answers a unary call.
    pub fn reply(&mut self, call: u64, framed: Bytes) {
        if framed.len() > DIRECT_REPLY {
            self.with_call(call, |call| {
                call.send(framed);
                call.finish(trailers(0, "", b""))
            });
            return;
        }
        self.protected(|this| {
            if this.open_call(call).is_some()
                && let Some(call) = this.calls.remove(&call)
            {
                call.reply(framed);
                this.is_dirty = true;
            }
        });
    }

    /// Queues a message of a stream.
    pub fn send(&mut self, call: u64, framed: Bytes) {
        self.with_call(call, |call| call.send(framed));
    }

    /// Ends a call with trailers.
    pub fn finish(&mut self, call: u64, trailers: HeaderMap) {
        self.with_call(call, |call| call.finish(trailers));
    }

    /// Ends a call with `RST_STREAM`, even if its status waits for the peer's window.
    pub fn reset(&mut self, call: u64, reason: Reason) {
        self.protected(|this| {
            if let Some(call) = this.calls.remove(&call) {
                call.reset(reason);
                this.is_dirty = true;
            }
        });
    }

    /// Acknowledges bytes of delivered messages.
    pub fn consumed(&mut self, call: u64, size: u64) {
        self.with_call(call, |call| {
            call.consumed(size);
            Fate::Open
        });
    }

    /// Does something with a call that is not over, and has it pumped.
    fn with_call(&mut self, number: u64, action: impl FnOnce(&mut Call) -> Fate) {
        self.protected(|this| {
            let Some(call) = this.calls.get_mut(&number).filter(|call| !call.is_over()) else { return };
            match action(call) {
                Fate::Open => this.ready.push(number),
                Fate::Ended => {
                    this.calls.remove(&number);
                }
            }
            this.is_dirty = true;
        });
    }

    /// Sends a ping, unless one is under way or the peer has not said anything.
    pub fn ping(&mut self) -> bool {
        let Some(ping_pong) = self.ping_pong.as_mut().filter(|_| !self.awaits_pong) else { return false };
        self.awaits_pong = ping_pong.send_ping(Ping::opaque()).is_ok();
        self.is_dirty |= self.awaits_pong;
        self.awaits_pong
    }

    /// Sends GOAWAY, and closes once the open calls have ended.
    pub fn drain(&mut self) {
        if self.is_draining || self.is_closed() {
            return;
        }
        self.is_draining = true;
        self.protected(|this| match &mut this.state {
            State::Open(connection) => {
                connection.graceful_shutdown();
                this.is_dirty = true;
            }
            // The peer has not said anything, so there is nothing to wait for.
            State::Opening(_) => this.end(Closing::new(Reason::NO_ERROR, "drained")),
            State::Closed => {}
        });
    }

    /// Ends the connection now.
    pub fn close(&mut self, reason: Reason) {
        self.protected(|this| {
            if let State::Open(connection) = &mut this.state {
                connection.abrupt_shutdown(reason);
                let _ = connection.poll_closed(&mut Context::from_waker(Waker::noop()));
            }
            this.end(Closing::new(reason, "closed by this side"));
        });
    }

    /// Whether the connection is over.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        matches!(self.state, State::Closed)
    }

    /// Whether `drain` was called.
    #[must_use]
    pub fn is_draining(&self) -> bool {
        self.is_draining
    }

    /// The number of open calls, and of those whose status waits for the peer's window.
    #[must_use]
    pub fn open_calls(&self) -> usize {
        self.calls.len()
    }

    /// The number of the newest call.
    #[must_use]
    pub fn last_call(&self) -> u64 {
        self.last_call
    }

    /// Bytes received that were not delivered.
    pub fn held_bytes(&mut self) -> usize {
        self.pipe.incoming() + self.calls.values_mut().map(Call::held).sum::<usize>()
    }

    /// Bytes that wait for the peer.
    #[must_use]
    pub fn unsent_bytes(&self) -> usize {
        self.pipe.outgoing() + self.calls.values().map(Call::unsent).sum::<usize>()
    }

    /// Bytes received for a call that were not delivered.
    pub fn call_held_bytes(&mut self, call: u64) -> usize {
        self.calls.get_mut(&call).map_or(0, Call::held)
    }

    /// Bytes of messages in a call's queue.
    #[must_use]
    pub fn call_unsent_bytes(&self, call: u64) -> usize {
        self.calls.get(&call).map_or(0, Call::unsent)
    }

    /// Has h2 read, write and wake until nothing is left to do.
    fn drive(&mut self) {
        self.is_dirty = false;
        if !self.open() {
            return;
        }
        self.watch();
        let mut context = Context::from_waker(Waker::noop());
        loop {
            loop {
                let State::Open(connection) = &mut self.state else { return };
                match connection.poll_accept(&mut context) {
                    Poll::Ready(Some(Ok((request, respond)))) => self.accept(request, respond),
                    Poll::Ready(Some(Err(error))) => return self.end(Closing::of(Err(error), self.pipe.ended())),
                    Poll::Ready(None) => return self.end(Closing::of(Ok(()), self.pipe.ended())),
                    Poll::Pending => break,
                }
            }
            let mut pumping = std::mem::take(&mut self.pumping);
            self.ready.take(&mut pumping);
            if pumping.is_empty() {
                self.pumping = pumping;
                break;
            }
            for call in pumping.drain(..) {
                self.pump(call);
            }
            self.pumping = pumping;
        }
        self.report_incomplete();
        self.read_pong();
    }

    /// Does the handshake. Returns whether the connection is open.
    fn open(&mut self) -> bool {
        let State::Opening(handshake) = &mut self.state else { return !self.is_closed() };
        let refused = match Opening::of(&self.opening) {
            Opening::Http2 => None,
            Opening::Http1 => {
                self.pipe.answer(http1::response(&self.settings.http1_refusal));
                Some(Closing::new(Reason::HTTP_1_1_REQUIRED, "the client speaks HTTP/1"))
            }
            Opening::Tls => Some(Closing::new(Reason::PROTOCOL_ERROR, "the client speaks TLS, but this port does not")),
            Opening::Other => Some(Closing::new(Reason::PROTOCOL_ERROR, "the client does not speak HTTP/2")),
        };
        if let Some(closing) = refused {
            self.end(closing);
            return false;
        }
        match Pin::new(handshake.as_mut()).poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Pending => false,
            Poll::Ready(Ok(mut connection)) => {
                self.ping_pong = connection.ping_pong();
                self.state = State::Open(Box::new(connection));
                true
            }
            Poll::Ready(Err(error)) => {
                self.end(Closing::of(Err(error), self.pipe.ended()));
                false
            }
        }
    }

    fn accept(&mut self, request: Request<RecvStream>, mut respond: SendResponse<Bytes>) {
        let (parts, body) = request.into_parts();
        let admission = match self.settings.admit(&parts) {
            Ok(admission) => admission,
            Err(refused) => {
                // It fails only if the client has reset the stream.
                let _ = respond.send_response(*refused.0, true);
                return;
            }
        };
        self.last_call += 1;
        let number = self.last_call;
        let messages = Messages::new(body, admission.encoding, self.settings.message.clone());
        let head = (parts.headers, parts.uri.into_parts().authority);
        let window = self.settings.window_bytes;
        let mut call = Call::new(number, admission.route, admission.timeout, head, messages, respond, window);
        if admission.route.kind == RouteKind::Unary {
            let delivered = self.events.len();
            // Most requests arrive with their headers, so no waker is made for them.
            if call.read(&mut Context::from_waker(Waker::noop()), &mut self.events) == Fate::Ended {
                return;
            }
            if self.events.len() == delivered {
                self.incomplete.push(number);
                self.ready.push(number);
            } else {
                self.unwatched.push(number);
            }
        } else {
            call.report(&mut self.events);
            self.ready.push(number);
        }
        self.calls.insert(number, call);
    }

    /// Moves what can move for one call.
    fn pump(&mut self, number: u64) {
        let Some(call) = self.calls.get_mut(&number) else { return };
        if call.pump(&self.ready.waker(number), &mut self.events) == Fate::Ended {
            self.calls.remove(&number);
        }
    }

    /// Has the resets of unary calls watched that were not answered at once.
    fn watch(&mut self) {
        for number in std::mem::take(&mut self.unwatched) {
            let Some(call) = self.calls.get_mut(&number) else { continue };
            let waker = self.ready.waker(number);
            if call.notice_reset(&mut Context::from_waker(&waker), &mut self.events) == Fate::Ended {
                self.calls.remove(&number);
            }
        }
    }

    fn report_incomplete(&mut self) {
        for number in std::mem::take(&mut self.incomplete) {
            if let Some(call) = self.calls.get_mut(&number) {
                call.report(&mut self.events);
            }
        }
    }

    fn read_pong(&mut self) {
        let Some(ping_pong) = self.ping_pong.as_mut().filter(|_| self.awaits_pong) else { return };
        if let Poll::Ready(Ok(_)) = ping_pong.poll_pong(&mut Context::from_waker(Waker::noop())) {
            self.awaits_pong = false;
            self.events.push(Event::of(Kind::Pong, 0, 0));
        }
    }

    /// Ends the connection and every call of it.
    fn end(&mut self, closing: Closing) {
        if self.is_closed() {
            return;
        }
        let mut calls: Vec<_> = self.calls.drain().collect();
        calls.sort_unstable_by_key(|(number, _)| *number);
        let reason = if closing.reason == Reason::NO_ERROR { Reason::CANCEL } else { closing.reason };
        for (_, call) in &mut calls {
            call.fail(reason, &mut self.events);
        }
        self.events.push(closing.event());
        self.ping_pong = None;
        self.state = State::Closed;
    }

    /// Runs `action`. If h2 panics, the connection ends instead of the process: its state is then not to be trusted.
    fn protected(&mut self, action: impl FnOnce(&mut Self)) {
        if catch_unwind(AssertUnwindSafe(|| action(self))).is_err() {
            // Dropped streams would panic again, because the lock that they share is poisoned.
            let state = std::mem::replace(&mut self.state, State::Closed);
            let mut calls: Vec<_> = self.calls.drain().collect();
            calls.sort_unstable_by_key(|(number, _)| *number);
            for (_, mut call) in calls {
                call.fail(Reason::INTERNAL_ERROR, &mut self.events);
                std::mem::forget(call);
            }
            std::mem::forget(state);
            self.ping_pong = None;
            self.is_dirty = false;
            self.events.push(Closing::panic().event());
        }
    }
}

/// Frames a message, if it has less than 4 GiB.
#[must_use]
pub fn frame(message: &[u8]) -> Option<Bytes> {
    messages::frame(message)
}
