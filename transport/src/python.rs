//! The Python module. `_core.pyi` documents what it exports.

mod client;
mod convert;
mod server;

use pyo3::prelude::*;

#[pymodule]
mod _core {
    use super::{Bound, PyModule, PyModuleMethods, PyResult};
    use crate::event::Kind;

    #[pymodule_export]
    use super::client::{ClientConnection, ClientSettings, ConnectionClosedError};
    #[pymodule_export]
    use super::server::{ServerConnection, ServerSettings};

    #[pymodule_init]
    fn init(module: &Bound<'_, PyModule>) -> PyResult<()> {
        for (name, kind) in [
            ("CALL", Kind::Call),
            ("UNARY", Kind::Unary),
            ("MESSAGE", Kind::Message),
            ("HALF_CLOSED", Kind::HalfClosed),
            ("RESET", Kind::Reset),
            ("REFUSED", Kind::Refused),
            ("SENT", Kind::Sent),
            ("HEADERS", Kind::Headers),
            ("STATUS", Kind::Status),
            ("GOAWAY", Kind::GoAway),
            ("PONG", Kind::Pong),
            ("CLOSED", Kind::Closed),
        ] {
            module.add(name, kind as u8)?;
        }
        for (name, kind) in super::server::ROUTE_KINDS {
            module.add(name, kind as u8)?;
        }
        Ok(())
    }
}
