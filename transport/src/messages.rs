//! Reads length-prefixed messages off the body of a request or response.

use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::{Buf, Bytes, BytesMut};
use h2::RecvStream;
use http::HeaderMap;

use crate::encoding::{Encoding, Failure};
use crate::status::{Code, Refusal};

/// Bytes before each message: a flag and the length.
pub const PREFIX: usize = 5;

/// The largest message, and the text for a larger one.
#[derive(Clone, Debug)]
pub struct MessageLimit {
    /// In bytes, after decompression.
    pub bytes: usize,
    /// With the placeholders `{size}` and `{limit}`.
    pub refusal: Arc<str>,
}

impl MessageLimit {
    fn refuse(&self, size: usize) -> Refusal {
        let text = self.refusal.replace("{size}", &size.to_string()).replace("{limit}", &self.bytes.to_string());
        Refusal::new(Code::ResourceExhausted, text)
    }
}

/// What a body has next.
pub enum Next {
    /// A message.
    Message(Bytes),
    /// Nothing more.
    End,
    /// Something that ends the call.
    Bad(Refusal),
    /// The peer reset the stream, or the connection failed.
    Failed(h2::Error),
}

/// Cuts messages out of bytes that arrive in any pieces.
pub struct Cutter {
    held: Held,
    encoding: Encoding,
    limit: MessageLimit,
}

/// Bytes that are not cut yet.
enum Held {
    /// One piece as it came, which is not copied if it has whole messages.
    Piece(Bytes),
    Gathered(BytesMut),
}

impl Held {
    fn bytes(&self) -> &[u8] {
        match self {
            Self::Piece(bytes) => bytes,
            Self::Gathered(bytes) => bytes,
        }
    }

    fn cut(&mut self, size: usize) -> Bytes {
        match self {
            Self::Piece(bytes) => {
                bytes.advance(PREFIX);
                bytes.split_to(size)
            }
            Self::Gathered(bytes) => {
                bytes.advance(PREFIX);
                let message = bytes.split_to(size).freeze();
                if bytes.is_empty() {
                    *self = Self::Piece(Bytes::new());
                }
                message
            }
        }
    }

    fn push(&mut self, piece: Bytes) {
        match self {
            Self::Piece(bytes) if bytes.is_empty() => *bytes = piece,
            Self::Piece(bytes) => {
                let mut gathered = BytesMut::with_capacity(bytes.len() + piece.len());
                gathered.extend_from_slice(bytes);
                gathered.extend_from_slice(&piece);
                *self = Self::Gathered(gathered);
            }
            Self::Gathered(bytes) => bytes.extend_from_slice(&piece),
        }
    }
}

impl Cutter {
    /// Makes one that holds nothing.
    #[must_use]
    pub fn new(encoding: Encoding, limit: MessageLimit) -> Self {
        Self { held: Held::Piece(Bytes::new()), encoding, limit }
    }

    /// Adds bytes.
    pub fn push(&mut self, piece: Bytes) {
        self.held.push(piece);
    }

    /// The number of bytes that are not cut.
    #[must_use]
    pub fn held(&self) -> usize {
        self.held.bytes().len()
    }

    /// Cuts the next message. Returns None if it is not complete.
    ///
    /// # Errors
    ///
    /// The message is too large or malformed. It is found before the message is complete, as far as its prefix tells it.
    pub fn cut(&mut self) -> Result<Option<Bytes>, Refusal> {
        let &[flag, a, b, c, d, ref rest @ ..] = self.held.bytes() else { return Ok(None) };
        let size = u32::from_be_bytes([a, b, c, d]) as usize;
        match (flag, self.encoding) {
            (0, _) | (1, Encoding::Gzip | Encoding::Deflate) => {}
            (1, Encoding::Identity) => {
                return Err(Refusal::new(Code::Internal, "message: compressed, but grpc-encoding names no encoding"));
            }
            _ => return Err(Refusal::new(Code::Internal, format!("message: the flag is {flag}; use 0 or 1"))),
        }
        if size > self.limit.bytes {
            return Err(self.limit.refuse(size));
        }
        if rest.len() < size {
            return Ok(None);
        }
        let message = self.held.cut(size);
        if flag == 0 {
            return Ok(Some(message));
        }
        match self.encoding.inflate(&message, self.limit.bytes) {
            Ok(inflated) => Ok(Some(inflated.into())),
            Err(Failure::TooLarge) => Err(self.limit.refuse(self.limit.bytes + 1)),
            Err(Failure::Malformed) => Err(Refusal::new(Code::Internal, "message: cannot be decompressed")),
        }
    }
}

/// Reads messages off a body.
pub struct Messages {
    body: RecvStream,
    cutter: Cutter,
}

