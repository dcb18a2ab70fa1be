//! What connections of a client share, and the requests that they make.

use http::header::{CONTENT_TYPE, TE, USER_AGENT};
use http::uri::{Authority, PathAndQuery, Scheme};
use http::{HeaderMap, HeaderValue, Method, Request, Uri, Version};

use crate::encoding::ACCEPTED;
use crate::messages::MessageLimit;
use crate::timeout;

/// What connections of a client share. `_core.pyi` describes the fields.
#[derive(Clone, Debug)]
#[allow(missing_docs)]
pub struct ClientSettings {
    pub authority: Authority,
    pub scheme: Scheme,
    pub user_agent: HeaderValue,
    pub message: MessageLimit,
    pub header_bytes: u32,
    pub window_bytes: u32,
    pub connection_window_bytes: u32,
    pub output_bytes: usize,
}

impl ClientSettings {
    /// Starts the handshake of a connection.
    pub(super) fn builder(&self) -> h2::client::Builder {
        let mut builder = h2::client::Builder::new();
        builder
            .enable_push(false)
            .initial_window_size(self.window_bytes)
            .initial_connection_window_size(self.connection_window_bytes)
            .max_header_list_size(self.header_bytes)
            .max_send_buffer_size(self.window_bytes as usize);
        builder
    }

    /// Makes the head of a call. The headers must be its metadata.
    ///
    /// # Errors
    ///
    /// The path is not allowed; the text says so.
    pub fn request(&self, path: &str, mut headers: HeaderMap, timeout_ms: u64) -> Result<Request<()>, String> {
        let target = PathAndQuery::try_from(path).ok().filter(|_| path.starts_with('/'));
        let Some(target) = target else {
            return Err(format!("path: {path:?} is not allowed; use /package.Service/Method"));
        };
        let uri = Uri::builder()
            .scheme(self.scheme.clone())
            .authority(self.authority.clone())
            .path_and_query(target)
            .build()
            .map_err(|error| format!("path: {error}"))?;
        headers.insert(TE, HeaderValue::from_static("trailers"));
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
        headers.insert(USER_AGENT, self.user_agent.clone());
        headers.insert("grpc-accept-encoding", HeaderValue::from_static(ACCEPTED));
        if timeout_ms > 0 {
            let value = HeaderValue::try_from(timeout::write(timeout_ms));
            headers.insert("grpc-timeout", value.map_err(|error| format!("timeout: {error}"))?);
        }
        let mut request = Request::new(());
        *request.method_mut() = Method::POST;
        *request.version_mut() = Version::HTTP_2;
        *request.uri_mut() = uri;
        *request.headers_mut() = headers;
        Ok(request)
    }
}
