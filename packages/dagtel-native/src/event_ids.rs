//! `processors.redelivery.EventIds`: a number for each event, the same when it comes again.

use crate::log_facts::text;
use crate::record_bytes::Headers;
use crate::slots::{next_few, Slots};
use ahash::AHashMap;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyList, PyType};

/// Digits of a number that surely fits in 64 bits, and one more.
const SAFE: usize = 19;
/// Instance and run id of more bytes are for Python: what is kept at hand stays small.
const LONGEST: usize = 256;

/// Ids of events that carry `stored` and `instance` in headers, the first a number of fewer than `digits` digits.
///
/// `digest`: `(instance, run id)` → the number that is added to it, kept at hand for `most` of them.
#[pyclass]
pub struct EventIds {
    event: Slots<2>,
    stored: String,
    instance: String,
    digits: usize,
    digest: Py<PyAny>,
    most: usize,
    runs: AHashMap<Box<[u8]>, u64>,
    key: Vec<u8>,
}

#[pymethods]
impl EventIds {
    #[new]
    fn new(
        event: &Bound<'_, PyType>,
        stored: String,
        instance: String,
        digits: usize,
        digest: Py<PyAny>,
        most: usize,
    ) -> PyResult<Self> {
        Ok(Self {
            event: Slots::new(event, ["headers", "run_id"])?,
            stored,
            instance,
            digits: digits.min(SAFE),
            digest,
            most,
            runs: AHashMap::new(),
            key: Vec::new(),
        })
    }

    /// The ids of these events. `rest`: event → id, asked for every event that is not as a bridge sends it.
    fn of<'py>(&mut self, events: &Bound<'py, PyAny>, rest: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyList>> {
        let found = PyList::empty(events.py());
        let mut events = events.try_iter()?;
        let mut near = Vec::new();
        while next_few(&mut events, &mut near)? {
            near.iter().for_each(|event| self.event.fetch(event));
            near.iter().filter_map(|event| self.event.get(event, 0)).for_each(|headers| Headers::fetch(&headers));
            for event in &near {
                match self.id(event)? {
                    Some(id) => found.append(id)?,
                    None => found.append(rest.call1((event,))?)?,
                }
            }
        }
        Ok(found)
    }
}

impl EventIds {
    #[inline]
    fn id(&mut self, event: &Bound<'_, PyAny>) -> PyResult<Option<u64>> {
        let Some([headers, run_id]) = self.event.read(event) else { return Ok(None) };
        let Some(headers) = Headers::of(&headers) else { return Ok(None) };
        let (mut stored, mut instance) = (None, None);
        for pair in headers.pairs() {
            let Some((name, value)) = pair else { return Ok(None) };
            let place = match name {
                name if name == self.stored => &mut stored,
                name if name == self.instance => &mut instance,
                _ => continue,
            };
            place.get_or_insert(value);
            if stored.is_some() && instance.is_some() {
                break;
            }
        }
        let (Some(stored), Some(instance)) = (stored, instance) else { return Ok(None) };
        let Some(stored) = self.number(stored) else { return Ok(None) };
        Ok(self.run(instance, &run_id)?.and_then(|run| run.checked_add(stored)))
    }

    fn number(&self, digits: &[u8]) -> Option<u64> {
        if digits.is_empty() || digits.len() >= self.digits || !digits.iter().all(u8::is_ascii_digit) {
            return None;
        }
        Some(digits.iter().fold(0, |number, digit| number * 10 + u64::from(digit - b'0')))
    }

    fn run(&mut self, instance: &[u8], run_id: &Bound<'_, PyAny>) -> PyResult<Option<u64>> {
        let Some(run) = text(run_id) else { return Ok(None) };
        if instance.len() + run.len() > LONGEST {
            return Ok(None);
        }
        self.key.clear();
        self.key.extend_from_slice(&instance.len().to_le_bytes());
        self.key.extend_from_slice(instance);
        self.key.extend_from_slice(run.as_bytes());
        if let Some(known) = self.runs.get(self.key.as_slice()) {
            return Ok(Some(*known));
        }
        let py = run_id.py();
        let made: u64 = self.digest.bind(py).call1((PyBytes::new(py, instance), run_id))?.extract()?;
        if self.runs.len() >= self.most {
            self.runs.clear();
        }
        self.runs.insert(self.key.as_slice().into(), made);
        Ok(Some(made))
    }
}
