//! Statuses: gRPC's codes, and the headers that carry them.

use std::borrow::Cow;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use http::{HeaderMap, HeaderValue, Response, StatusCode, header};
use percent_encoding::{AsciiSet, CONTROLS, percent_decode, utf8_percent_encode};

/// The codes of gRPC that the core itself uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Code {
    /// Success.
    Ok = 0,
    /// The call was cancelled.
    Cancelled = 1,
    /// No more specific code fits.
    Unknown = 2,
    /// The caller may not do that.
    PermissionDenied = 7,
    /// Something is too large, or there is too much of it.
    ResourceExhausted = 8,
    /// The method or an encoding is not known.
    Unimplemented = 12,
    /// The peer broke the protocol.
    Internal = 13,
    /// The server cannot be reached now.
    Unavailable = 14,
    /// The caller has no valid credentials.
    Unauthenticated = 16,
}

/// The largest code that gRPC defines.
pub const LAST_CODE: u8 = 16;

/// Why the core ends a call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The code.
    pub code: Code,
    /// The text, not percent-encoded.
    pub text: String,
}

impl Refusal {
    /// Makes a refusal.
    pub fn new(code: Code, text: impl Into<String>) -> Self {
        Self { code, text: text.into() }
    }
}

/// What gRPC percent-encodes in a status text: all but space to tilde, and the percent sign.
const ENCODED: &AsciiSet = &CONTROLS.add(b'%');

/// The key of encoded details.
pub const DETAILS: &str = "grpc-status-details-bin";

/// Returns the trailers for a status.
#[must_use]
pub fn trailers(code: u8, text: &str, details: &[u8]) -> HeaderMap {
    let mut trailers = HeaderMap::with_capacity(4);
    write(&mut trailers, code, text, details);
    trailers
}

fn write(headers: &mut HeaderMap, code: u8, text: &str, details: &[u8]) {
    if code == 0 {
        headers.insert("grpc-status", HeaderValue::from_static("0"));
    } else {
        headers.insert("grpc-status", HeaderValue::from(u16::from(code)));
    }
    if !text.is_empty()
        && let Ok(value) = HeaderValue::from_str(&Cow::from(utf8_percent_encode(text, ENCODED)))
    {
        headers.insert("grpc-message", value);
    }
    if !details.is_empty()
        && let Ok(value) = HeaderValue::try_from(STANDARD_NO_PAD.encode(details))
    {
        headers.insert(DETAILS, value);
    }
}

/// Returns the head of a response.
#[must_use]
pub fn head() -> Response<()> {
    let mut head = Response::new(());
    head.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    head
}

/// Returns a response that consists of a status only.
#[must_use]
pub fn trailers_only(code: u8, text: &str) -> Response<()> {
    let mut head = head();
    write(head.headers_mut(), code, text, b"");
    head
}

/// Reads the status of trailers, or of a response that consists of a status only. Returns None if there is none.
#[must_use]
pub fn read(headers: &HeaderMap) -> Option<(u8, String)> {
    let code = headers.get("grpc-status")?.to_str().ok()?.parse().unwrap_or(Code::Unknown as u8);
    let code = if code > LAST_CODE { Code::Unknown as u8 } else { code };
    let text = headers
        .get("grpc-message")
        .map_or_else(String::new, |value| percent_decode(value.as_bytes()).decode_utf8_lossy().into_owned());
    Some((code, text))
}

/// Returns the code for a response of something that does not speak gRPC, as gRPC's documents map it.
#[must_use]
pub fn of_http(status: StatusCode) -> Code {
    match status.as_u16() {
        400 => Code::Internal,
        401 => Code::Unauthenticated,
        403 => Code::PermissionDenied,
        404 => Code::Unimplemented,
        429 | 502 | 503 | 504 => Code::Unavailable,
        _ => Code::Unknown,
    }
}

/// Returns the code for a stream error of HTTP/2, as gRPC's documents map it.
#[must_use]
pub fn of_reset(reason: h2::Reason) -> Code {
    match reason {
        h2::Reason::REFUSED_STREAM => Code::Unavailable,
        h2::Reason::CANCEL => Code::Cancelled,
        h2::Reason::ENHANCE_YOUR_CALM => Code::ResourceExhausted,
        h2::Reason::INADEQUATE_SECURITY => Code::PermissionDenied,
        _ => Code::Internal,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_survives_the_way_through_headers() {
        for text in ["", "plain", "50 % off", "grün\nund \u{1F980}", "a%20b", " lead and trail "] {
            assert_eq!(read(&trailers(5, text, b"")), Some((5, text.to_owned())));
        }
    }

    #[test]
    fn only_what_needs_it_is_encoded() {
        let headers = trailers(3, "queue \"a\": 100% ~ü", b"");
        assert_eq!(headers["grpc-message"], "queue \"a\": 100%25 ~%C3%BC");
    }

    #[test]
    fn details_are_base64_without_padding() {
        assert_eq!(trailers(3, "", b"\x08\x03")[DETAILS], "CAM");
    }

    #[test]
    fn codes_that_nobody_defined_are_unknown() {
        for value in ["17", "300", "-1", "x", ""] {
            let mut headers = HeaderMap::new();
            headers.insert("grpc-status", HeaderValue::from_static(value));
            assert_eq!(read(&headers), Some((2, String::new())), "{value}");
        }
        assert_eq!(read(&HeaderMap::new()), None);
    }
}
