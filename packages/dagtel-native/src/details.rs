//! `receivers.wire_details`: the part of an event that is its type's own.

use crate::errors::{Errors, WireError};
use crate::nanos::nanos;
use crate::plain;
use crate::scan::Quoted;
use crate::shapes::{duration_ms, AssetEvent, Check, CheckPlanned, Engine, Entries, Planned};
use crate::slots::Class;
use crate::texts::Texts;
use crate::wire::{object, optional, or_empty, Enqueued, Expectation, Failed, Freshness, Io, Object, Text};
use ahash::AHashMap;
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyBytes, PyDict, PyFloat, PyString, PyType};
use serde_json::from_str;
use std::borrow::Cow;

pub const NULL: &str = "null";

/// How the part of an event that is its type's own is read.
#[derive(Clone, Copy, PartialEq)]
pub enum Way {
    Nothing,
    Planned,
    CheckPlanned,
    Succeeded,
    Marker,
    Materialized,
    Observed,
    Check,
    StepFailed,
    RetryScheduled,
    HookFailed,
    RunFailed,
    RunCanceled,
    IoHandled,
    RunQueued,
    FreshnessChanged,
    Expectation,
    Python,
}

impl Way {
    /// By the name of the reader, "" for one that has no twin; `nobody` reads it.
    pub fn of(name: &str, nobody: bool) -> PyResult<Self> {
        Ok(match name {
            "" if nobody => Way::Nothing,
            "" => Way::Python,
            "planned" => Way::Planned,
            "check_planned" => Way::CheckPlanned,
            "step_succeeded" => Way::Succeeded,
            "marker" => Way::Marker,
            "materialized" => Way::Materialized,
            "observed" => Way::Observed,
            "check_result" => Way::Check,
            "step_failed" => Way::StepFailed,
            "retry_scheduled" => Way::RetryScheduled,
            "hook_failed" => Way::HookFailed,
            "run_failed" => Way::RunFailed,
            "run_canceled" => Way::RunCanceled,
            "io_handled" => Way::IoHandled,
            "run_queued" => Way::RunQueued,
            "freshness_changed" => Way::FreshnessChanged,
            "expectation" => Way::Expectation,
            other => return Err(PyValueError::new_err(format!("no such way: {other}"))),
        })
    }
}

/// Makes the details of `pipeline.events`.
pub struct Details {
    planned: Class,
    check_planned: Class,
    succeeded: Class,
    marker: Class,
    materialized: Class,
    observed: Class,
    check: Class,
    step_failed: Class,
    retry_scheduled: Class,
    hook_failed: Class,
    run_failed: Class,
    run_canceled: Class,
    io_handled: Class,
    run_queued: Class,
    freshness_changed: Class,
    expectation: Class,
    errors: Errors,
    payloads: AHashMap<String, String>,
    value: Py<PyAny>,
}

impl Details {
    /// `kinds`: the classes by name. `payloads`, `value`, `frame`: see `EventDecoder`.
    pub fn new(
        kinds: &Bound<'_, PyModule>,
        payloads: AHashMap<String, String>,
        value: Py<PyAny>,
        frame: Py<PyAny>,
    ) -> PyResult<Self> {
        let kind = |name: &str| Class::new(&kinds.getattr(name)?.cast_into::<PyType>()?);
        Ok(Self {
            planned: kind("MaterializationPlanned")?,
            check_planned: kind("CheckPlanned")?,
            succeeded: kind("StepSucceeded")?,
            marker: kind("Marker")?,
            materialized: kind("Materialized")?,
            observed: kind("Observed")?,
            check: kind("CheckResult")?,
            step_failed: kind("StepFailed")?,
            retry_scheduled: kind("RetryScheduled")?,
            hook_failed: kind("HookFailed")?,
            run_failed: kind("RunFailed")?,
            run_canceled: kind("RunCanceled")?,
            io_handled: kind("IoHandled")?,
            run_queued: kind("RunQueued")?,
            freshness_changed: kind("FreshnessChanged")?,
            expectation: kind("Expectation")?,
            errors: Errors::new(kind("ErrorInfo")?, frame),
            payloads,
            value,
        })
    }

