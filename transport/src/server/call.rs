//! One call of a server.

use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use h2::server::SendResponse;
use h2::{Reason, SendStream};
use http::uri::Authority;
use http::{HeaderMap, Response};

use super::settings::{Route, RouteKind};
use crate::event::{Event, Kind};
use crate::messages::{Messages, Next};
use crate::outbox::{Ending, Outbox, Pumped, weight};
use crate::status::{Refusal, head, trailers};

/// Where the response goes.
enum Output {
    /// Nothing was sent.
    Unstarted(SendResponse<Bytes>),
    /// The headers were sent.
    Started(SendStream<Bytes>),
}

/// Whether a call remains in the table of calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    Open,
    Ended,
}

pub(super) struct Call {
    number: u64,
    route: Route,
    /// In milliseconds, 0 for none.
    timeout: u64,
    pub headers: HeaderMap,
    pub authority: Option<Authority>,
    /// The requests, until they have ended or do not matter any more.
    messages: Option<Messages>,
    output: Output,
    outbox: Outbox,
    /// How many bytes of messages may still be delivered. A message may overdraw it.
    credit: i64,
    /// Half of this many bytes leave the outbox before SENT is due.
    window: usize,
    is_admitted: bool,
    /// Whether an event has named the call.
    is_reported: bool,
    /// Whether its status is decided, so that no more events are due.
    is_over: bool,
}

impl Call {
    pub fn new(
        number: u64,
        route: Route,
        timeout: u64,
        head: (HeaderMap, Option<Authority>),
        messages: Messages,
        respond: SendResponse<Bytes>,
        window: u32,
    ) -> Self {
        let (headers, authority) = head;
        Self {
            number,
            route,
            timeout,
            headers,
            authority,
            messages: Some(messages),
            output: Output::Unstarted(respond),
            outbox: Outbox::default(),
            credit: i64::from(window),
            window: window as usize,
            is_admitted: route.kind == RouteKind::Unary,
            is_reported: false,
            is_over: false,
        }
    }

    fn event(&self, kind: Kind) -> Event {
        Event::of(kind, self.number, self.route.index)
    }

    /// Reports the call by its headers, unless an event has named it.
    pub fn report(&mut self, events: &mut Vec<Event>) {
        if !self.is_reported && !self.is_over {
            self.is_reported = true;
            events.push(self.event(Kind::Call).number(self.timeout));
        }
    }

    pub fn is_over(&self) -> bool {
        self.is_over
    }

    pub fn admit(&mut self) {
        self.is_admitted = true;
    }

    pub fn consumed(&mut self, size: u64) {
        self.credit = self.credit.saturating_add_unsigned(size).min(i64::MAX / 2);
    }

    /// Bytes received that were not delivered.
    pub fn held(&mut self) -> usize {
        self.messages.as_mut().map_or(0, Messages::held)
    }

    /// Bytes of messages in the outbox.
    pub fn unsent(&self) -> usize {
        self.outbox.queued()
    }

    /// Reads requests as far as they may be delivered, sends as far as the peer allows, and notices a reset.
    ///
    /// `waker` is the one that h2 shall wake for more.
    pub fn pump(&mut self, waker: &Waker, events: &mut Vec<Event>) -> Fate {
        let mut context = Context::from_waker(waker);
        if self.read(&mut context, events) == Fate::Ended {
            return Fate::Ended;
        }
        if let Output::Started(stream) = &mut self.output {
            match self.outbox.pump(stream, &mut context) {
                Pumped::Waiting => {}
                Pumped::Ended => return Fate::Ended,
                Pumped::Failed => return self.fail(Reason::CANCEL, events),
            }
            let freed = self.outbox.freed(self.window);
            if let (Some(size), false) = (freed, self.is_over) {
                events.push(self.event(Kind::Sent).number(size as u64));
            }
        }
        self.notice_reset(&mut context, events)
    }

