//! The same object for the same short text: ids, keys and names come again with every event.
//!
//! A dict then finds them by identity and with the hash that they keep, and none is made or freed.

use ahash::AHashMap;
use pyo3::prelude::*;
use pyo3::types::PyString;

const MOST: usize = 8192;
const LONGEST: usize = 128;
const NEAR: usize = 256;
const INLINE: usize = 40; // a run's id, and most keys

/// At most `MOST` texts; when they are more it begins anew.
pub struct Texts {
    known: AHashMap<Box<str>, Py<PyString>>,
    /// Those that came last, at a place that the text tells, with no pointer between: most come from here.
    near: Vec<Option<Near>>,
}

struct Near {
    length: usize,
    bytes: [u8; INLINE],
    made: Py<PyString>,
}

impl Default for Texts {
    fn default() -> Self {
        Self { known: AHashMap::new(), near: std::iter::repeat_with(|| None).take(NEAR).collect() }
    }
}

impl Texts {
    /// The text as a Python string, made once.
    #[inline]
    pub fn get(&mut self, py: Python<'_>, text: &str) -> Py<PyString> {
        if text.len() > INLINE {
            return self.far(py, text);
        }
        let place = place(text.as_bytes());
        if let Some(near) = &self.near[place] {
            if near.bytes[..near.length] == *text.as_bytes() {
                return near.made.clone_ref(py);
            }
        }
        let made = self.far(py, text);
        let mut bytes = [0; INLINE];
        bytes[..text.len()].copy_from_slice(text.as_bytes());
        self.near[place] = Some(Near { length: text.len(), bytes, made: made.clone_ref(py) });
        made
    }

    fn far(&mut self, py: Python<'_>, text: &str) -> Py<PyString> {
        if text.len() > LONGEST {
            return PyString::new(py, text).unbind();
        }
        if let Some(found) = self.known.get(text) {
            return found.clone_ref(py);
        }
        let made = PyString::new(py, text).unbind();
        if self.known.len() >= MOST {
            self.known.clear();
        }
        self.known.insert(text.into(), made.clone_ref(py));
        made
    }
}

/// By its length and last eight bytes, in which ids and keys differ.
#[inline]
fn place(text: &[u8]) -> usize {
    let last = match text.last_chunk() {
        Some(&eight) => u64::from_le_bytes(eight),
        None => text.iter().fold(0, |all, &byte| all << 8 | u64::from(byte)),
    };
    let mixed = (last ^ text.len() as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (mixed >> (u64::BITS - NEAR.trailing_zeros())) as usize
}
