//! What happened on a connection, in one form for servers and clients.

use bytes::Bytes;

/// The kinds of events. `_core.pyi` describes what the fields of an event mean for each kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Kind {
    /// The headers of a call have arrived, but the call cannot be delivered yet.
    Call = 1,
    /// A unary call with its whole message.
    Unary = 2,
    /// One message of a stream.
    Message = 3,
    /// The client sends no more messages.
    HalfClosed = 4,
    /// The call was cancelled, or its connection ended.
    Reset = 5,
    /// The core has ended a call that was reported.
    Refused = 6,
    /// Bytes of messages have left the buffer.
    Sent = 7,
    /// The response headers of a stream have arrived.
    Headers = 8,
    /// The call ended with a status.
    Status = 9,
    /// The server accepts no new calls.
    GoAway = 10,
    /// The peer acknowledged a ping.
    Pong = 11,
    /// The connection is over.
    Closed = 12,
}

/// One event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// What happened.
    pub kind: Kind,
    /// The number of the call, 0 for an event of the connection.
    pub call: u64,
    /// The index of the call's route, or a flag.
    pub index: u32,
    /// A timeout, a size, a code.
    pub number: u64,
    /// A message or a text.
    pub data: Bytes,
}

impl Event {
    /// Makes an event of a call without a number and data.
    #[must_use]
    pub fn of(kind: Kind, call: u64, index: u32) -> Self {
        Self { kind, call, index, number: 0, data: Bytes::new() }
    }

    /// Sets the number.
    #[must_use]
    pub fn number(self, number: u64) -> Self {
        Self { number, ..self }
    }

    /// Sets the data.
    #[must_use]
    pub fn data(self, data: impl Into<Bytes>) -> Self {
        Self { data: data.into(), ..self }
    }
}
