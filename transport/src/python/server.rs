//! The server's classes.

use std::collections::HashMap;
use std::sync::Arc;

use h2::Reason;
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyList, PyTuple};

use super::convert::{ended, events, framed, read_metadata, window, within, write_metadata};
use crate::messages::MessageLimit;
use crate::server::{self, Route, RouteKind};
use crate::status::{LAST_CODE, trailers};

/// The kinds of routes by the names that Python has for them.
pub(super) const ROUTE_KINDS: [(&str, RouteKind); 3] = [
    ("ROUTE_UNARY", RouteKind::Unary),
    ("ROUTE_UNARY_GUARDED", RouteKind::GuardedUnary),
    ("ROUTE_STREAM", RouteKind::Stream),
];

#[pyclass(frozen, module = "grpc_sansio")]
pub(super) struct ServerSettings(Arc<server::ServerSettings>);

#[pymethods]
impl ServerSettings {
    #[new]
    #[pyo3(signature = (
        routes,
        *,
        message_bytes = 4 * 1024 * 1024,
        message_refusal = "received message larger than max ({size} vs. {limit})",
        unknown_method = "unknown method {path}".to_owned(),
        header_bytes = 16 * 1024,
        header_refusal = "metadata: more than {limit} bytes".to_owned(),
        http1_refusal = "this port serves gRPC over HTTP/2; HTTP/1 is not supported".to_owned(),
        concurrent_calls = 1_000,
        window_bytes = 64 * 1024,
        connection_window_bytes = 1024 * 1024,
        output_bytes = 256 * 1024,
        pending_resets = 100,
        remembered_resets = 100,
        local_errors = 1_024,
    ))]
    #[expect(clippy::too_many_arguments, reason = "they are keywords in Python")]
    fn new(
        routes: &Bound<'_, PyAny>,
        message_bytes: u32,
        message_refusal: &str,
        unknown_method: String,
        header_bytes: u32,
        header_refusal: String,
        http1_refusal: String,
        concurrent_calls: u32,
        window_bytes: u32,
        connection_window_bytes: u32,
        output_bytes: usize,
        pending_resets: usize,
        remembered_resets: usize,
        local_errors: usize,
    ) -> PyResult<Self> {
        let mut table = HashMap::new();
        for pair in routes.call_method0("items")?.try_iter()? {
            let (path, (index, kind)): (String, (u32, usize)) = pair?.extract()?;
            let Some((_, kind)) = ROUTE_KINDS.get(kind) else {
                return Err(PyValueError::new_err(format!("routes: {path} has the kind {kind}; use a ROUTE constant")));
            };
            table.insert(path, Route { index, kind: *kind });
        }
        Ok(Self(Arc::new(server::ServerSettings {
            routes: table,
            message: MessageLimit { bytes: message_bytes as usize, refusal: message_refusal.into() },
            unknown_method,
            header_bytes: within("header_bytes", header_bytes, 1, 1 << 30)?,
            header_refusal,
            http1_refusal,
            concurrent_calls: within("concurrent_calls", concurrent_calls, 1, 1 << 30)?,
            window_bytes: window("window_bytes", window_bytes)?,
            connection_window_bytes: window("connection_window_bytes", connection_window_bytes)?,
            output_bytes: within("output_bytes", output_bytes, 1, 1 << 40)?,
            pending_resets,
            remembered_resets,
            local_errors,
        })))
    }
}

#[pyclass(module = "grpc_sansio")]
pub(super) struct ServerConnection(server::ServerConnection);

#[pymethods]
impl ServerConnection {
    #[new]
    fn new(settings: &ServerSettings) -> Self {
        Self(server::ServerConnection::new(settings.0.clone()))
    }

    fn receive<'py>(&mut self, py: Python<'py>, data: &[u8]) -> PyResult<Bound<'py, PyList>> {
        self.0.receive(data);
        self.events(py)
    }

    fn events<'py>(&mut self, py: Python<'py>) -> PyResult<Bound<'py, PyList>> {
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

    fn metadata<'py>(&self, py: Python<'py>, call: u64) -> PyResult<Bound<'py, PyList>> {
        read_metadata(py, self.0.headers(call).ok_or_else(|| ended(call))?)
    }

    fn authority(&self, call: u64) -> PyResult<&str> {
        self.0.authority(call).ok_or_else(|| ended(call))
    }

    fn admit(&mut self, call: u64) {
        self.0.admit(call);
    }

    fn reply(&mut self, call: u64, message: &[u8]) -> PyResult<()> {
        self.0.reply(call, framed(message)?);
        Ok(())
    }

    fn send(&mut self, call: u64, message: &[u8]) -> PyResult<()> {
        self.0.send(call, framed(message)?);
        Ok(())
    }

    #[pyo3(signature = (call, code = 0, text = "", details = b"".as_slice(), metadata = None))]
    fn finish(
        &mut self,
        py: Python<'_>,
        call: u64,
        code: u8,
        text: &str,
        details: &[u8],
        metadata: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<()> {
        let mut trailers = trailers(within("code", code, 0, LAST_CODE)?, text, details);
        let none = PyTuple::empty(py).into_any();
        write_metadata(&mut trailers, metadata.unwrap_or(&none))?;
        self.0.finish(call, trailers);
        Ok(())
    }

    #[pyo3(signature = (call, error_code = 8))]
    fn reset(&mut self, call: u64, error_code: u32) {
        self.0.reset(call, Reason::from(error_code));
    }

    fn consumed(&mut self, call: u64, size: u64) {
        self.0.consumed(call, size);
    }

    fn ping(&mut self) -> bool {
        self.0.ping()
    }

    fn drain(&mut self) {
        self.0.drain();
    }

    #[pyo3(signature = (error_code = 0))]
    fn close(&mut self, error_code: u32) {
        self.0.close(Reason::from(error_code));
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
    fn open_calls(&self) -> usize {
        self.0.open_calls()
    }

    #[getter]
    fn last_call(&self) -> u64 {
        self.0.last_call()
    }

    #[getter]
    fn held_bytes(&mut self) -> usize {
        self.0.held_bytes()
    }

    #[getter]
    fn unsent_bytes(&self) -> usize {
        self.0.unsent_bytes()
    }

    fn call_held_bytes(&mut self, call: u64) -> usize {
        self.0.call_held_bytes(call)
    }

    fn call_unsent_bytes(&self, call: u64) -> usize {
        self.0.call_unsent_bytes(call)
    }
}
