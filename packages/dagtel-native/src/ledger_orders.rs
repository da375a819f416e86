//! `processors.ledger.order.Oldest`, and the digests of assets that tombstones count.

use crate::ledger_parts::text;
use ahash::AHashMap;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyList};
use std::sync::{Mutex, MutexGuard, PoisonError};

const DIGESTS: usize = 4096;

/// An order of a table's rows; its oldest is Python's to find.
pub struct Oldest {
    heap: Py<PyList>,
    slack: usize,
    push: Py<PyAny>,
    rebuild: Py<PyAny>,
}

impl Oldest {
    /// `parts`: `Oldest.parts()`.
    pub fn new(parts: &Bound<'_, PyAny>) -> PyResult<Self> {
        let (heap, slack, push, rebuild) = parts.extract()?;
        Ok(Self { heap, slack, push, rebuild })
    }

    /// A row was put into a table that now has so many.
    pub fn add(&self, key: &Bound<'_, PyAny>, stamp: &Bound<'_, PyAny>, rows: usize) -> PyResult<()> {
        let heap = self.heap.bind(key.py());
        self.push.bind(key.py()).call1((heap, (stamp, key)))?;
        if heap.len() > 2 * rows + self.slack {
            self.rebuild.call0(key.py())?;
        }
        Ok(())
    }
}

/// `processors.ledger.book.digest`, and what it said of many assets.
pub struct Digests {
    digest: Py<PyAny>,
    known: Mutex<AHashMap<String, [u8; 4]>>,
}

impl Digests {
    pub fn new(digest: Py<PyAny>) -> Self {
        Self { digest, known: Mutex::default() }
    }

    /// Puts the asset's digest at the end of these.
    pub fn add(&self, asset: &Bound<'_, PyAny>, digests: &mut Vec<u8>) -> PyResult<()> {
        let name = text(asset).ok();
        if let Some(digest) = name.and_then(|name| self.known().get(name).copied()) {
            digests.extend_from_slice(&digest);
            return Ok(());
        }
        let digest = self.digest.bind(asset.py()).call1((asset,))?;
        let digest = digest.cast::<PyBytes>()?.as_bytes();
        digests.extend_from_slice(digest);
        if let (Some(name), Ok(digest)) = (name, digest.try_into()) {
            let mut known = self.known();
            if known.len() >= DIGESTS {
                known.clear();
            }
            known.insert(name.to_owned(), digest);
        }
        Ok(())
    }

    fn known(&self) -> MutexGuard<'_, AHashMap<String, [u8; 4]>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
