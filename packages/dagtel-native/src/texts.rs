//! The same object for the same short text: ids, keys and names come again with every event.
//!
//! A dict then finds them by identity and with the hash that they keep, and none is made or freed.

use ahash::AHashMap;
use pyo3::prelude::*;
use pyo3::types::PyString;

const MOST: usize = 8192;
const LONGEST: usize = 128;

/// At most `MOST` texts; when they are more it begins anew.
#[derive(Default)]
pub struct Texts {
    known: AHashMap<Box<str>, Py<PyString>>,
}

impl Texts {
    /// The text as a Python string, made once.
    #[inline]
    pub fn get(&mut self, py: Python<'_>, text: &str) -> Py<PyString> {
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
