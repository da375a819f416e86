//! `processors.redaction_text.Redactor.suspects`: which log records may hold a secret.

use crate::log_facts::text;
use crate::slots::{next_few, Slots};
use ahash::AHashSet;
use aho_corasick::{AhoCorasick, MatchKind};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyType};
use std::collections::HashSet;

/// Extra fields of more names than this are for Python.
const FEW: usize = 4;

/// Finds the texts and records to look at. `exact` needles stand in a text as they are; `folded` ones in its lower
/// case, and only in a text with `=` or `:`. All are ASCII. `names`: of extra fields that are no secrets by their name.
#[pyclass(frozen)]
pub struct Needles {
    record: Slots<4>,
    exact: AhoCorasick,
    folded: AhoCorasick,
    names: AHashSet<String>,
}

#[pymethods]
impl Needles {
    #[new]
    fn new(
        record: &Bound<'_, PyType>,
        exact: Vec<String>,
        folded: Vec<String>,
        names: HashSet<String>,
    ) -> PyResult<Self> {
        if exact.iter().chain(&folded).any(|needle| !needle.is_ascii()) {
            return Err(PyValueError::new_err("a needle is not ASCII"));
        }
        Ok(Self {
            record: Slots::new(record, ["message", "extra", "error_message", "error_stack"])?,
            exact: finder(&exact)?,
            folded: finder(&folded)?,
            names: names.into_iter().collect(),
        })
    }

    /// Whether the text may hold a secret.
    fn suspicious(&self, text: &Bound<'_, PyAny>) -> bool {
        self.stands_in(text, &mut Vec::new())
    }

    /// Places of the records with a needle in a text, or with extra fields that Python must look at; None if an item is no log record.
    fn suspects(&self, records: &Bound<'_, PyAny>) -> PyResult<Option<Vec<usize>>> {
        let mut found = Vec::new();
        let mut records = records.try_iter()?;
        let (mut near, mut place, mut low) = (Vec::new(), 0, Vec::new());
        while next_few(&mut records, &mut near)? {
            near.iter().for_each(|record| self.record.fetch(record));
            for record in &near {
                let Some([message, extra, error, stack]) = self.record.read(record) else { return Ok(None) };
                if [message, error, stack].iter().any(|text| self.stands_in(text, &mut low))
                    || self.odd(&extra, &mut low)
                {
                    found.push(place);
                }
                place += 1;
            }
        }
        Ok(Some(found))
    }
}

impl Needles {
    /// Whether a needle stands in it. `low` is room for its lower case.
    fn stands_in(&self, object: &Bound<'_, PyAny>, low: &mut Vec<u8>) -> bool {
        let Some(text) = text(object) else { return true };
        if text.is_empty() {
            return false;
        }
        if self.exact.is_match(text) {
            return true;
        }
        if !text.bytes().any(|byte| byte == b'=' || byte == b':') {
            return false;
        }
        if !text.is_ascii() {
            return self.folded.is_match(&text.to_lowercase()); // some beyond ASCII are ASCII in lower case
        }
        low.clear();
        low.extend_from_slice(text.as_bytes());
        low.make_ascii_lowercase();
        self.folded.is_match(low.as_slice())
    }

    /// Whether extra fields may hold a secret: not if they are a few texts under well-known names.
    fn odd(&self, extra: &Bound<'_, PyAny>, low: &mut Vec<u8>) -> bool {
        let Ok(extra) = extra.cast_exact::<PyDict>() else { return true };
        extra.len() > FEW
            || extra.iter().any(|(name, value)| {
                !text(&name).is_some_and(|name| self.names.contains(name)) || self.stands_in(&value, low)
            })
    }
}

fn finder(needles: &[String]) -> PyResult<AhoCorasick> {
    AhoCorasick::builder()
        .match_kind(MatchKind::LeftmostFirst) // the only one that it searches with SIMD
        .build(needles)
        .map_err(|error| PyValueError::new_err(error.to_string()))
}
