//! `pipeline.trace_ids`: the trace and the span of a step's attempt, or of its run.

use crate::log_facts::{text, whole};
use ahash::AHashMap;
use pyo3::prelude::*;
use pyo3::types::PyString;
use sha2::{Digest, Sha256};

/// (run, step, attempt) → trace and span id, each the same object for the same. At most `most` of them are remembered;
/// when they are more it begins anew. `derive` is asked where the run's id is no UUID.
pub struct Ids {
    known: AHashMap<Box<[u8]>, (Py<PyAny>, Py<PyAny>)>,
    most: usize,
    derive: Py<PyAny>,
    key: Vec<u8>,
}

impl Ids {
    pub fn new(derive: Py<PyAny>, most: usize) -> Self {
        Self { known: AHashMap::new(), most, derive, key: Vec::new() }
    }

    /// Of an attempt of a step, or of no attempt; None where a text or number is none.
    pub fn of(
        &mut self,
        run: &Bound<'_, PyAny>,
        step: &Bound<'_, PyAny>,
        attempt: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<Option<&(Py<PyAny>, Py<PyAny>)>> {
        let (Some(run_text), Some(step_text)) = (text(run), text(step)) else { return Ok(None) };
        let Some(number) = attempt.map_or(Some(0), whole) else { return Ok(None) };
        self.key.clear();
        self.key.extend_from_slice(&number.to_le_bytes());
        self.key.extend_from_slice(&run_text.len().to_le_bytes());
        self.key.extend_from_slice(run_text.as_bytes());
        self.key.extend_from_slice(step_text.as_bytes());
        if !self.known.contains_key(self.key.as_slice()) {
            let ids = match trace(run_text) {
                Some(trace) => {
                    let trace = PyString::new(run.py(), &trace).into_any().unbind();
                    (trace, PyString::new(run.py(), &span(run_text, step_text, number)).into_any().unbind())
                }
                None => self.derive.bind(run.py()).call1((run, step, number))?.extract()?,
            };
            if self.known.len() >= self.most {
                self.known.clear();
            }
            self.known.insert(self.key.as_slice().into(), ids);
        }
        Ok(self.known.get(self.key.as_slice()))
    }
}

/// The 32 digits of a UUID as Dagster writes it; None for another run id.
pub fn trace(run: &str) -> Option<String> {
    let mut digits = String::with_capacity(32);
    for (place, byte) in run.bytes().enumerate() {
        match (place, byte) {
            (8 | 13 | 18 | 23, b'-') => {}
            (8 | 13 | 18 | 23, _) => return None,
            (_, b'0'..=b'9' | b'a'..=b'f') => digits.push(byte.into()),
            _ => return None,
        }
    }
    (run.len() == 36).then_some(digits)
}

/// 16 hex digits: of the attempt if there is one, else of the run.
fn span(run: &str, step: &str, attempt: i64) -> String {
    if step.is_empty() || attempt == 0 {
        run_span(run)
    } else {
        step_span(run, step, attempt)
    }
}

/// `pipeline.trace_ids.run_span_id`.
pub fn run_span(run: &str) -> String {
    digest(&format!("run\0{run}"))
}

/// `pipeline.trace_ids.step_span_id`.
pub fn step_span(run: &str, step: &str, attempt: i64) -> String {
    digest(&format!("step\0{run}\0{step}\0{attempt}"))
}

/// 16 hex digits of a text.
pub fn digest(text: &str) -> String {
    Sha256::digest(text)[..8].iter().fold(String::with_capacity(16), |mut digits, byte| {
        for digit in [byte >> 4, byte & 15] {
            digits.push(char::from(b"0123456789abcdef"[usize::from(digit)]));
        }
        digits
    })
}
