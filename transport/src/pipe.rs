//! The stand-in for a socket: h2 reads what `receive` put in, and writes what `data_to_send` takes out.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Allocations above this size are freed once they are empty, so that an idle connection is small.
const KEPT_CAPACITY: usize = 4 * 1024;

/// Bytes on their way in both directions. Clones share them.
#[derive(Clone)]
pub struct Pipe(Arc<Mutex<Ends>>);

struct Ends {
    incoming: BytesMut,
    outgoing: Vec<u8>,
    outgoing_limit: usize,
    ended: bool,
    /// Whether h2 had to wait because `outgoing` was full.
    blocked: bool,
}

impl Pipe {
    /// Makes an empty pipe that takes about `outgoing_limit` bytes from h2 until they are taken out.
    pub fn new(outgoing_limit: usize) -> Self {
        Self(Arc::new(Mutex::new(Ends {
            incoming: BytesMut::new(),
            outgoing: Vec::new(),
            outgoing_limit,
            ended: false,
            blocked: false,
        })))
    }

    fn ends(&self) -> MutexGuard<'_, Ends> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds bytes from the peer.
    pub fn push(&self, data: &[u8]) {
        self.ends().incoming.extend_from_slice(data);
    }

    /// Notes that the peer sends no more.
    pub fn end(&self) {
        self.ends().ended = true;
    }

    /// Whether the peer has closed its side.
    pub fn ended(&self) -> bool {
        self.ends().ended
    }

    /// Replaces the bytes for the peer, and drops those from it.
    pub fn answer(&self, data: Vec<u8>) {
        let mut ends = self.ends();
        ends.incoming = BytesMut::new();
        ends.outgoing = data;
    }

    /// Calls `f` with the bytes for the peer and forgets them. The second result says whether h2 waited for that.
    pub fn take<R>(&self, f: impl FnOnce(&[u8]) -> R) -> (R, bool) {
        let mut ends = self.ends();
        let result = f(&ends.outgoing);
        if ends.outgoing.capacity() > KEPT_CAPACITY {
            ends.outgoing = Vec::new();
        } else {
            ends.outgoing.clear();
        }
        (result, std::mem::take(&mut ends.blocked))
    }

    /// Bytes from the peer that h2 has not read.
    pub fn incoming(&self) -> usize {
        self.ends().incoming.len()
    }

    /// Bytes for the peer that were not taken.
    pub fn outgoing(&self) -> usize {
        self.ends().outgoing.len()
    }
}

impl AsyncRead for Pipe {
    fn poll_read(self: Pin<&mut Self>, _: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let mut ends = self.ends();
        if ends.incoming.is_empty() {
            return if ends.ended { Poll::Ready(Ok(())) } else { Poll::Pending };
        }
        let size = ends.incoming.len().min(buffer.remaining());
        buffer.put_slice(&ends.incoming[..size]);
        ends.incoming.advance(size);
        if ends.incoming.is_empty() && ends.incoming.capacity() > KEPT_CAPACITY {
            ends.incoming = BytesMut::new();
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Pipe {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        let mut ends = self.ends();
        if ends.outgoing.len() >= ends.outgoing_limit {
            ends.blocked = true;
            return Poll::Pending;
        }
        ends.outgoing.extend_from_slice(data);
        Poll::Ready(Ok(data.len()))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let mut ends = self.ends();
        if ends.outgoing.len() >= ends.outgoing_limit {
            ends.blocked = true;
            return Poll::Pending;
        }
        let before = ends.outgoing.len();
        for part in parts {
            ends.outgoing.extend_from_slice(part);
        }
        Poll::Ready(Ok(ends.outgoing.len() - before))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
