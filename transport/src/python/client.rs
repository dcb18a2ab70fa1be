//! The client's classes.

use std::sync::Arc;

use http::uri::{Authority, Scheme};
use http::{HeaderMap, HeaderValue};
use pyo3::create_exception;
use pyo3::exceptions::{PyException, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyList};

use super::convert::{ended, events, framed, read_metadata, window, within, write_metadata};
use crate::client::{self, CannotStart};
use crate::messages::MessageLimit;

create_exception!(grpc_sansio, ConnectionClosedError, PyException);

fn cannot_start(error: &CannotStart) -> PyErr {
    ConnectionClosedError::new_err(error.0)
}

#[pyclass(frozen, module = "grpc_sansio")]
pub(super) struct ClientSettings(Arc<client::ClientSettings>);

#[pymethods]
impl ClientSettings {
    #[new]
    #[pyo3(signature = (
        authority,
        *,
        scheme = "http",
        user_agent = "grpc-sansio",
        message_bytes = 4 * 1024 * 1024,
        message_refusal = "received message larger than max ({size} vs. {limit})",
        header_bytes = 16 * 1024,
        window_bytes = 64 * 1024,
        connection_window_bytes = 1024 * 1024,
        output_bytes = 256 * 1024,
    ))]
    #[expect(clippy::too_many_arguments, reason = "they are keywords in Python")]
    fn new(
        authority: &str,
        scheme: &str,
        user_agent: &str,
        message_bytes: u32,
        message_refusal: &str,
        header_bytes: u32,
        window_bytes: u32,
        connection_window_bytes: u32,
        output_bytes: usize,
    ) -> PyResult<Self> {
        let scheme = match scheme {
            "http" => Scheme::HTTP,
            "https" => Scheme::HTTPS,
            _ => return Err(PyValueError::new_err(format!("scheme: {scheme:?} is not allowed; use http or https"))),
        };
        Ok(Self(Arc::new(client::ClientSettings {
            authority: Authority::try_from(authority)
                .map_err(|error| PyValueError::new_err(format!("authority: {authority:?}: {error}")))?,
            scheme,
            user_agent: HeaderValue::from_str(user_agent)
                .map_err(|error| PyValueError::new_err(format!("user_agent: {user_agent:?}: {error}")))?,
            message: MessageLimit { bytes: message_bytes as usize, refusal: message_refusal.into() },
            header_bytes: within("header_bytes", header_bytes, 1, 1 << 30)?,
            window_bytes: window("window_bytes", window_bytes)?,
            connection_window_bytes: window("connection_window_bytes", connection_window_bytes)?,
            output_bytes: within("output_bytes", output_bytes, 1, 1 << 40)?,
        })))
    }
}

#[pyclass(module = "grpc_sansio")]
pub(super) struct ClientConnection(client::ClientConnection);

impl ClientConnection {
    fn request(&self, path: &str, metadata: Option<&Bound<'_, PyAny>>, timeout_ms: u64) -> PyResult<http::Request<()>> {
        let mut headers = HeaderMap::with_capacity(8);
        if let Some(pairs) = metadata {
            write_metadata(&mut headers, pairs)?;
        }
        self.0.request(path, headers, timeout_ms).map_err(PyValueError::new_err)
    }
}

#[pymethods]
impl ClientConnection {
    #[new]
    fn new(settings: &ClientSettings) -> Self {
        Self(client::ClientConnection::new(settings.0.clone()))
    }

    fn receive<'py>(&mut self, py: Python<'py>, data: &[u8]) -> PyResult<Bound<'py, PyList>> {
        self.0.receive(data);
        events(py, self.0.take_events())
    }

    fn events<'py>(&mut self, py: Python<'py>) -> PyResult<Bound<'py, PyList>> {
        self.0.forget();
        events(py, self.0.take_events())
    }

    fn data_to_send<'py>(&mut self, py: Python<'py>) -> Bound<'py, PyBytes> {
        self.0.take_output(|data| PyBytes::new(py, data))
    }

    #[getter]
    fn more_to_send(&self) -> bool {
        self.0.has_more()
    }

    #[getter]
    fn reading(&self) -> bool {
        self.0.is_reading()
    }

    #[pyo3(signature = (path, message, metadata = None, timeout_ms = 0))]
    fn unary(
        &mut self,
        path: &str,
        message: &[u8],
        metadata: Option<&Bound<'_, PyAny>>,
        timeout_ms: u64,
    ) -> PyResult<u64> {
        let request = self.request(path, metadata, timeout_ms)?;
        self.0.unary(request, framed(message)?).map_err(|error| cannot_start(&error))
    }

    #[pyo3(signature = (path, metadata = None, timeout_ms = 0))]
    fn stream(&mut self, path: &str, metadata: Option<&Bound<'_, PyAny>>, timeout_ms: u64) -> PyResult<u64> {
        let request = self.request(path, metadata, timeout_ms)?;
        self.0.stream(request).map_err(|error| cannot_start(&error))
    }

    fn send(&mut self, call: u64, message: &[u8]) -> PyResult<()> {
        self.0.send(call, framed(message)?);
        Ok(())
    }

    fn half_close(&mut self, call: u64) {
        self.0.half_close(call);
    }

    fn cancel(&mut self, call: u64) {
        self.0.cancel(call);
    }

    fn consumed(&mut self, call: u64, size: u64) {
        self.0.consumed(call, size);
    }

    fn metadata<'py>(&self, py: Python<'py>, call: u64) -> PyResult<Bound<'py, PyList>> {
        read_metadata(py, self.0.headers(call).ok_or_else(|| ended(call))?)
    }

    fn trailers<'py>(&self, py: Python<'py>, call: u64) -> PyResult<Bound<'py, PyList>> {
        read_metadata(py, self.0.trailers(call).ok_or_else(|| ended(call))?)
    }

    fn ping(&mut self) -> bool {
        self.0.ping()
    }

    fn close(&mut self) {
        self.0.close();
    }

    #[getter]
    fn closed(&self) -> bool {
        self.0.is_closed()
    }

    #[getter]
    fn draining(&self) -> bool {
        self.0.is_draining()
    }

    #[getter]
    fn ready(&self) -> bool {
        self.0.is_ready()
    }

    #[getter]
    fn open_calls(&self) -> usize {
        self.0.open_calls()
    }

    #[getter]
    fn concurrent_calls(&self) -> usize {
        self.0.concurrent_calls()
    }

    #[getter]
    fn held_bytes(&mut self) -> usize {
        self.0.held_bytes()
    }

    #[getter]
    fn unsent_bytes(&self) -> usize {
        self.0.unsent_bytes()
    }

    fn call_unsent_bytes(&self, call: u64) -> usize {
        self.0.call_unsent_bytes(call)
    }
}
