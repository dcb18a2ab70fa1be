//! What all connections of a server share, and which calls it accepts at all.

use std::collections::HashMap;

use http::request::Parts;
use http::{HeaderValue, Method, Response, StatusCode, header};

use crate::encoding::{ACCEPTED, Encoding};
use crate::messages::MessageLimit;
use crate::status::{Code, trailers_only};
use crate::{metadata, timeout};

/// How calls of a method are delivered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RouteKind {
    /// One request and one response, admitted without a question.
    Unary,
    /// One request and one response, admitted one by one.
    GuardedUnary,
    /// Requests or responses are a stream.
    Stream,
}

/// A method.
#[derive(Clone, Copy, Debug)]
pub struct Route {
    /// What events call it.
    pub index: u32,
    /// How its calls are delivered.
    pub kind: RouteKind,
}

/// What all connections of a server share. `_core.pyi` describes the fields.
#[derive(Clone, Debug)]
#[allow(missing_docs)]
pub struct ServerSettings {
    pub routes: HashMap<String, Route>,
    pub message: MessageLimit,
    pub unknown_method: String,
    pub header_bytes: u32,
    pub header_refusal: String,
    pub http1_refusal: String,
    pub concurrent_calls: u32,
    pub window_bytes: u32,
    pub connection_window_bytes: u32,
    pub output_bytes: usize,
    pub pending_resets: usize,
    pub remembered_resets: usize,
    pub local_errors: usize,
}

/// What is known of a call once its headers have arrived.
pub(super) struct Admission {
    pub route: Route,
    pub encoding: Encoding,
    /// In milliseconds, 0 for none.
    pub timeout: u64,
}

/// The response to a call that is refused by its headers.
pub(super) struct Refused(pub Box<Response<()>>);

impl ServerSettings {
    /// Starts the handshake of a connection.
    pub(super) fn builder(&self) -> h2::server::Builder {
        let mut builder = h2::server::Builder::new();
        builder
            .initial_window_size(self.window_bytes)
            .initial_connection_window_size(self.connection_window_bytes)
            .max_concurrent_streams(self.concurrent_calls)
            // Between the limit and the double, a client gets a status of gRPC instead of one of HTTP.
            .max_header_list_size(self.header_bytes.saturating_mul(2))
            .max_send_buffer_size(self.window_bytes as usize)
            .max_concurrent_reset_streams(self.remembered_resets)
            .max_pending_accept_reset_streams(self.pending_resets)
            .max_local_error_reset_streams(Some(self.local_errors));
        builder
    }

    /// Decides on the headers of a call.
    ///
    /// # Errors
    ///
    /// The call is refused; the result is the response.
    pub(super) fn admit(&self, parts: &Parts) -> Result<Admission, Refused> {
        if parts.method != Method::POST {
            let mut response = plain(StatusCode::METHOD_NOT_ALLOWED);
            response.0.headers_mut().insert(header::ALLOW, HeaderValue::from_static("POST"));
            return Err(response);
        }
        if !is_grpc(parts.headers.get(header::CONTENT_TYPE)) {
            return Err(plain(StatusCode::UNSUPPORTED_MEDIA_TYPE));
        }
        if metadata::size(&parts.headers) > self.header_bytes as usize {
            let text = self.header_refusal.replace("{limit}", &self.header_bytes.to_string());
            return Err(refusal(Code::ResourceExhausted, &text));
        }
        let path = parts.uri.path();
        let Some(&route) = self.routes.get(path) else {
            return Err(refusal(Code::Unimplemented, &self.unknown_method.replace("{path}", path)));
        };
        let timeout = timeout::read(&parts.headers).map_err(|text| refusal(Code::Internal, text))?;
        let encoding = Encoding::of(&parts.headers).map_err(|name| {
            let text = format!("grpc-encoding: {name} is not supported; use one of {ACCEPTED}");
            let mut response = refusal(Code::Unimplemented, &text);
            response.0.headers_mut().insert("grpc-accept-encoding", HeaderValue::from_static(ACCEPTED));
            response
        })?;
        Ok(Admission { route, encoding, timeout })
    }
}

fn plain(status: StatusCode) -> Refused {
    let mut response = Response::new(());
    *response.status_mut() = status;
    Refused(Box::new(response))
}

fn refusal(code: Code, text: &str) -> Refused {
    Refused(Box::new(trailers_only(code as u8, text)))
}

/// Whether a content type is gRPC's, with or without the name of a message format.
fn is_grpc(content_type: Option<&HeaderValue>) -> bool {
    let rest = content_type.and_then(|value| value.as_bytes().strip_prefix(b"application/grpc"));
    matches!(rest, Some([] | [b'+' | b';', ..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn content_types_of_grpc_are_accepted_and_no_others() {
        for (text, accepted) in [
            ("application/grpc", true),
            ("application/grpc+proto", true),
            ("application/grpc;charset=utf-8", true),
            ("application/grpc-web", false),
            ("application/json", false),
            ("", false),
        ] {
            assert_eq!(is_grpc(Some(&HeaderValue::from_static(text))), accepted, "{text}");
        }
        assert!(!is_grpc(None));
    }
}
