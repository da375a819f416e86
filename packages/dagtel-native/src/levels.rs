//! How many entries of Dagster's log there are of each level: `pipeline.log_levels` over a batch.

use crate::log_facts::{text, waited_in_vain};
use crate::slots::{next_few, Slots};
use ahash::AHashMap;
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyBytes, PyString, PyType};
use std::collections::HashMap;

const LEVELS: [&str; 5] = ["DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"];
const INFO: usize = 1;
const WARNING: usize = 2;
const ERROR: usize = 3;
const LOG: &str = "LOG";
const LOOKED_INTO: [&str; 2] = [LOG, "ASSET_CHECK_EVALUATION"];
/// The one level of a LOG entry whose message is looked at.
const LOOKED_AT: i64 = 40;

/// Counts levels. `check`: the class of a check's result. `by_type`: those that an event type tells alone. `level`:
/// `(event) -> str`, asked about events that are odd.
#[pyclass]
pub struct LevelCounter {
    event: Slots<2>,
    looked_into: Slots<2>,
    check: Slots<2>,
    raw: Slots<1>,
    no_bytes: Py<PyAny>,
    by_type: AHashMap<String, Option<Py<PyString>>>,
    names: [Py<PyString>; 5],
    level: Py<PyAny>,
}

#[pymethods]
impl LevelCounter {
    #[new]
    fn new(
        py: Python<'_>,
        event: &Bound<'_, PyType>,
        check: &Bound<'_, PyType>,
        by_type: HashMap<String, String>,
        level: Py<PyAny>,
    ) -> PyResult<Self> {
        let known = by_type.iter().map(|(name, level)| (name.clone(), Some(PyString::intern(py, level).unbind())));
        let asked = LOOKED_INTO.iter().map(|name| (name.to_string(), None));
        Ok(Self {
            event: Slots::new(event, ["type", "level"])?,
            looked_into: Slots::new(event, ["message", "detail"])?,
            check: Slots::new(check, ["passed", "severity"])?,
            raw: Slots::new(event, ["raw"])?,
            no_bytes: PyBytes::new(py, b"").into_any().unbind(),
            by_type: known.chain(asked).collect(),
            names: LEVELS.map(|name| PyString::intern(py, name).unbind()),
            level,
        })
    }

    /// `[(level, entries), …]` in the order in which levels come first. Events without bytes are no entries.
    fn count<'py>(&self, events: &Bound<'py, PyAny>) -> PyResult<Vec<(Bound<'py, PyString>, usize)>> {
        let mut found: Vec<(Bound<'py, PyString>, usize)> = Vec::new();
        let (mut rest, mut near) = (events.try_iter()?, Vec::new());
        while next_few(&mut rest, &mut near)? {
            near.iter().for_each(|event| self.event.fetch(event));
            for event in near.iter().filter(|event| !self.raw.holds(0, event, &self.no_bytes)) {
                let level = match self.told(event) {
                    Some(level) => level,
                    None => self.level.bind(event.py()).call1((event,))?.cast_into()?,
                };
                match found.iter_mut().find(|(name, _)| name.is(&level)) {
                    Some((_, count)) => *count += 1,
                    None => found.push((level, 1)),
                }
            }
        }
        Ok(found)
    }
}

impl LevelCounter {
    /// What the type says, or the level that Dagster gave.
    fn told<'py>(&self, event: &Bound<'py, PyAny>) -> Option<Bound<'py, PyString>> {
        let [kind, level] = self.event.read(event)?;
        let kind = text(&kind)?;
        let name = match self.by_type.get(kind) {
            Some(Some(told)) => told,
            Some(None) if kind != LOG => &self.names[self.of_check(event)?],
            told => {
                let number: i64 = level.extract().ok()?;
                let in_vain = told.is_some() && number == LOOKED_AT && self.waited_in_vain(event)?;
                &self.names[if in_vain { INFO } else { (number.div_euclid(10).clamp(1, 5) - 1) as usize }]
            }
        };
        Some(name.bind(event.py()).clone())
    }

    fn waited_in_vain(&self, event: &Bound<'_, PyAny>) -> Option<bool> {
        let [message, _] = self.looked_into.read(event)?;
        text(&message).map(waited_in_vain)
    }

    fn of_check(&self, event: &Bound<'_, PyAny>) -> Option<usize> {
        let [_, detail] = self.looked_into.read(event)?;
        let [passed, severity] = self.check.read(&detail)?;
        Some(match passed.cast_exact::<PyBool>().ok()?.is_true() {
            true => INFO,
            false if text(&severity)? == "WARN" => WARNING,
            false => ERROR,
        })
    }
}
