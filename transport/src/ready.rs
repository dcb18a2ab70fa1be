//! The list of calls for which h2 has news. Waking is all that h2 needs of an async runtime.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Wake, Waker};

/// The calls that h2 woke since the last `take`. Clones share the list.
#[derive(Clone, Default)]
pub struct Ready(Arc<Mutex<Vec<u64>>>);

impl Ready {
    /// Adds a call.
    pub fn push(&self, call: u64) {
        let mut calls = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if calls.last() != Some(&call) {
            calls.push(call);
        }
    }

    /// Moves the calls into `into`, which must be empty.
    pub fn take(&self, into: &mut Vec<u64>) {
        std::mem::swap(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner), into);
    }

    /// Makes a waker that adds a call.
    pub fn waker(&self, call: u64) -> Waker {
        Waker::from(Arc::new(Bell { call, ready: self.clone() }))
    }
}

struct Bell {
    call: u64,
    ready: Ready,
}

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.ready.push(self.call);
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.ready.push(self.call);
    }
}

/// Calls by their number. The numbers are ours, so that no peer can choose keys that collide.
pub type Calls<T> = HashMap<u64, T, BuildHasherDefault<NumberHasher>>;

/// Spreads consecutive numbers over all bits.
#[derive(Default)]
pub struct NumberHasher(u64);

impl Hasher for NumberHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.write_u64(self.0 ^ u64::from(*byte));
        }
    }

    fn write_u64(&mut self, number: u64) {
        self.0 = number.wrapping_mul(0x9E37_79B9_7F4A_7C15);
    }
}
