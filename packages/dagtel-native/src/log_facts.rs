//! `connectors.log_facts.describe`: what a log record says of an event beyond its envelope.

use crate::log_failures::{Failure, Failures, Of, Told};
use crate::slots::Slots;
use pyo3::exceptions::PyTypeError;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyDict, PyFloat, PyInt, PyString, PyTuple, PyType};

/// Details that say no more than their event's type.
const SILENT: [&str; 2] = ["RunQueued", "IoHandled"];
/// Outcomes that neither a record nor what is known of assets depends on.
const QUIET: [&str; 8] = [
    "AssetPlanned",
    "CheckEvaluated",
    "InnerEnded",
    "FreshnessState",
    "AssetObserved",
    "AssetSkipped",
    "StepRaised",
    "CheckRaised",
];
const LONGEST_NS: i64 = 1 << 53; // 104 days; more is no exact f64
const MS: f64 = 1e6;

/// An event type, as far as its record depends on it.
#[derive(Clone, Copy, PartialEq)]
pub enum Kind {
    Log,
    Check,
    StepSuccess,
    StepFailure,
    Other,
}

impl Kind {
    pub fn of(name: &str) -> Self {
        match name {
            "LOG" => Self::Log,
            "ASSET_CHECK_EVALUATION" => Self::Check,
            "STEP_SUCCESS" => Self::StepSuccess,
            "STEP_FAILURE" => Self::StepFailure,
            _ => Self::Other,
        }
    }
}

/// The parts of an event that are asked. `status` is that of its type, if the type alone tells one.
pub struct Asked<'a, 'py> {
    pub kind: Kind,
    pub status: Option<&'a Py<PyString>>,
    pub message: &'a Bound<'py, PyAny>,
    pub detail: &'a Bound<'py, PyAny>,
    pub assets: &'a Bound<'py, PyAny>,
    pub outcomes: &'a Bound<'py, PyAny>,
}

/// What an event says. `waited`: it is Dagster's notice of a step that waited in vain.
pub struct Facts<'a, 'py> {
    pub status: &'a Py<PyString>,
    pub asset: Bound<'py, PyAny>,
    pub partition: Option<Bound<'py, PyAny>>,
    pub took: Option<Bound<'py, PyFloat>>,
    pub message: Option<Bound<'py, PyString>>,
    pub extra: Option<Bound<'py, PyDict>>,
    pub made: Option<Made<'py>>,
    pub failed: Option<Severity>,
    pub error: Option<Told<'py>>,
    pub waited: bool,
}

/// A success with its AssetMaterialized: its duration, and what user code said of it ("" if nothing).
pub struct Made<'py> {
    pub outcome: Bound<'py, PyAny>,
    pub took_ms: Option<f64>,
    pub description: Bound<'py, PyAny>,
}

/// Of a check that did not pass.
#[derive(Clone, Copy, PartialEq)]
pub enum Severity {
    Warn,
    Error,
}

