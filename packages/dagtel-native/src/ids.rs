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
                    (trace, PyString::new(run.py(), span(run_text, step_text, number).text()).into_any().unbind())
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
fn span(run: &str, step: &str, attempt: i64) -> Digits {
    if step.is_empty() || attempt == 0 {
        run_span(run)
    } else {
        step_span(run, step, attempt)
    }
}

/// `pipeline.trace_ids.run_span_id`.
pub fn run_span(run: &str) -> Digits {
    Digits::of(&["run\0", run])
}

/// `pipeline.trace_ids.step_span_id`.
pub fn step_span(run: &str, step: &str, attempt: i64) -> Digits {
    Digits::of(&["step\0", run, "\0", step, "\0", Decimal::of(attempt).text()])
}

/// `pipeline.trace_ids.inner_span_id` of a name in two parts.
pub fn inner_span(run: &str, step: &str, attempt: i64, name: [&str; 2], started_ns: i64) -> Digits {
    let (attempt, started) = (Decimal::of(attempt), Decimal::of(started_ns));
    let [name, suffix] = name;
    let parts = ["inner\0", run, "\0", step, "\0", attempt.text(), "\0", name, suffix, "\0", started.text()];
    Digits::of(&parts)
}

/// 16 hex digits.
#[derive(PartialEq, Eq, Hash)]
pub struct Digits([u8; 16]);

impl Digits {
    fn of(parts: &[&str]) -> Self {
        let mut hash = Sha256::new();
        parts.iter().for_each(|part| hash.update(part));
        let mut digits = [0; 16];
        for (pair, byte) in digits.chunks_exact_mut(2).zip(hash.finalize()) {
            pair[0] = b"0123456789abcdef"[usize::from(byte >> 4)];
            pair[1] = b"0123456789abcdef"[usize::from(byte & 15)];
        }
        Self(digits)
    }

    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.0).unwrap_or_default() // all of them are ASCII
    }
}

/// A number as text.
pub struct Decimal {
    digits: [u8; 20],
    start: usize,
}

impl Decimal {
    pub fn of(number: i64) -> Self {
        let (mut digits, mut start, mut left) = ([0; 20], 20, number.unsigned_abs());
        loop {
            start -= 1;
            digits[start] = b'0' + (left % 10) as u8;
            left /= 10;
            if left == 0 {
                break;
            }
        }
        if number < 0 {
            start -= 1;
            digits[start] = b'-';
        }
        Self { digits, start }
    }

    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.digits[self.start..]).unwrap_or_default() // all of them are ASCII
    }
}
