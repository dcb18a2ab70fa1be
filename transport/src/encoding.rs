//! Message encodings: which ones are understood, and inflating with a bound.

use std::io::Read;

use flate2::bufread::{MultiGzDecoder, ZlibDecoder};
use http::HeaderMap;

/// What `grpc-accept-encoding` says where a call is refused for its encoding.
pub const ACCEPTED: &str = "identity,deflate,gzip";

/// The encoding of a call's compressed messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encoding {
    /// No message is compressed.
    Identity,
    /// RFC 1952.
    Gzip,
    /// RFC 1950: what HTTP calls deflate has the header of zlib.
    Deflate,
}

/// Why a message was not inflated.
#[derive(Debug, PartialEq, Eq)]
pub enum Failure {
    /// It is larger than the limit.
    TooLarge,
    /// It is not of its encoding.
    Malformed,
}

impl Encoding {
    /// Reads the encoding of a call.
    ///
    /// # Errors
    ///
    /// It is not known; the result is its name.
    pub fn of(headers: &HeaderMap) -> Result<Self, String> {
        match headers.get("grpc-encoding").map(http::HeaderValue::as_bytes) {
            None | Some(b"identity") => Ok(Self::Identity),
            Some(b"gzip") => Ok(Self::Gzip),
            Some(b"deflate") => Ok(Self::Deflate),
            Some(other) => Err(String::from_utf8_lossy(other).into_owned()),
        }
    }

    /// Inflates a message, if the result has at most `limit` bytes.
    ///
    /// # Errors
    ///
    /// It is larger, or malformed.
    pub fn inflate(self, message: &[u8], limit: usize) -> Result<Vec<u8>, Failure> {
        let mut inflated = Vec::new();
        let most = limit as u64 + 1;
        let read = match self {
            Self::Identity => return Err(Failure::Malformed),
            Self::Gzip => MultiGzDecoder::new(message).take(most).read_to_end(&mut inflated),
            Self::Deflate => ZlibDecoder::new(message).take(most).read_to_end(&mut inflated),
        };
        match read {
            Ok(size) if size > limit => Err(Failure::TooLarge),
            Ok(_) => Ok(inflated),
            Err(_) => Err(Failure::Malformed),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use flate2::Compression;
    use flate2::write::{GzEncoder, ZlibEncoder};
    use std::io::Write;

    fn gzip(data: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
        encoder.write_all(data).unwrap();
        encoder.finish().unwrap()
    }

    #[test]
    fn both_encodings_are_inflated() {
        let mut encoder = ZlibEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(b"hello").unwrap();
        assert_eq!(Encoding::Deflate.inflate(&encoder.finish().unwrap(), 5).unwrap(), b"hello");
        assert_eq!(Encoding::Gzip.inflate(&gzip(b"hello"), 5).unwrap(), b"hello");
    }

    #[test]
    fn a_bomb_is_inflated_to_the_limit_only() {
        let bomb = gzip(&vec![0; 50_000_000]);
        assert!(bomb.len() < 60_000);
        assert_eq!(Encoding::Gzip.inflate(&bomb, 1_000), Err(Failure::TooLarge));
    }

    #[test]
    fn what_is_not_of_the_encoding_is_malformed() {
        for encoding in [Encoding::Identity, Encoding::Gzip, Encoding::Deflate] {
            assert_eq!(encoding.inflate(b"not compressed", 100), Err(Failure::Malformed));
        }
        let whole = gzip(b"hello");
        assert_eq!(Encoding::Gzip.inflate(&whole[..whole.len() - 3], 100), Err(Failure::Malformed));
    }
}
