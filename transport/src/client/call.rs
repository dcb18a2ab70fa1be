//! One call of a client.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use h2::client::{ResponseFuture, SendRequest};
use h2::{Reason, RecvStream, SendStream};
use http::{HeaderMap, Request, Response, StatusCode};

use crate::encoding::Encoding;
use crate::event::{Event, Kind};
use crate::messages::{MessageLimit, Messages, Next};
use crate::outbox::{Ending, Outbox, Pumped, weight};
use crate::status::{self, Code};

/// How a call ended.
pub(super) struct Outcome {
    pub code: u8,
    pub text: String,
    /// Whether the server has certainly not processed the call.
    pub is_unprocessed: bool,
}

impl Outcome {
    pub fn new(code: Code, text: impl Into<String>) -> Self {
        Self { code: code as u8, text: text.into(), is_unprocessed: false }
    }

    pub fn unprocessed(text: impl Into<String>) -> Self {
        Self { code: Code::Unavailable as u8, text: text.into(), is_unprocessed: true }
    }

    fn of(error: &h2::Error) -> Self {
        match error.reason() {
            Some(reason) if error.is_go_away() => Self {
                code: Code::Unavailable as u8,
                text: format!("the connection ended: {reason}"),
                // h2 gives this error to the calls after the last one that the server's GOAWAY promises to process.
                is_unprocessed: error.is_remote(),
            },
            Some(reason) => Self {
                code: status::of_reset(reason) as u8,
                text: format!("the call was reset: {reason}"),
                is_unprocessed: reason == Reason::REFUSED_STREAM && error.is_remote(),
            },
            None => Self::new(Code::Unavailable, format!("the connection ended: {error}")),
        }
    }
}

/// How far a call is.
enum Stage {
    /// It waits for the server's limit of concurrent calls.
    Waiting(Box<Request<()>>),
    /// The request headers were sent.
    Started { sending: Option<SendStream<Bytes>>, response: Answer },
    /// It is over, but its metadata can still be read.
    Over,
}

/// How far a response is.
enum Answer {
    Headers(ResponseFuture),
    Body { messages: Messages, has_ended: bool },
}

pub(super) struct Call {
    number: u64,
    is_unary: bool,
    stage: Stage,
    outbox: Outbox,
    limit: MessageLimit,
    /// The response of a unary call, until its status is known.
    message: Option<Bytes>,
    pub headers: HeaderMap,
    pub trailers: HeaderMap,
    /// How many bytes of messages may still be delivered. A message may overdraw it.
    credit: i64,
    window: usize,
}

impl Call {
    pub fn new(number: u64, is_unary: bool, request: Request<()>, limit: MessageLimit, window: u32) -> Self {
        Self {
            number,
            is_unary,
            stage: Stage::Waiting(Box::new(request)),
            outbox: Outbox::default(),
            limit,
            message: None,
            headers: HeaderMap::new(),
            trailers: HeaderMap::new(),
            credit: i64::from(window),
            window: window as usize,
        }
    }

    fn event(&self, kind: Kind) -> Event {
        Event::of(kind, self.number, 0)
    }

    pub fn is_over(&self) -> bool {
        matches!(self.stage, Stage::Over)
    }

    pub fn is_waiting(&self) -> bool {
        matches!(self.stage, Stage::Waiting(_))
    }

    pub fn is_started(&self) -> bool {
        matches!(self.stage, Stage::Started { .. })
    }

    pub fn send(&mut self, framed: Bytes) {
        self.outbox.push(framed);
    }

    pub fn half_close(&mut self) {
        self.outbox.end(Ending::Flag);
    }

    pub fn consumed(&mut self, size: u64) {
        self.credit = self.credit.saturating_add_unsigned(size).min(i64::MAX / 2);
    }

    pub fn held(&mut self) -> usize {
        let message = self.message.as_ref().map_or(0, Bytes::len);
        match &mut self.stage {
            Stage::Started { response: Answer::Body { messages, .. }, .. } => message + messages.held(),
            _ => message,
        }
    }

    pub fn unsent(&self) -> usize {
        self.outbox.queued()
    }

    /// Sends the headers of a call that waits.
    pub fn start(&mut self, sender: &mut SendRequest<Bytes>, events: &mut Vec<Event>) {
        let Stage::Waiting(request) = std::mem::replace(&mut self.stage, Stage::Over) else { return };
        match sender.send_request(*request, false) {
            Ok((response, sending)) => {
                self.stage = Stage::Started { sending: Some(sending), response: Answer::Headers(response) };
            }
            Err(error) => self.end(Outcome::of(&error), events),
        }
    }

    /// Ends the call with `RST_STREAM`.
    pub fn cancel(self) {
        if let Stage::Started { sending: Some(mut sending), .. } = self.stage {
            sending.send_reset(Reason::CANCEL);
        }
        // Otherwise h2 resets the stream because nothing refers to it any more.
    }

    /// Sends as far as the server allows, and reads responses as far as they may be delivered.
    pub fn pump(&mut self, waker: &Waker, events: &mut Vec<Event>) {
        let mut context = Context::from_waker(waker);
        self.write(&mut context, events);
        while let Poll::Ready(outcome) = self.read(&mut context, events) {
            if let Some(outcome) = outcome {
                return self.end(outcome, events);
            }
        }
    }

