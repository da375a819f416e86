//! `exporters.json_list.one_list`: requests that hold one list each, as one.

use memchr::memchr;
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::PyBytes;
use std::mem::MaybeUninit;

const END: &[u8] = b"]}";

/// Puts them together without the interpreter's lock: they are copied by the megabyte, beside the loop. None for bodies
/// that are too short to hold a list.
#[pyfunction]
pub fn one_list<'py>(py: Python<'py>, bodies: Vec<Bound<'py, PyBytes>>) -> PyResult<Option<Bound<'py, PyBytes>>> {
    let Some(first) = bodies.first().map(|body| body.as_bytes()) else { return Ok(None) };
    let Some(start) = memchr(b'[', first).map(|at| at + 1) else { return Ok(None) };
    let mut parts = vec![&first[..start]];
    for body in &bodies {
        let body = body.as_bytes();
        let Some(inside) = body.get(start..body.len().saturating_sub(END.len())) else { return Ok(None) };
        if parts.len() > 1 {
            parts.push(b",");
        }
        parts.push(inside);
    }
    parts.push(END);
    let size: usize = parts.iter().map(|part| part.len()).sum();
    // SAFETY: bytes of this size, or none with an exception set; nobody else knows of them until they are filled.
    let (made, room) = unsafe {
        let made = ffi::PyBytes_FromStringAndSize(std::ptr::null(), size as ffi::Py_ssize_t);
        let made = Bound::from_owned_ptr_or_err(py, made)?.cast_into_unchecked::<PyBytes>();
        let start = ffi::PyBytes_AsString(made.as_ptr()).cast::<MaybeUninit<u8>>();
        (made, std::slice::from_raw_parts_mut(start, size))
    };
    py.detach(|| {
        let mut rest = room;
        for part in &parts {
            let (here, after) = rest.split_at_mut(part.len());
            // SAFETY: of one length, and apart: the room is new.
            unsafe { std::ptr::copy_nonoverlapping(part.as_ptr(), here.as_mut_ptr().cast(), part.len()) };
            rest = after;
        }
    });
    Ok(Some(made))
}
