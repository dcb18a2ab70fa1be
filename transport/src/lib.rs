//! gRPC over HTTP/2 without I/O: bytes from a peer go in, events come out, and bytes for the peer come out.
//!
//! The Python module `grpc_sansio` is the interface; `python/grpc_sansio/_core.pyi` documents it. Built without the
//! feature `python`, the crate has the same core without a Python, for its tests.

#[forbid(unsafe_code)]
pub mod client;
#[forbid(unsafe_code)]
pub mod closing;
#[forbid(unsafe_code)]
pub mod encoding;
#[forbid(unsafe_code)]
pub mod event;
#[forbid(unsafe_code)]
pub mod http1;
#[forbid(unsafe_code)]
pub mod messages;
#[forbid(unsafe_code)]
pub mod metadata;
#[forbid(unsafe_code)]
mod outbox;
#[forbid(unsafe_code)]
mod pipe;
#[cfg(feature = "python")]
mod python;
#[forbid(unsafe_code)]
mod ready;
#[forbid(unsafe_code)]
pub mod server;
#[forbid(unsafe_code)]
pub mod status;
#[forbid(unsafe_code)]
pub mod timeout;
