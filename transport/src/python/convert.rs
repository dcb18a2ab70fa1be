//! Translates between values of Python and of the core.

use bytes::Bytes;
use pyo3::exceptions::{PyKeyError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyList, PyString, PyTuple};

use crate::event::Event;
use crate::messages::frame;
use crate::metadata::{self, Value};
use http::HeaderMap;

/// The largest window that HTTP/2 allows, in bytes.
const LARGEST_WINDOW: u32 = (1 << 31) - 1;

/// Makes the list of events that Python gets.
pub(super) fn events(py: Python<'_>, events: Vec<Event>) -> PyResult<Bound<'_, PyList>> {
    PyList::new(
        py,
        events
            .into_iter()
            .map(|event| (event.kind as u8, event.call, event.index, event.number, PyBytes::new(py, &event.data))),
    )
}

/// Frames a message.
pub(super) fn framed(message: &[u8]) -> PyResult<Bytes> {
    frame(message).ok_or_else(|| PyValueError::new_err("message: 4 GiB or more; send less"))
}

/// Reads pairs of metadata into headers.
pub(super) fn write_metadata(headers: &mut HeaderMap, pairs: &Bound<'_, PyAny>) -> PyResult<()> {
    for pair in pairs.try_iter()? {
        let (key, value): (String, Bound<'_, PyAny>) = pair?.extract()?;
        let value = if let Ok(bytes) = value.cast::<PyBytes>() {
            Value::Binary(bytes.as_bytes().to_vec())
        } else {
            Value::Text(value.extract()?)
        };
        metadata::write(headers, &key, &value).map_err(PyValueError::new_err)?;
    }
    Ok(())
}

/// Makes the list of pairs of metadata that Python gets.
pub(super) fn read_metadata<'py>(py: Python<'py>, headers: &HeaderMap) -> PyResult<Bound<'py, PyList>> {
    let list = PyList::empty(py);
    for (key, value) in metadata::read(headers) {
        let value = match value {
            Value::Text(text) => PyString::new(py, &text).into_any(),
            Value::Binary(bytes) => PyBytes::new(py, &bytes).into_any(),
        };
        list.append(PyTuple::new(py, [PyString::new(py, key).into_any(), value])?)?;
    }
    Ok(list)
}

/// The error for a call that has ended.
pub(super) fn ended(call: u64) -> PyErr {
    PyKeyError::new_err(call)
}

/// Checks the size of a window.
pub(super) fn window(name: &str, bytes: u32) -> PyResult<u32> {
    within(name, bytes, 1, LARGEST_WINDOW)
}

/// Checks a number.
pub(super) fn within<T: Copy + PartialOrd + std::fmt::Display>(name: &str, value: T, least: T, most: T) -> PyResult<T> {
    if value < least || value > most {
        return Err(PyValueError::new_err(format!("{name}: {value} is out of range; use {least} to {most}")));
    }
    Ok(value)
}
