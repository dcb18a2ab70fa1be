//! Why a connection ended.

use bytes::Bytes;
use h2::Reason;

use crate::event::{Event, Kind};

/// Why a connection ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Closing {
    /// The error code of HTTP/2.
    pub reason: Reason,
    /// In words.
    pub text: String,
}

impl Closing {
    /// Makes a reason.
    pub fn new(reason: Reason, text: impl Into<String>) -> Self {
        Self { reason, text: text.into() }
    }

    /// Makes the reason for the end of a connection on which h2 has finished.
    #[must_use]
    pub fn of(result: Result<(), h2::Error>, peer_ended: bool) -> Self {
        match result {
            Err(error) if error.is_io() && peer_ended => Self::new(Reason::CANCEL, "the peer closed the connection"),
            Err(error) => Self::new(error.reason().unwrap_or(Reason::INTERNAL_ERROR), error.to_string()),
            Ok(()) if peer_ended => Self::new(Reason::NO_ERROR, "the peer closed the connection"),
            Ok(()) => Self::new(Reason::NO_ERROR, "drained"),
        }
    }

    /// Makes the reason after a panic in h2 or here.
    #[must_use]
    pub fn panic() -> Self {
        Self::new(Reason::INTERNAL_ERROR, "internal error; its message is on standard error")
    }

    /// Returns the event for it.
    #[must_use]
    pub fn event(self) -> Event {
        Event::of(Kind::Closed, 0, 0).number(u32::from(self.reason).into()).data(Bytes::from(self.text))
    }
}