    /// What the type's own part says; None where it is not as plain as it mostly is.
    pub fn read(&mut self, py: Python<'_>, texts: &mut Texts, way: Way, data: &str) -> PyResult<Option<Py<PyAny>>> {
        match way {
            Way::Nothing | Way::Python => Ok(None),
            Way::Planned => {
                let Some(found) = Planned::of(data) else { return Ok(None) };
                let Some(partition) = either(py, texts, found.partition) else { return Ok(None) };
                let asset = texts.get(py, &found.asset);
                self.planned.make(py, [asset.as_ptr(), partition.as_ptr()]).map(Some)
            }
            Way::CheckPlanned => {
                let Some(found) = CheckPlanned::of(data) else { return Ok(None) };
                let Some(check) = found.check.text() else { return Ok(None) };
                let (asset, check) = (texts.get(py, &found.asset), texts.get(py, &check));
                self.check_planned.make(py, [asset.as_ptr(), check.as_ptr()]).map(Some)
            }
            Way::Succeeded => {
                let Some(ms) = duration_ms(data) else { return Ok(None) };
                self.succeeded.make(py, [PyFloat::new(py, ms).as_ptr()]).map(Some)
            }
            Way::Marker => {
                let Some(found) = Engine::of(data) else { return Ok(None) };
                let Some([start, end]) = said(py, texts, [found.start, found.end]) else { return Ok(None) };
                let Ok(error) = from_str::<Option<Object<WireError<'_>>>>(found.error.unwrap_or(NULL)) else {
                    return Ok(None);
                };
                let error = self.errors.told(py, texts, &error)?;
                self.marker.make(py, [start.as_ptr(), end.as_ptr(), error.as_ptr()]).map(Some)
            }
            Way::Materialized => {
                let Some(found) = AssetEvent::of(data, "materialization") else { return Ok(None) };
                self.asset_event(py, texts, &found, false)
            }
            Way::Observed => {
                let Some(found) = AssetEvent::of(data, "asset_observation") else { return Ok(None) };
                self.asset_event(py, texts, &found, true)
            }
            Way::Check => {
                let Some(found) = Check::of(data) else { return Ok(None) };
                self.checked(py, texts, &found)
            }
            Way::StepFailed | Way::RetryScheduled | Way::HookFailed | Way::RunFailed | Way::RunCanceled => {
                let Ok(found) = optional::<Failed<'_>>(data) else { return Ok(None) };
                self.failed(py, texts, way, &found).map(Some)
            }
            Way::IoHandled => {
                let Ok(found) = object::<Io<'_>>(data) else { return Ok(None) };
                let name = texts.get(py, first([&found.output_name, &found.input_name]));
                let manager = texts.get(py, first([&found.manager_key, &found.asset_store_key]));
                self.io_handled.make(py, [name.as_ptr(), manager.as_ptr()]).map(Some)
            }
            Way::RunQueued => {
                let Ok(found) = optional::<Enqueued<'_>>(data) else { return Ok(None) };
                let location = texts.get(py, or_empty(&found.code_location_name));
                let repository = texts.get(py, or_empty(&found.repository_name));
                let partition = match &found.partition_key {
                    Some(text) => texts.get(py, &text.0).into_any(),
                    None => py.None(),
                };
                self.run_queued.make(py, [location.as_ptr(), repository.as_ptr(), partition.as_ptr()]).map(Some)
            }
            Way::FreshnessChanged => {
                let Ok(found) = object::<Freshness<'_>>(data) else { return Ok(None) };
                let Some(at_ns) = nanos(found.state_change_timestamp) else { return Ok(None) };
                let asset = texts.get(py, &found.key.0.joined());
                let state = texts.get(py, found.new_state.name());
                let previous = texts.get(py, found.previous_state.name());
                let at = at_ns.into_pyobject(py)?;
                let fields = [asset.as_ptr(), state.as_ptr(), previous.as_ptr(), at.as_ptr()];
                self.freshness_changed.make(py, fields).map(Some)
            }
            Way::Expectation => {
                let Ok(found) = object::<Expectation<'_>>(data) else { return Ok(None) };
                let label = texts.get(py, or_empty(&found.expectation_result.0.label));
                let success = PyBool::new(py, found.expectation_result.0.success);
                self.expectation.make(py, [label.as_ptr(), success.as_ptr()]).map(Some)
            }
        }
    }

    fn failed(&mut self, py: Python<'_>, texts: &mut Texts, way: Way, found: &Failed<'_>) -> PyResult<Py<PyAny>> {
        let error = self.errors.told(py, texts, &found.error)?;
        match way {
            Way::RunFailed => {
                let reason = found.failure_reason.name();
                let repeats = found.first_step_failure_event.is_some_and(|event| event.get().len() != NULL.len());
                let repeats = PyBool::new(py, repeats || reason == "STEP_FAILURE");
                let reason = texts.get(py, reason);
                self.run_failed.make(py, [error.as_ptr(), reason.as_ptr(), repeats.as_ptr()])
            }
            Way::RetryScheduled => {
                let wait = PyFloat::new(py, found.seconds_to_wait.filter(|wait| *wait != 0.0).unwrap_or_default());
                self.retry_scheduled.make(py, [error.as_ptr(), wait.as_ptr()])
            }
            Way::HookFailed => self.hook_failed.make(py, [error.as_ptr()]),
            Way::RunCanceled => self.run_canceled.make(py, [error.as_ptr()]),
            _ => {
                let source = texts.get(py, found.error_source.name());
                self.step_failed.make(py, [error.as_ptr(), source.as_ptr()])
            }
        }
    }

    /// Of a materialization or, `observed`, of an observation: that has no description.
    fn asset_event(
        &mut self,
        py: Python<'_>,
        texts: &mut Texts,
        found: &AssetEvent<'_>,
        observed: bool,
    ) -> PyResult<Option<Py<PyAny>>> {
        let Some(metadata) = self.metadata(py, texts, &found.metadata)? else { return Ok(None) };
        let tags = PyDict::new(py);
        for pair in &found.tags {
            let Some([name, value]) = said(py, texts, [Some(pair.0), Some(pair.1)]) else { return Ok(None) };
            tags.set_item(name, value)?;
        }
        let (Some(partition), Some(description)) =
            (either(py, texts, found.partition), either(py, texts, found.description))
        else {
            return Ok(None);
        };
        let asset = texts.get(py, &found.asset);
        let (asset, partition, metadata, tags) = (asset.as_ptr(), partition.as_ptr(), metadata.as_ptr(), tags.as_ptr());
        if observed {
            return self.observed.make(py, [asset, partition, metadata, tags]).map(Some);
        }
        self.materialized.make(py, [asset, partition, metadata, tags, description.as_ptr()]).map(Some)
    }

    fn checked(&mut self, py: Python<'_>, texts: &mut Texts, found: &Check<'_>) -> PyResult<Option<Py<PyAny>>> {
        let (Some(check), Some(severity)) = (found.check.text(), found.severity.text()) else { return Ok(None) };
        let severity = severity.rsplit('.').next().unwrap_or_default();
        if severity.is_empty() {
            return Ok(None);
        }
        let Some(metadata) = self.metadata(py, texts, &found.metadata)? else { return Ok(None) };
        let (Some(partition), Some(description)) =
            (either(py, texts, found.partition), either(py, texts, found.description))
        else {
            return Ok(None);
        };
        let (asset, check, severity) = (texts.get(py, &found.asset), texts.get(py, &check), texts.get(py, severity));
        let fields = [
            asset.as_ptr(),
            check.as_ptr(),
            PyBool::new(py, found.passed).as_ptr(),
            severity.as_ptr(),
            PyBool::new(py, found.blocking).as_ptr(),
            partition.as_ptr(),
            description.as_ptr(),
            metadata.as_ptr(),
        ];
        self.check.make(py, fields).map(Some)
    }

    /// Metadata as `receivers.wire_metadata.metadata` gives it; None where it is not as Dagster writes it.
    fn metadata<'py>(
        &mut self,
        py: Python<'py>,
        texts: &mut Texts,
        entries: &Entries<'_>,
    ) -> PyResult<Option<Bound<'py, PyDict>>> {
        let found = PyDict::new(py);
        for (label, data) in entries {
            let Some(label) = label.text() else { return Ok(None) };
            found.set_item(texts.get(py, &label), self.value(py, texts, data)?)?;
        }
        Ok(Some(found))
    }

    fn value(&mut self, py: Python<'_>, texts: &mut Texts, json: &str) -> PyResult<Py<PyAny>> {
        match plain::value(py, texts, &self.payloads, json) {
            Some(value) => Ok(value.unbind()),
            None => self.value.call1(py, (PyBytes::new(py, json.as_bytes()),)),
        }
    }
}

/// The first text that is there and not empty, else "".
fn first<'t>(texts: [&'t Option<Text<'_>>; 2]) -> &'t str {
    texts.into_iter().map(or_empty).find(|text| !text.is_empty()).unwrap_or_default()
}

/// The text or Python's None; None for one that Python has to look at.
fn either(py: Python<'_>, texts: &mut Texts, text: Option<Quoted<'_>>) -> Option<Py<PyAny>> {
    match text {
        None => Some(py.None()),
        Some(text) => Some(texts.get(py, &text.text()?).into_any()),
    }
}

/// The texts, "" for those that are not there; None if Python has to look at one.
fn said(py: Python<'_>, texts: &mut Texts, parts: [Option<Quoted<'_>>; 2]) -> Option<[Py<PyString>; 2]> {
    let [first, second] = parts.map(|part| part.map_or(Some(Cow::Borrowed("")), Quoted::text));
    Some([texts.get(py, &first?), texts.get(py, &second?)])
}
