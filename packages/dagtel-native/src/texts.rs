//! The same object for the same short text: ids, keys and names come again with every event.
//!
//! A dict then finds them by identity and with the hash that they keep, and none is made or freed.

use ahash::AHashMap;
use pyo3::prelude::*;
use crate::wire::Scalar;
use pyo3::types::{PyBool, PyFloat, PyString};

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

    /// The value as Python has it; None for one that is no scalar.
    pub fn scalar(&mut self, py: Python<'_>, value: &Scalar<'_>) -> PyResult<Option<Py<PyAny>>> {
        Ok(match value {
            Scalar::Other => None,
            Scalar::Null => Some(py.None()),
            Scalar::Bool(value) => Some(PyBool::new(py, *value).to_owned().into_any().unbind()),
            Scalar::Int(value) => Some(value.into_pyobject(py)?.into_any().unbind()),
            Scalar::Float(value) => Some(PyFloat::new(py, *value).into_any().unbind()),
            Scalar::Text(text) => Some(self.get(py, &text.0).into_any()),
        })
    }
}
