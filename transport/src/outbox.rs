//! The messages that a stream has yet to send, and how it ends.

use std::collections::VecDeque;
use std::task::{Context, Poll};

use bytes::Bytes;
use h2::SendStream;
use http::HeaderMap;

use crate::messages::PREFIX;

/// How a stream ends after its messages.
pub enum Ending {
    /// With trailers, as a response does.
    Trailers(HeaderMap),
    /// With the flag of its last frame, as a request does.
    Flag,
}

/// What `Outbox::pump` has done.
#[derive(Debug, PartialEq, Eq)]
pub enum Pumped {
    /// Everything that fits into the window.
    Waiting,
    /// Everything, including the end.
    Ended,
    /// The peer reset the stream, or the connection failed.
    Failed,
}

/// A queue of framed messages.
#[derive(Default)]
pub struct Outbox {
    queue: VecDeque<Queued>,
    /// Bytes of messages in the queue, as the caller counts them.
    queued: usize,
    ending: Option<Ending>,
    /// Bytes of messages that have left the queue and are not reported.
    freed: usize,
}

struct Queued {
    /// What h2 has not taken.
    rest: Bytes,
    /// How much the whole message counts.
    weight: usize,
}

/// How much a message counts: an empty one takes memory too.
#[must_use]
pub fn weight(message: usize) -> usize {
    message.max(1)
}

impl Outbox {
    /// Adds a framed message.
    pub fn push(&mut self, framed: Bytes) {
        let weight = weight(framed.len() - PREFIX);
        self.queued += weight;
        self.queue.push_back(Queued { rest: framed, weight });
    }

    /// Ends the stream after the messages in the queue.
    pub fn end(&mut self, ending: Ending) {
        self.ending = Some(ending);
    }

    /// Bytes of messages in the queue.
    #[must_use]
    pub fn queued(&self) -> usize {
        self.queued
    }

    /// Returns how many bytes of messages have left the queue, if it is time to report them: half a window, or all.
    pub fn freed(&mut self, window: usize) -> Option<usize> {
        if self.freed > 0 && (self.queue.is_empty() || self.freed >= window / 2) {
            return Some(std::mem::take(&mut self.freed));
        }
        None
    }

    /// Hands to h2 what the peer's window allows.
    pub fn pump(&mut self, stream: &mut SendStream<Bytes>, context: &mut Context<'_>) -> Pumped {
        while let Some(message) = self.queue.front_mut() {
            stream.reserve_capacity(message.rest.len());
            while stream.capacity() == 0 {
                match stream.poll_capacity(context) {
                    // Without capacity h2 has not noted the waker, so ask again.
                    Poll::Ready(Some(Ok(_))) => {}
                    Poll::Ready(_) => return Pumped::Failed,
                    Poll::Pending => return Pumped::Waiting,
                }
            }
            let part = message.rest.split_to(stream.capacity().min(message.rest.len()));
            let is_whole = message.rest.is_empty();
            if is_whole {
                self.queued -= message.weight;
                self.freed += message.weight;
                self.queue.pop_front();
            }
            let is_end = is_whole && self.queue.is_empty() && matches!(self.ending, Some(Ending::Flag));
            if stream.send_data(part, is_end).is_err() {
                return Pumped::Failed;
            }
            if is_end {
                self.ending = None;
                return Pumped::Ended;
            }
        }
        let sent = match self.ending.take() {
            None => return Pumped::Waiting,
            Some(Ending::Trailers(trailers)) => stream.send_trailers(trailers),
            Some(Ending::Flag) => stream.send_data(Bytes::new(), true),
        };
        if sent.is_ok() { Pumped::Ended } else { Pumped::Failed }
    }
}
