//! `pipeline.encoded_rows.EncodedRows`: rows that are kept encoded, those put last at hand.

use crate::table_rows::TableRows;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyTuple};

/// The table and the dicts of one, changed as its methods of the same names do.
pub struct EncodedRows {
    rows: Py<TableRows>,
    recent: Py<PyDict>,
    same: Py<PyDict>,
    at_hand: usize,
    alike: usize,
    encode: Py<PyAny>,
}

impl EncodedRows {
    /// `parts`: `EncodedRows.parts()`.
    pub fn new(parts: &Bound<'_, PyAny>) -> PyResult<Self> {
        let (rows, recent, same, at_hand, alike, encode) = parts.extract()?;
        Ok(Self { rows, recent, same, at_hand, alike, encode })
    }

    pub fn put(&self, key: &Bound<'_, PyAny>, value: &Bound<'_, PyAny>) -> PyResult<()> {
        let py = key.py();
        let (same, recent) = (self.same.bind(py), self.recent.bind(py));
        let made = self.encode.bind(py).call1((value,))?;
        let row = match same.get_item(&made)? {
            Some(known) => known,
            None => {
                let copy = PyBytes::new(py, made.cast::<PyBytes>()?.as_bytes()).into_any();
                same.set_item(&copy, &copy)?;
                copy
            }
        };
        if same.len() > self.alike {
            same.clear();
        }
        self.rows.get().put(key, &row)?;
        if recent.len() >= self.at_hand {
            recent.clear();
        }
        recent.set_item(key, PyTuple::new(py, [&row, value])?)
    }

    pub fn delete(&self, key: &Bound<'_, PyAny>) -> PyResult<()> {
        self.rows.get().delete(key)?;
        let recent = self.recent.bind(key.py());
        if recent.contains(key)? {
            recent.del_item(key)?;
        }
        Ok(())
    }

    pub fn contains(&self, key: &Bound<'_, PyAny>) -> PyResult<bool> {
        self.rows.get().rows(key.py()).contains(key)
    }

    pub fn len(&self, py: Python<'_>) -> usize {
        self.rows.get().rows(py).len()
    }
}
