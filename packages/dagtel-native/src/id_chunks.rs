//! `processors.redelivery_ids.Ids`: many ids in little memory, which come and go in chunks.

use crate::id_codes::{decoded, encoded};
use crate::id_table::IdTable;
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyList, PySet};
use std::collections::{BTreeMap, VecDeque};

/// Room is made at once for no more than this; for more when they come.
const AT_ONCE: usize = 1 << 22;

/// Ids of a chunk.
enum Held {
    Open(Vec<u64>),
    /// Full, and as they are stored: one copy for both.
    Stored(Py<PyBytes>),
}

/// The same as the Python class, in 14 bytes an id and its code: the table holds the ids, not where they stand.
#[pyclass]
pub struct IdChunks {
    size: usize,
    count: usize,
    known: IdTable,
    chunks: VecDeque<(i64, Held)>,
    last: i64,
    changed: Vec<i64>,
}

#[pymethods]
impl IdChunks {
    /// `most`: how many there will be; `largest`: ids of a chunk, at most; `stored`: chunks by number.
    #[new]
    fn new(py: Python<'_>, most: usize, largest: usize, stored: BTreeMap<i64, Py<PyBytes>>) -> PyResult<Self> {
        let mut ids = Self {
            size: largest.min(most / 16).max(1),
            count: 0,
            known: IdTable::new(most.min(AT_ONCE))?,
            chunks: VecDeque::new(),
            last: -1,
            changed: Vec::new(),
        };
        for (number, bytes) in stored {
            let chunk = numbers(bytes.as_bytes(py))?;
            ids.known.reserve(chunk.len())?;
            ids.known.add_all(&chunk);
            ids.count += chunk.len();
            ids.last = number;
            ids.chunks.push_back((number, Held::Stored(bytes)));
        }
        if let Some((_, last)) = ids.chunks.back_mut() {
            if let Held::Stored(bytes) = last {
                *last = Held::Open(numbers(bytes.as_bytes(py))?);
            }
        }
        Ok(ids)
    }

    fn __len__(&self) -> usize {
        self.count
    }

    /// Add these ids if none of them is here and each stands once, else none; whether it did.
    fn take_new(&mut self, py: Python<'_>, ids: Vec<u64>) -> PyResult<bool> {
        self.known.reserve(ids.len())?;
        let new = self.known.add_new(&ids);
        if new < ids.len() {
            self.known.remove_all(&ids[..new]);
            return Ok(false);
        }
        self.append(py, &ids);
        Ok(true)
    }

    /// Add those of these ids, each of which stands once, that are not here; gives those that are.
    fn take<'py>(&mut self, py: Python<'py>, ids: Vec<u64>) -> PyResult<Bound<'py, PySet>> {
        self.known.reserve(ids.len())?;
        let (mut fresh, mut found) = (Vec::with_capacity(ids.len()), Vec::<u64>::new());
        let mut rest = ids.as_slice();
        while !rest.is_empty() {
            let (new, others) = rest.split_at(self.known.add_new(rest));
            fresh.extend_from_slice(new);
            found.extend(others.first());
            rest = others.get(1..).unwrap_or_default();
        }
        self.append(py, &fresh);
        PySet::new(py, found)
    }

    /// The chunks to which something came since the last time, to be stored: number and bytes.
    fn take_changed<'py>(&mut self, py: Python<'py>) -> PyResult<Bound<'py, PyList>> {
        let taken = PyList::empty(py);
        let Some(oldest) = self.changed.first().copied() else { return Ok(taken) };
        for (number, held) in self.chunks.iter().skip_while(|(number, _)| *number < oldest) {
            if self.changed.binary_search(number).is_err() {
                continue;
            }
            let stored = match held {
                Held::Open(ids) => PyBytes::new(py, &encoded(ids)).unbind(),
                Held::Stored(stored) => stored.clone_ref(py),
            };
            taken.append((*number, stored))?;
        }
        self.changed.clear();
        Ok(taken)
    }

    /// Forget chunks, oldest first, each when `least` younger ids are there; gives their numbers.
    fn strike_beyond(&mut self, py: Python<'_>, least: usize) -> PyResult<Vec<i64>> {
        let mut gone = Vec::new();
        while let Some((number, held)) = self.chunks.front() {
            let ids = match held {
                Held::Open(ids) => ids,
                Held::Stored(stored) => &numbers(stored.as_bytes(py))?,
            };
            if *number == self.last || self.count - ids.len() < least {
                break;
            }
            self.known.remove_all(ids);
            self.count -= ids.len();
            gone.push(*number);
            self.chunks.pop_front();
        }
        Ok(gone)
    }
}

impl IdChunks {
    /// To the last chunk, and to new ones where it is full.
    fn append(&mut self, py: Python<'_>, mut ids: &[u64]) {
        self.count += ids.len();
        while !ids.is_empty() {
            let Some((_, held @ Held::Open(_))) = self.chunks.back_mut() else {
                self.last += 1;
                self.chunks.push_back((self.last, Held::Open(Vec::new())));
                continue;
            };
            let Held::Open(open) = held else { return };
            let (part, others) = ids.split_at(ids.len().min(self.size.saturating_sub(open.len())));
            open.extend_from_slice(part);
            ids = others;
            if !part.is_empty() && self.changed.last() != Some(&self.last) {
                self.changed.push(self.last);
            }
            if open.len() >= self.size {
                *held = Held::Stored(PyBytes::new(py, &encoded(open)).unbind());
            }
        }
    }
}

fn numbers(stored: &[u8]) -> PyResult<Vec<u64>> {
    decoded(stored).ok_or_else(|| PyValueError::new_err("a stored chunk of ids is damaged"))
}
