//! For `receivers.kafka_stream`: bytes that are filled where they stand.

use pyo3::exceptions::PyBufferError;
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::PyBytes;
use std::ffi::{c_int, c_void};
use std::ptr::null;

/// Of a size; what is written into its buffer is what `taken` gives.
#[pyclass]
pub struct Filling {
    bytes: Option<Py<PyBytes>>,
    views: usize,
}

#[pymethods]
impl Filling {
    /// Raises MemoryError.
    #[new]
    fn new(py: Python<'_>, size: usize) -> PyResult<Self> {
        let size = ffi::Py_ssize_t::try_from(size)?;
        // SAFETY: new bytes, or null and an exception; none of them is read before `taken`, which is for who filled them.
        let bytes = unsafe { Bound::from_owned_ptr_or_err(py, ffi::PyBytes_FromStringAndSize(null(), size))? };
        Ok(Self { bytes: Some(bytes.cast_into()?.unbind()), views: 0 })
    }

    fn __len__(&self, py: Python<'_>) -> PyResult<usize> {
        self.bytes.as_ref().ok_or_else(gone)?.bind(py).len()
    }

    /// The bytes, which nobody else has yet. BufferError while a view of them is there, and when they were taken before.
    fn taken(&mut self) -> PyResult<Py<PyBytes>> {
        if self.views > 0 {
            return Err(PyBufferError::new_err("it is being filled"));
        }
        self.bytes.take().ok_or_else(gone)
    }

    unsafe fn __getbuffer__(slf: Bound<'_, Self>, view: *mut ffi::Py_buffer, flags: c_int) -> PyResult<()> {
        let mut filling = slf.borrow_mut();
        let bytes = filling.bytes.as_ref().ok_or_else(gone)?.as_ptr();
        // SAFETY: the bytes are ours alone until `taken`, which waits for the last view; `view` is the interpreter's.
        let code = unsafe {
            let (start, size) = (ffi::PyBytes_AsString(bytes).cast::<c_void>(), ffi::PyBytes_Size(bytes));
            ffi::PyBuffer_FillInfo(view, slf.as_ptr(), start, size, 0, flags)
        };
        if code < 0 {
            return Err(PyErr::fetch(slf.py()));
        }
        filling.views += 1;
        Ok(())
    }

    unsafe fn __releasebuffer__(&mut self, _view: *mut ffi::Py_buffer) {
        self.views -= 1;
    }
}

fn gone() -> PyErr {
    PyBufferError::new_err("its bytes were taken")
}
