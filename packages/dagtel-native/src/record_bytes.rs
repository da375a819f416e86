//! `raw` and `headers` of `pipeline.events.Event`, left in the answer that a record came in until somebody asks for them.
//!
//! Hardly anybody does: made of each record, they took a twelfth of what an event takes.

use crate::fetch::fetch;
use crate::records::header;
use crate::slots::{next_few, Slots};
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyList, PyString, PyTuple, PyType};
use std::ops::Range;

/// What stands in an event's `raw` and in its `headers` for the bytes and for the tuple, and is equal to them.
#[pyclass(module = "dagtel_native")]
pub struct RecordBytes(Lies);

enum Lies {
    InAnswer { answer: Py<PyBytes>, value: Range<usize>, headers: Range<usize> },
    Apart { raw: Py<PyBytes>, headers: Py<PyTuple> },
}

#[pymethods]
impl RecordBytes {
    #[new]
    fn new(raw: Py<PyBytes>, headers: Py<PyTuple>) -> Self {
        Self(Lies::Apart { raw, headers })
    }

    #[getter]
    fn raw(&mut self, py: Python<'_>) -> PyResult<Py<PyBytes>> {
        self.apart(py).map(|(raw, _)| raw.clone_ref(py))
    }

    #[getter]
    fn headers(&mut self, py: Python<'_>) -> PyResult<Py<PyTuple>> {
        self.apart(py).map(|(_, headers)| headers.clone_ref(py))
    }

    fn __eq__(&mut self, other: &Bound<'_, PyAny>) -> PyResult<bool> {
        let py = other.py();
        let (raw, headers) = self.apart(py)?;
        match (other.cast::<PyBytes>(), other.cast::<PyTuple>(), other.cast::<Self>()) {
            (Ok(other), ..) => Ok(raw.bind(py).as_bytes() == other.as_bytes()),
            (_, Ok(other), _) => headers.bind(py).eq(other),
            (.., Ok(other)) => match other.try_borrow_mut() {
                Ok(mut other) => {
                    let (their_raw, their_headers) = other.apart(py)?;
                    Ok(raw.bind(py).as_bytes() == their_raw.as_bytes(py) && headers.bind(py).eq(their_headers)?)
                }
                Err(_) => Ok(true), // it is this one
            },
            _ => Ok(false),
        }
    }

    fn __repr__(&mut self, py: Python<'_>) -> PyResult<String> {
        let (raw, headers) = self.apart(py)?;
        Ok(format!("RecordBytes({}, {})", raw.bind(py).repr()?, headers.bind(py).repr()?))
    }

    fn __reduce__<'py>(&mut self, py: Python<'py>) -> PyResult<(Bound<'py, PyType>, (Py<PyBytes>, Py<PyTuple>))> {
        let (raw, headers) = self.apart(py)?;
        Ok((py.get_type::<Self>(), (raw.clone_ref(py), headers.clone_ref(py))))
    }
}

impl RecordBytes {
    /// Of a record that lies there in the answer.
    pub fn of(answer: Py<PyBytes>, value: Range<usize>, headers: Range<usize>) -> Self {
        Self(Lies::InAnswer { answer, value, headers })
    }

    /// Both, from now on apart from the answer, which is held no more.
    fn apart(&mut self, py: Python<'_>) -> PyResult<(&Py<PyBytes>, &Py<PyTuple>)> {
        if let Lies::InAnswer { answer, value, headers } = &self.0 {
            let answer = answer.as_bytes(py);
            let raw = PyBytes::new(py, &answer[value.clone()]).unbind();
            self.0 = Lies::Apart { raw, headers: made(py, &answer[headers.clone()])?.unbind() };
        }
        match &self.0 {
            Lies::Apart { raw, headers } => Ok((raw, headers)),
            Lies::InAnswer { .. } => unreachable!("they were made above"),
        }
    }
}

/// The headers that lie there, as Python has them.
pub fn made<'py>(py: Python<'py>, mut lying: &[u8]) -> PyResult<Bound<'py, PyTuple>> {
    let mut found = Vec::new();
    while let Some((name, value)) = header(&mut lying) {
        // no name is interned: a sender chooses them, and later Pythons keep for good what is
        found.push((name, value.map(|value| PyBytes::new(py, value))).into_pyobject(py)?);
    }
    PyTuple::new(py, found)
}