#[derive(Default)]
struct Outcomes<'a, 'py> {
    run: Option<[Bound<'py, PyAny>; 2]>,
    step: Option<[Bound<'py, PyAny>; 2]>,
    made: Option<(&'a Bound<'py, PyAny>, Bound<'py, PyAny>)>,
    failed: Option<[Bound<'py, PyAny>; 2]>,
}

/// Knows the classes of details and outcomes, and the words for what they mean.
pub struct Describer {
    planned: Slots<2>,
    succeeded: Slots<1>,
    materialized: Slots<3>,
    marker: Slots<1>,
    check_planned: Slots<2>,
    check: Slots<5>,
    observed: Slots<2>,
    freshness: Slots<3>,
    run_ended: Slots<2>,
    step_ended: Slots<2>,
    asset_made: Slots<1>,
    asset_failed: Slots<2>,
    failures: Failures,
    silent: [Py<PyType>; 2],
    quiet: [Py<PyType>; 8],
    pub planned_word: Py<PyString>,
    pub skipped_word: Py<PyString>,
    success_word: Py<PyString>,
    observed_word: Py<PyString>,
    passed_word: Py<PyString>,
    failed_word: Py<PyString>,
    pub empty: Py<PyString>,
}

impl Describer {
    /// From `pipeline.events` and `pipeline.outcomes`.
    pub fn new(details: &Bound<'_, PyModule>, outcomes: &Bound<'_, PyModule>) -> PyResult<Self> {
        let word = |text| PyString::intern(details.py(), text).unbind();
        Ok(Self {
            planned: Slots::new(&class(details, "MaterializationPlanned")?, ["asset", "partition"])?,
            succeeded: Slots::new(&class(details, "StepSucceeded")?, ["duration_ms"])?,
            materialized: Slots::new(&class(details, "Materialized")?, ["asset", "partition", "description"])?,
            marker: Slots::new(&class(details, "Marker")?, ["error"])?,
            check_planned: Slots::new(&class(details, "CheckPlanned")?, ["asset", "check"])?,
            check: Slots::new(&class(details, "CheckResult")?, ["asset", "check", "passed", "severity", "partition"])?,
            observed: Slots::new(&class(details, "Observed")?, ["asset", "partition"])?,
            freshness: Slots::new(&class(details, "FreshnessChanged")?, ["asset", "state", "previous"])?,
            run_ended: Slots::new(&class(outcomes, "RunEnded")?, ["at_ns", "started_ns"])?,
            step_ended: Slots::new(&class(outcomes, "StepEnded")?, ["at_ns", "started_ns"])?,
            asset_made: Slots::new(&class(outcomes, "AssetMaterialized")?, ["duration_ns"])?,
            asset_failed: Slots::new(&class(outcomes, "AssetFailed")?, ["asset", "partition"])?,
            failures: Failures::new(details)?,
            silent: classes(details, SILENT)?,
            quiet: classes(outcomes, QUIET)?,
            planned_word: word("planned"),
            skipped_word: word("skipped"),
            success_word: word("success"),
            observed_word: word("observed"),
            passed_word: word("passed"),
            failed_word: word("failed"),
            empty: word(""),
        })
    }

    /// What the event says; None for what is rarer. Of its outcomes only AssetMaterialized can then be consequential,
    /// and those only where `made` is; and an AssetFailed that is the event's own failure is not.
    pub fn describe<'a, 'py>(&'a self, py: Python<'py>, asked: &Asked<'a, 'py>) -> Option<Facts<'a, 'py>> {
        let outcomes = self.sorted(asked.outcomes)?;
        let detail = asked.detail;
        let has_failed = outcomes.failed.is_some();
        if let Some([asset, partition, description]) = self.materialized.read(detail).filter(|_| !has_failed) {
            let told = Facts { partition: Some(partition), ..self.facts(&self.success_word, asset) };
            let Some((outcome, took)) = outcomes.made else { return Some(told) };
            let took_ms = if took.is_none() { None } else { Some(exact(took.extract().ok()?)? / MS) };
            let made = Made { outcome: outcome.clone(), took_ms, description };
            return Some(Facts { took: took_ms.map(|ms| PyFloat::new(py, ms)), made: Some(made), ..told });
        }
        if outcomes.made.is_some() {
            return None;
        }
        if let Some(failure) = self.failures.read(detail) {
            return self.failed(py, asked, outcomes, failure);
        }
        if has_failed {
            return None;
        }
        if detail.is_none() || self.silent.iter().any(|class| is_of(detail, class)) {
            return self.plain(py, asked, &outcomes);
        }
        if let Some([asset, partition]) = self.planned.read(detail) {
            return Some(Facts { partition: Some(partition), ..self.facts(&self.planned_word, asset) });
        }
        if let Some([took]) = self.succeeded.read(detail) {
            let took = Some(took.cast_into_exact::<PyFloat>().ok()?);
            return Some(Facts { took, ..self.facts(&self.success_word, self.nothing(py)) });
        }
        if let Some([error]) = self.marker.read(detail) {
            let asset = self.only(py, asked.assets)?;
            return error.is_none().then(|| self.facts(&self.empty, asset));
        }
        if let Some([asset, check]) = self.check_planned.read(detail) {
            let extra = PyDict::new(py);
            extra.set_item(intern!(py, "check_name"), check).ok()?;
            return Some(Facts { extra: Some(extra), ..self.facts(&self.planned_word, asset) });
        }
        if let Some([asset, check, passed, severity, partition]) = self.check.read(detail) {
            let passed = passed.cast_exact::<PyBool>().ok()?.is_true();
            let warns = text(&severity)? == "WARN";
            let extra = PyDict::new(py);
            extra.set_item(intern!(py, "check_name"), check).ok()?;
            extra.set_item(intern!(py, "check_severity"), severity).ok()?;
            return Some(Facts {
                partition: Some(partition),
                extra: Some(extra),
                failed: (!passed).then_some(if warns { Severity::Warn } else { Severity::Error }),
                ..self.facts(if passed { &self.passed_word } else { &self.failed_word }, asset)
            });
        }
        if let Some([asset, partition]) = self.observed.read(detail) {
            return Some(Facts { partition: Some(partition), ..self.facts(&self.observed_word, asset) });
        }
        if let Some([asset, state, previous]) = self.freshness.read(detail) {
            let mut message = None;
            if text(asked.message)?.is_empty() {
                let before = Some(text(&previous)?).filter(|before| !before.is_empty()).unwrap_or("UNKNOWN");
                let told = format!("Freshness of {}: {before} → {}", text(&asset)?, text(&state)?);
                message = Some(PyString::new(py, &told));
            }
            let extra = PyDict::new(py);
            extra.set_item(intern!(py, "freshness"), state).ok()?;
            return Some(Facts { message, extra: Some(extra), ..self.facts(&self.empty, asset) });
        }
        None
    }

    fn failed<'a, 'py>(
        &'a self,
        py: Python<'py>,
        asked: &Asked<'a, 'py>,
        outcomes: Outcomes<'_, 'py>,
        Failure { of, status, error }: Failure<'a, 'py>,
    ) -> Option<Facts<'a, 'py>> {
        let is_steps_own = of == Of::Step && asked.kind == Kind::StepFailure;
        if outcomes.failed.is_some() && !is_steps_own {
            return None;
        }
        let ended = if of == Of::Run { outcomes.run } else { outcomes.step };
        let took = match ended {
            Some(ended) => Some(PyFloat::new(py, took_ms(&ended)?)),
            None => None,
        };
        let (asset, partition) = match outcomes.failed {
            Some([asset, partition]) => (asset, Some(partition)),
            None if of == Of::Attempt => (self.only(py, asked.assets)?, None),
            None => (self.nothing(py), None),
        };
        Some(Facts { took, partition, error, ..self.facts(status, asset) })
    }

    /// Of an event that says no more than its type.
    fn plain<'a, 'py>(
        &'a self,
        py: Python<'py>,
        asked: &Asked<'a, 'py>,
        outcomes: &Outcomes<'_, 'py>,
    ) -> Option<Facts<'a, 'py>> {
        let took = outcomes.run.as_ref().or(outcomes.step.as_ref()).map(took_ms);
        let took = match took {
            Some(took) => Some(PyFloat::new(py, took?)),
            None => None,
        };
        let mut status = asked.status.unwrap_or(&self.empty);
        let mut waited = false;
        let asset = match asked.kind {
            Kind::StepFailure => return None,
            Kind::StepSuccess => self.nothing(py),
            _ => self.only(py, asked.assets)?,
        };
        if asked.kind == Kind::Log {
            waited = waited_in_vain(text(asked.message)?);
            status = if waited { &self.skipped_word } else { status };
        }
        Some(Facts { took, waited, ..self.facts(status, asset) })
    }

    fn facts<'a, 'py>(&self, status: &'a Py<PyString>, asset: Bound<'py, PyAny>) -> Facts<'a, 'py> {
        let (partition, took, message, extra, made, failed, error) = (None, None, None, None, None, None, None);
        Facts { status, asset, partition, took, message, extra, made, failed, error, waited: false }
    }

    /// None if one of them is for Python.
    fn sorted<'a, 'py>(&self, outcomes: &'a Bound<'py, PyAny>) -> Option<Outcomes<'a, 'py>> {
        let mut found = Outcomes::default();
        for outcome in outcomes.cast_exact::<PyTuple>().ok()?.as_slice() {
            if let Some(times) = self.step_ended.read(outcome) {
                found.step = found.step.or(Some(times));
            } else if let Some([took]) = self.asset_made.read(outcome) {
                found.made = found.made.or(Some((outcome, took)));
            } else if let Some(times) = self.run_ended.read(outcome) {
                found.run = found.run.or(Some(times));
            } else if let Some(failed) = self.asset_failed.read(outcome) {
                if found.failed.replace(failed).is_some() {
                    return None;
                }
            } else if !self.quiet.iter().any(|class| is_of(outcome, class)) {
                return None;
            }
        }
        Some(found)
    }

    /// Whether the outcome is an AssetMaterialized.
    pub fn is_made(&self, outcome: &Bound<'_, PyAny>) -> bool {
        self.asset_made.read(outcome).is_some()
    }

    fn only<'py>(&self, py: Python<'py>, assets: &Bound<'py, PyAny>) -> Option<Bound<'py, PyAny>> {
        match assets.cast_exact::<PyTuple>().ok()?.as_slice() {
            [one] => Some(one.clone()),
            _ => Some(self.nothing(py)),
        }
    }

    fn nothing<'py>(&self, py: Python<'py>) -> Bound<'py, PyAny> {
        self.empty.bind(py).clone().into_any()
    }
}

/// A text of exactly Python's type; None for any other, and for one with lone surrogates.
#[inline]
pub fn text<'a>(object: &'a Bound<'_, PyAny>) -> Option<&'a str> {
    object.cast_exact::<PyString>().ok()?.to_str().ok()
}

/// An int of exactly Python's type, if it is not huge.
pub fn whole(object: &Bound<'_, PyAny>) -> Option<i64> {
    object.cast_exact::<PyInt>().ok()?.extract().ok()
}

pub fn waited_in_vain(message: &str) -> bool {
    (message.starts_with("Dependencies for step ") && message.ends_with(" Not executing."))
        || (message.starts_with("Skipping step ") && message.contains(" due to skipped dependencies: "))
}

/// From a beginning to an end, ns, in ms; None for what is too long to be exact.
fn took_ms([at_ns, started_ns]: &[Bound<'_, PyAny>; 2]) -> Option<f64> {
    let (at, started): (i64, i64) = (at_ns.extract().ok()?, started_ns.extract().ok()?);
    Some(exact(at.checked_sub(started)?.max(0))? / MS)
}

fn exact(ns: i64) -> Option<f64> {
    (0..LONGEST_NS).contains(&ns).then_some(ns as f64)
}

fn is_of(object: &Bound<'_, PyAny>, class: &Py<PyType>) -> bool {
    object.get_type_ptr() == class.as_ptr().cast()
}

pub fn class<'py>(module: &Bound<'py, PyModule>, name: &str) -> PyResult<Bound<'py, PyType>> {
    Ok(module.getattr(name)?.cast_into::<PyType>()?)
}

fn classes<const N: usize>(module: &Bound<'_, PyModule>, names: [&str; N]) -> PyResult<[Py<PyType>; N]> {
    let found = names.iter().map(|name| class(module, name).map(Bound::unbind)).collect::<PyResult<Vec<_>>>()?;
    found.try_into().map_err(|_| PyTypeError::new_err("classes"))
}