    fn write(&mut self, context: &mut Context<'_>, events: &mut Vec<Event>) {
        let Stage::Started { sending, .. } = &mut self.stage else { return };
        if let Some(stream) = sending {
            match self.outbox.pump(stream, context) {
                Pumped::Waiting => {}
                // If the server refuses more, its response says why.
                Pumped::Ended | Pumped::Failed => *sending = None,
            }
        }
        if let (Some(size), false) = (self.outbox.freed(self.window), self.is_unary) {
            events.push(self.event(Kind::Sent).number(size as u64));
        }
    }

    /// Does one step of reading. Returns the outcome if the call ends, None if there may be more to read.
    fn read(&mut self, context: &mut Context<'_>, events: &mut Vec<Event>) -> Poll<Option<Outcome>> {
        let Stage::Started { response, .. } = &mut self.stage else { return Poll::Pending };
        match response {
            Answer::Headers(headers) => match Pin::new(headers).poll(context) {
                Poll::Pending => Poll::Pending,
                Poll::Ready(Ok(head)) => Poll::Ready(self.read_head(head, events)),
                Poll::Ready(Err(error)) => Poll::Ready(Some(Outcome::of(&error))),
            },
            Answer::Body { messages, has_ended: true } => match messages.trailers(context) {
                Poll::Pending => Poll::Pending,
                Poll::Ready(Ok(trailers)) => {
                    self.trailers = trailers.unwrap_or_default();
                    Poll::Ready(Some(outcome_of(&self.trailers)))
                }
                Poll::Ready(Err(error)) => Poll::Ready(Some(Outcome::of(&error))),
            },
            Answer::Body { .. } if !self.is_unary && self.credit <= 0 => Poll::Pending,
            Answer::Body { messages, has_ended } => match messages.poll(context) {
                Poll::Pending => Poll::Pending,
                Poll::Ready(Next::Message(data)) => Poll::Ready(self.take_message(data, events)),
                Poll::Ready(Next::Bad(refusal)) => Poll::Ready(Some(Outcome::new(refusal.code, refusal.text))),
                Poll::Ready(Next::Failed(error)) => Poll::Ready(Some(Outcome::of(&error))),
                Poll::Ready(Next::End) => {
                    *has_ended = true;
                    Poll::Ready(None)
                }
            },
        }
    }

    fn read_head(&mut self, head: Response<RecvStream>, events: &mut Vec<Event>) -> Option<Outcome> {
        let (parts, body) = head.into_parts();
        self.headers = parts.headers;
        if parts.status != StatusCode::OK {
            if let Some((code, text)) = status::read(&self.headers) {
                return Some(Outcome { code, text, is_unprocessed: false });
            }
            return Some(Outcome::new(status::of_http(parts.status), format!("the HTTP status is {}", parts.status)));
        }
        if let Some((code, text)) = status::read(&self.headers) {
            self.trailers = std::mem::take(&mut self.headers);
            return Some(Outcome { code, text, is_unprocessed: false });
        }
        let content_type = self.headers.get("content-type").map_or(&b""[..], |value| value.as_bytes());
        if !content_type.starts_with(b"application/grpc") {
            let text = format!("the content type is {:?} and not gRPC's", String::from_utf8_lossy(content_type));
            return Some(Outcome::new(Code::Unknown, text));
        }
        let encoding = match Encoding::of(&self.headers) {
            Ok(encoding) => encoding,
            Err(name) => {
                return Some(Outcome::new(Code::Internal, format!("grpc-encoding: {name} is not supported")));
            }
        };
        if let Stage::Started { response, .. } = &mut self.stage {
            let messages = Messages::new(body, encoding, self.limit.clone());
            *response = Answer::Body { messages, has_ended: false };
        }
        if !self.is_unary {
            events.push(self.event(Kind::Headers));
        }
        None
    }

    fn take_message(&mut self, data: Bytes, events: &mut Vec<Event>) -> Option<Outcome> {
        if !self.is_unary {
            self.credit -= i64::try_from(weight(data.len())).unwrap_or(i64::MAX);
            events.push(self.event(Kind::Message).data(data));
        } else if self.message.replace(data).is_some() {
            return Some(Outcome::new(Code::Internal, "more than one response to a unary call"));
        }
        None
    }

    /// Ends the call with a status.
    pub fn end(&mut self, outcome: Outcome, events: &mut Vec<Event>) {
        self.stage = Stage::Over;
        self.outbox = Outbox::default();
        let message = self.message.take();
        let outcome = match message {
            Some(message) if self.is_unary && outcome.code == 0 => {
                events.push(self.event(Kind::Unary).data(message));
                return;
            }
            None if self.is_unary && outcome.code == 0 => {
                Outcome::new(Code::Internal, "no response to a unary call, but OK")
            }
            _ => outcome,
        };
        let event = Event::of(Kind::Status, self.number, outcome.is_unprocessed.into());
        events.push(event.number(outcome.code.into()).data(outcome.text.into_bytes()));
    }
}

fn outcome_of(trailers: &HeaderMap) -> Outcome {
    match status::read(trailers) {
        Some((code, text)) => Outcome { code, text, is_unprocessed: false },
        None => Outcome::new(Code::Internal, "the response ended without a status"),
    }
}
