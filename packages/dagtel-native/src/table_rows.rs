//! `pipeline.runtime.table_rows.TableRows`: the dicts of a state table, and what changes them.

use crate::slots::make;
use pyo3::ffi;
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PySet, PyTuple, PyType};

/// The base of a class whose `marks` are what stands for a deleted row in `_dirty` and for none in `_undo`, the encoder,
/// and the class that holds what it made of a row about to be edited.
///
/// It needs no `__clear__`: a cycle goes through one of the dicts or the set, which have their own.
#[pyclass(subclass, generic, frozen)]
pub struct TableRows {
    #[pyo3(get, name = "_rows")]
    rows: Py<PyDict>,
    #[pyo3(get, name = "_dirty")]
    dirty: Py<PyDict>,
    #[pyo3(get, name = "_born")]
    born: Py<PySet>,
    #[pyo3(get, name = "_undo")]
    undo: Py<PyDict>,
    gone: Py<PyAny>,
    missing: Py<PyAny>,
    encode: Py<PyAny>,
    copy: Py<PyType>,
}

#[pymethods]
impl TableRows {
    /// The arguments are for the subclass.
    #[new]
    #[classmethod]
    #[pyo3(signature = (*_args, **_named))]
    fn new(
        class: &Bound<'_, PyType>,
        _args: &Bound<'_, PyTuple>,
        _named: Option<&Bound<'_, PyDict>>,
    ) -> PyResult<Self> {
        let py = class.py();
        let (gone, missing, encode, copy) = class.getattr(intern!(py, "marks"))?.extract()?;
        let dict = || PyDict::new(py).unbind();
        let born = PySet::empty(py)?.unbind();
        Ok(Self { rows: dict(), dirty: dict(), born, undo: dict(), gone, missing, encode, copy })
    }

    #[pyo3(signature = (key, value, /))]
    pub fn put(&self, key: &Bound<'_, PyAny>, value: &Bound<'_, PyAny>) -> PyResult<()> {
        let py = key.py();
        let (rows, dirty) = (self.rows.bind(py), self.dirty.bind(py));
        let old = rows.get_item(key)?;
        self.note(key, old.as_ref().unwrap_or(self.missing.bind(py)))?;
        let changed = dirty.len();
        dirty.set_item(key, value)?;
        if old.is_none() && dirty.len() > changed {
            self.born.bind(py).add(key)?;
        }
        rows.set_item(key, value)
    }

    #[pyo3(signature = (key, /))]
    pub fn edit<'py>(&self, key: &Bound<'py, PyAny>) -> PyResult<Option<Bound<'py, PyAny>>> {
        let py = key.py();
        let Some(value) = self.rows.bind(py).get_item(key)?.filter(|value| !value.is_none()) else { return Ok(None) };
        let undo = self.undo.bind(py);
        if !undo.contains(key)? {
            let data = self.encode.bind(py).call1((&value,))?;
            undo.set_item(key, make(&self.copy, py, [data.as_ptr()])?)?;
        }
        self.dirty.bind(py).set_item(key, &value)?;
        Ok(Some(value))
    }

    #[pyo3(signature = (key, /))]
    pub fn delete(&self, key: &Bound<'_, PyAny>) -> PyResult<()> {
        let py = key.py();
        let (rows, dirty) = (self.rows.bind(py), self.dirty.bind(py));
        let Some(old) = rows.get_item(key)? else { return Ok(()) };
        self.note(key, &old)?;
        rows.del_item(key)?;
        if self.born.bind(py).discard(key)? {
            dirty.del_item(key)
        } else {
            dirty.set_item(key, &self.gone)
        }
    }

    fn __contains__(&self, key: &Bound<'_, PyAny>) -> PyResult<bool> {
        self.rows.bind(key.py()).contains(key)
    }

    pub fn __len__(&self, py: Python<'_>) -> usize {
        self.rows.bind(py).len()
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        for dict in [&self.rows, &self.dirty, &self.undo] {
            visit.call(dict)?;
        }
        for mark in [&self.gone, &self.missing, &self.encode] {
            visit.call(mark)?;
        }
        visit.call(&self.born)?;
        visit.call(&self.copy)
    }
}

impl TableRows {
    /// To be read.
    pub fn rows<'py>(&self, py: Python<'py>) -> &Bound<'py, PyDict> {
        self.rows.bind(py)
    }

    /// For `undo`, what the row was when the call began: `_undo.setdefault(key, old)`.
    #[inline]
    fn note(&self, key: &Bound<'_, PyAny>, old: &Bound<'_, PyAny>) -> PyResult<()> {
        // SAFETY: all three are live; what it gives is borrowed and not used.
        let held = unsafe { ffi::PyDict_SetDefault(self.undo.as_ptr(), key.as_ptr(), old.as_ptr()) };
        if held.is_null() {
            return Err(PyErr::fetch(key.py()));
        }
        Ok(())
    }
}