    pub fn read(&mut self, context: &mut Context<'_>, events: &mut Vec<Event>) -> Fate {
        let is_stream = self.route.kind == RouteKind::Stream;
        while self.is_admitted && !self.is_over && (!is_stream || self.credit > 0) {
            let Some(messages) = &mut self.messages else { break };
            match messages.poll(context) {
                Poll::Pending => break,
                Poll::Ready(Next::Message(data)) if is_stream => {
                    self.credit -= i64::try_from(weight(data.len())).unwrap_or(i64::MAX);
                    events.push(self.event(Kind::Message).data(data));
                }
                Poll::Ready(Next::Message(data)) => {
                    self.messages = None;
                    self.is_reported = true;
                    events.push(self.event(Kind::Unary).number(self.timeout).data(data));
                }
                Poll::Ready(Next::End) => {
                    self.messages = None;
                    self.is_reported = true;
                    events.push(self.event(Kind::HalfClosed));
                }
                Poll::Ready(Next::Bad(refusal)) => return self.refuse(&refusal, events),
                Poll::Ready(Next::Failed(error)) => {
                    return self.fail(error.reason().unwrap_or(Reason::CANCEL), events);
                }
            }
        }
        Fate::Open
    }

    /// Asks h2 whether the peer has reset the stream, and to wake for it.
    pub fn notice_reset(&mut self, context: &mut Context<'_>, events: &mut Vec<Event>) -> Fate {
        let reset = match &mut self.output {
            Output::Unstarted(respond) => respond.poll_reset(context),
            Output::Started(stream) => stream.poll_reset(context),
        };
        match reset {
            Poll::Pending => Fate::Open,
            Poll::Ready(Ok(reason)) => self.fail(reason, events),
            Poll::Ready(Err(_)) => self.fail(Reason::CANCEL, events),
        }
    }

    /// Ends a call that the peer has ended.
    pub fn fail(&mut self, reason: Reason, events: &mut Vec<Event>) -> Fate {
        if self.is_reported && !self.is_over {
            events.push(self.event(Kind::Reset).number(u32::from(reason).into()));
        }
        self.is_over = true;
        Fate::Ended
    }

    fn refuse(&mut self, refusal: &Refusal, events: &mut Vec<Event>) -> Fate {
        if self.is_reported {
            let event = self.event(Kind::Refused).number(refusal.code as u64);
            events.push(event.data(refusal.text.clone().into_bytes()));
        }
        self.finish(trailers(refusal.code as u8, &refusal.text, b""))
    }

    /// Sends the response of a unary call, which is small enough for h2 to hold.
    pub fn reply(mut self, framed: Bytes) {
        if let Output::Unstarted(respond) = &mut self.output {
            // It fails only if the peer has reset the stream.
            if let Ok(mut stream) = respond.send_response(head(), false) {
                let _ = stream.send_data(framed, false);
                let _ = stream.send_trailers(trailers(0, "", b""));
            }
        }
    }

    /// Queues a message of the response.
    pub fn send(&mut self, framed: Bytes) -> Fate {
        if let Output::Unstarted(respond) = &mut self.output {
            let Ok(stream) = respond.send_response(head(), false) else { return Fate::Open };
            self.output = Output::Started(stream);
        }
        self.outbox.push(framed);
        Fate::Open
    }

    /// Decides the status. No more events follow, but queued messages may have to be sent first.
    pub fn finish(&mut self, trailers: HeaderMap) -> Fate {
        self.is_over = true;
        self.messages = None;
        match &mut self.output {
            Output::Unstarted(respond) => {
                let mut response: Response<()> = head();
                response.headers_mut().extend(trailers);
                let _ = respond.send_response(response, true);
                Fate::Ended
            }
            Output::Started(stream) if self.outbox.queued() == 0 => {
                let _ = stream.send_trailers(trailers);
                Fate::Ended
            }
            Output::Started(_) => {
                self.outbox.end(Ending::Trailers(trailers));
                Fate::Open
            }
        }
    }

    /// Ends the call with `RST_STREAM`.
    pub fn reset(mut self, reason: Reason) {
        match &mut self.output {
            Output::Unstarted(respond) => respond.send_reset(reason),
            Output::Started(stream) => stream.send_reset(reason),
        }
    }
}