/// The headers of an event, wherever they are.
pub enum Headers<'py> {
    Made(Bound<'py, PyTuple>),
    Left(PyRef<'py, RecordBytes>),
}

/// A name and its value.
pub type Pair<'a> = (&'a str, &'a [u8]);

impl<'py> Headers<'py> {
    /// None for what is neither a tuple nor stands for one.
    #[inline]
    pub fn of(carried: &Bound<'py, PyAny>) -> Option<Self> {
        match carried.cast_exact::<RecordBytes>() {
            Ok(left) => Some(Self::Left(left.try_borrow().ok()?)),
            Err(_) => carried.cast_exact().ok().cloned().map(Self::Made),
        }
    }

    /// Has headers that lie in an answer fetched into the cache, for `of` soon after.
    #[inline]
    pub fn fetch(carried: &Bound<'py, PyAny>) {
        let Ok(left) = carried.cast_exact::<RecordBytes>() else { return };
        if let Ok(Lies::InAnswer { answer, headers, .. }) = left.try_borrow().as_deref().map(|left| &left.0) {
            fetch(answer.as_bytes(left.py())[headers.clone()].as_ptr().cast());
        }
    }

    /// Each in its order; None for one that is no pair of a text and bytes.
    #[inline]
    pub fn pairs(&self) -> impl Iterator<Item = Option<Pair<'_>>> {
        let (made, mut lying): (&[Bound<'_, PyAny>], &[u8]) = match self {
            Self::Made(made) => (made.as_slice(), &[]),
            Self::Left(left) => match &left.0 {
                Lies::InAnswer { answer, headers, .. } => (&[], &answer.as_bytes(left.py())[headers.clone()]),
                Lies::Apart { headers, .. } => (headers.bind(left.py()).as_slice(), &[]),
            },
        };
        made.iter()
            .map(pair)
            .chain(std::iter::from_fn(move || header(&mut lying).map(|(name, value)| Some((name, value?)))))
    }
}

#[inline]
fn pair<'a>(made: &'a Bound<'_, PyAny>) -> Option<Pair<'a>> {
    let [name, value] = made.cast_exact::<PyTuple>().ok()?.as_slice() else { return None };
    Some((name.cast_exact::<PyString>().ok()?.to_str().ok()?, value.cast_exact::<PyBytes>().ok()?.as_bytes()))
}

/// Has events that somebody keeps take their bytes out of the answer, which would be held by them as a whole.
#[pyclass(frozen)]
pub struct KeptBytes {
    event: Slots<2>,
}

#[pymethods]
impl KeptBytes {
    #[new]
    fn new(event: &Bound<'_, PyType>) -> PyResult<Self> {
        Ok(Self { event: Slots::new(event, ["raw", "headers"])? })
    }

    /// Of a list that has been processed: those that somebody beside the list holds, or a copy of which. How many.
    fn take_out(&self, events: &Bound<'_, PyList>) -> PyResult<usize> {
        let (mut found, mut rest, mut near) = (0, events.try_iter()?, Vec::new());
        while next_few(&mut rest, &mut near)? {
            near.iter().for_each(|event| self.event.fetch(event));
            for event in &near {
                let Some([raw, headers]) = self.event.read(event) else { continue };
                for (left, other) in [(&raw, &headers), (&headers, &raw)] {
                    let Ok(left) = left.cast_exact::<RecordBytes>() else { continue };
                    // the list and `near` hold the event; the event and we each hold what stands for both
                    let ours = if left.is(other) { 4 } else { 2 };
                    if holders(event) > 2 || holders(left) > ours {
                        left.try_borrow_mut()?.apart(events.py())?;
                        found += 1;
                        break;
                    }
                }
            }
        }
        Ok(found)
    }
}

fn holders<T>(object: &Bound<'_, T>) -> isize {
    // SAFETY: a live object, by its type.
    unsafe { ffi::Py_REFCNT(object.as_ptr()) }
}
