//! Recognizes peers that do not speak HTTP/2, so that they get an answer that they understand.

/// What every HTTP/2 connection of a client begins with.
pub const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// What the first bytes of a connection are.
#[derive(Debug, PartialEq, Eq)]
pub enum Opening {
    /// HTTP/2, as far as it can be seen.
    Http2,
    /// A request of HTTP/1.
    Http1,
    /// The handshake of TLS.
    Tls,
    /// Anything else.
    Other,
}

impl Opening {
    /// Looks at the first bytes, of which there may be few yet.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Self {
        let size = bytes.len().min(PREFACE.len());
        if bytes[..size] == PREFACE[..size] {
            Self::Http2
        } else if bytes[0].is_ascii_uppercase() {
            Self::Http1
        } else if bytes.starts_with(b"\x16") {
            Self::Tls
        } else {
            Self::Other
        }
    }
}

/// Returns the response to a request of HTTP/1.
#[must_use]
pub fn response(text: &str) -> Vec<u8> {
    format!(
        "HTTP/1.1 505 HTTP Version Not Supported\r\nconnection: close\r\ncontent-type: text/plain; charset=utf-8\r\n\
         content-length: {}\r\n\r\n{text}\n",
        text.len() + 1
    )
    .into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn openings_are_recognized_by_their_first_bytes() {
        for size in 0..=PREFACE.len() {
            assert_eq!(Opening::of(&PREFACE[..size]), Opening::Http2);
        }
        assert_eq!(Opening::of(b"GET / HTTP/1.1\r\n"), Opening::Http1);
        assert_eq!(Opening::of(b"PR\0"), Opening::Http1);
        assert_eq!(Opening::of(b"\x16\x03\x01"), Opening::Tls);
        assert_eq!(Opening::of(b"\0"), Opening::Other);
    }
}