impl Messages {
    /// Makes it for a body of which nothing was read.
    #[must_use]
    pub fn new(body: RecvStream, encoding: Encoding, limit: MessageLimit) -> Self {
        Self { body, cutter: Cutter::new(encoding, limit) }
    }

    /// Returns what is next.
    ///
    /// All bytes that it reads are released to the peer's window at once, because a message larger than the window
    /// could otherwise never arrive. So call it only if a message may be delivered.
    pub fn poll(&mut self, context: &mut Context<'_>) -> Poll<Next> {
        loop {
            match self.cutter.cut() {
                Ok(Some(message)) => return Poll::Ready(Next::Message(message)),
                Ok(None) => {}
                Err(refusal) => return Poll::Ready(Next::Bad(refusal)),
            }
            match self.body.poll_data(context) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Some(Ok(piece))) => {
                    // It fails only if more is released than was received.
                    let _ = self.body.flow_control().release_capacity(piece.len());
                    self.cutter.push(piece);
                }
                Poll::Ready(Some(Err(error))) => return Poll::Ready(Next::Failed(error)),
                Poll::Ready(None) if self.cutter.held() == 0 => return Poll::Ready(Next::End),
                Poll::Ready(None) => {
                    let refusal = Refusal::new(Code::Internal, "message: the stream ended inside of it");
                    return Poll::Ready(Next::Bad(refusal));
                }
            }
        }
    }

    /// Returns the trailers, once `poll` has returned `Next::End`.
    pub fn trailers(&mut self, context: &mut Context<'_>) -> Poll<Result<Option<HeaderMap>, h2::Error>> {
        self.body.poll_trailers(context)
    }

    /// The bytes received that were not delivered, here and in h2.
    pub fn held(&mut self) -> usize {
        self.cutter.held() + self.body.flow_control().used_capacity()
    }
}

/// Frames a message.
#[must_use]
pub fn frame(message: &[u8]) -> Option<Bytes> {
    let mut framed = Vec::with_capacity(PREFIX + message.len());
    framed.push(0);
    framed.extend_from_slice(&u32::try_from(message.len()).ok()?.to_be_bytes());
    framed.extend_from_slice(message);
    Some(framed.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use flate2::Compression;
    use flate2::write::GzEncoder;
    use std::io::Write;

    fn cutter(encoding: Encoding, limit: usize) -> Cutter {
        Cutter::new(encoding, MessageLimit { bytes: limit, refusal: "{size} > {limit}".into() })
    }

    fn drain(cutter: &mut Cutter) -> Vec<Vec<u8>> {
        std::iter::from_fn(|| cutter.cut().unwrap()).map(|message| message.to_vec()).collect()
    }

    #[test]
    fn messages_are_cut_the_same_from_pieces_of_any_size() {
        let messages: Vec<Vec<u8>> = [0, 1, 4, 5, 6, 100, 0, 0, 3].iter().map(|size| vec![7; *size]).collect();
        let stream: Vec<u8> = messages.iter().flat_map(|message| frame(message).unwrap()).collect();
        for size in 1..=stream.len() {
            let mut cutter = cutter(Encoding::Identity, 100);
            let mut seen = Vec::new();
            for piece in stream.chunks(size) {
                cutter.push(Bytes::copy_from_slice(piece));
                seen.extend(drain(&mut cutter));
            }
            assert_eq!(seen, messages, "pieces of {size}");
            assert_eq!(cutter.held(), 0);
        }
    }

    #[test]
    fn a_message_over_the_limit_is_refused_by_its_prefix() {
        let mut cutter = cutter(Encoding::Identity, 100);
        cutter.push(Bytes::from_static(b"\0\0\0\0\x65"));
        assert_eq!(cutter.cut(), Err(Refusal::new(Code::ResourceExhausted, "101 > 100")));
    }

    #[test]
    fn the_limit_holds_after_decompression_too() {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
        encoder.write_all(&[0; 101]).unwrap();
        let mut framed = frame(&encoder.finish().unwrap()).unwrap().to_vec();
        framed[0] = 1;
        for (limit, expected) in
            [(101, Ok(Some(Bytes::from(vec![0; 101])))), (100, Err(Refusal::new(Code::ResourceExhausted, "101 > 100")))]
        {
            let mut cutter = cutter(Encoding::Gzip, limit);
            cutter.push(framed.clone().into());
            assert_eq!(cutter.cut(), expected);
        }
    }

    #[test]
    fn flags_that_do_not_fit_are_refused() {
        for (encoding, flag) in [(Encoding::Identity, 1), (Encoding::Identity, 2), (Encoding::Gzip, 255)] {
            let mut cutter = cutter(encoding, 100);
            cutter.push(Bytes::from(vec![flag, 0, 0, 0, 0]));
            assert_eq!(cutter.cut().unwrap_err().code, Code::Internal);
        }
    }
}
