//! What the twin of the ledger reads and makes: the fields of events and states, the classes of outcomes.

use crate::slots::{Class, Slots};
use pyo3::exceptions::PySystemError;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyDict, PyList, PyModule, PyString, PyTuple, PyType};

/// Why an event is not done: it is left to Python, and nothing is changed that Python would not do again; or a function
/// in Python raised.
pub enum Odd {
    Rest,
    Raised(PyErr),
}

pub use Odd::Rest;

pub type Done<T> = Result<T, Odd>;

impl From<PyErr> for Odd {
    fn from(error: PyErr) -> Self {
        Odd::Raised(error)
    }
}

/// The event at hand, its run and, where it belongs to one, its step.
pub struct Now<'a, 'py> {
    pub event: &'a Bound<'py, PyAny>,
    pub run_id: Bound<'py, PyAny>,
    pub key: Bound<'py, PyAny>,
    pub at: Bound<'py, PyAny>,
    pub at_ns: i64,
    pub detail: Bound<'py, PyAny>,
    pub run: Bound<'py, PyAny>,
}

pub type Told<'py> = Done<Option<Bound<'py, PyAny>>>;

macro_rules! fields {
    ($module:ident: $($name:ident),+) => {
        /// Places in the `Slots` of this name.
        pub mod $module {
            #![allow(dead_code)] // a place that `read` alone gives
            #[allow(non_camel_case_types, clippy::upper_case_acronyms)]
            enum Place { $($name),+ }
            $(pub const $name: usize = Place::$name as usize;)+
        }
    };
}

fields!(run: STATUS, BEGUN, SEEN_NS, LAST_NS, JOB, PHASE, STARTED_NS, ENQUEUED_NS, STARTING_NS, PARTITION, STEPS,
    ASSETS, PLAN, GRAPHS, CHECKS, FAILURES, MARKERS, RAISED, UNVOICED, FIRST_NS);
fields!(rows: RUN, STEPS, OPENED, NEW);
fields!(step: ATTEMPT, OPEN, RETRIED, STARTED_NS, FIRST_NS, KIND, ASSETS, STARTS, ENDS, MARKERS, INPUT_NS, OUTPUT_NS,
    DISPLACED);
fields!(asset: STEP, PLANNED, PARTITION, SEVERAL, MADE, FAILED, OBSERVED, ROWS, SKIPPED);
fields!(annotated: JOB, ATTEMPT, ASSETS, OUTCOMES);

pub struct Parts {
    pub event: Slots<7>,
    pub annotated: Slots<4>,
    pub message: Slots<1>,
    pub rows: Slots<4>,
    pub run: Slots<20>,
    pub step: Slots<13>,
    pub asset: Slots<9>,
    pub asset_planned: Slots<2>,
    pub check_planned: Slots<2>,
    pub materialized: Slots<4>,
    pub observed: Slots<4>,
    pub check: Slots<8>,
    pub queued: Slots<1>,
    pub marker: Slots<3>,
    pub io: Slots<1>,
    pub freshness: Slots<4>,
    pub retry: Slots<1>,
    pub step_failed: Slots<2>,
    pub error: Slots<5>,
    pub run_failed: Slots<2>,
    pub run_canceled: Slots<1>,
    asset_state: Class,
    step_state: Class,
    failure: Class,
    step_ended: Class,
    step_raised: Class,
    asset_failed: Class,
    asset_skipped: Class,
    run_told: Class,
    inner_ended: Class,
    asset_made: Class,
    asset_seen: Class,
    asset_told: Class,
    check_evaluated: Class,
    check_raised: Class,
    freshness_state: Class,
}

impl Parts {
    pub fn new(
        events: &Bound<'_, PyModule>,
        outcomes: &Bound<'_, PyModule>,
        states: &Bound<'_, PyModule>,
        rows: &Bound<'_, PyType>,
    ) -> PyResult<Self> {
        let class = |module: &Bound<'_, PyModule>, name: &str| Class::new(&module.getattr(name)?.cast_into()?);
        let detail = |name: &str| -> PyResult<_> { Ok(events.getattr(name)?.cast_into::<PyType>()?) };
        let state = |name: &str| -> PyResult<_> { Ok(states.getattr(name)?.cast_into::<PyType>()?) };
        let event = detail("Event")?;
        Ok(Self {
            event: Slots::new(&event, ["run_id", "type", "step_key", "at_ns", "now_ns", "detail", "step_kind"])?,
            annotated: Slots::new(&event, ["job", "attempt", "assets", "outcomes"])?,
            message: Slots::new(&event, ["message"])?,
            rows: Slots::new(rows, ["run", "steps", "opened", "new"])?,
            #[rustfmt::skip]
            run: Slots::new(&state("RunState")?, [
                "status", "begun", "seen_ns", "last_ns", "job", "phase", "started_ns", "enqueued_ns", "starting_ns",
                "partition", "steps", "assets", "plan", "graphs", "checks", "failures", "markers", "raised",
                "unvoiced", "first_ns",
            ])?,
            #[rustfmt::skip]
            step: Slots::new(&state("StepState")?, [
                "attempt", "open", "retried", "started_ns", "first_ns", "kind", "assets", "starts", "ends", "markers",
                "input_ns", "output_ns", "displaced",
            ])?,
            #[rustfmt::skip]
            asset: Slots::new(&state("AssetState")?, [
                "step", "planned", "partition", "several", "made", "failed", "observed", "rows", "skipped",
            ])?,
            asset_planned: Slots::new(&detail("MaterializationPlanned")?, ["asset", "partition"])?,
            check_planned: Slots::new(&detail("CheckPlanned")?, ["asset", "check"])?,
            materialized: Slots::new(&detail("Materialized")?, ["asset", "partition", "metadata", "tags"])?,
            observed: Slots::new(&detail("Observed")?, ["asset", "partition", "metadata", "tags"])?,
            #[rustfmt::skip]
            check: Slots::new(&detail("CheckResult")?, [
                "asset", "check", "passed", "severity", "blocking", "partition", "description", "metadata",
            ])?,
            queued: Slots::new(&detail("RunQueued")?, ["partition"])?,
            marker: Slots::new(&detail("Marker")?, ["start", "end", "error"])?,
            io: Slots::new(&detail("IoHandled")?, ["name"])?,
            freshness: Slots::new(&detail("FreshnessChanged")?, ["asset", "state", "previous", "at_ns"])?,
            retry: Slots::new(&detail("RetryScheduled")?, ["error"])?,
            step_failed: Slots::new(&detail("StepFailed")?, ["error", "source"])?,
            error: Slots::new(&detail("ErrorInfo")?, ["type", "message", "stack", "frames", "chain"])?,
            run_failed: Slots::new(&detail("RunFailed")?, ["error", "reason"])?,
            run_canceled: Slots::new(&detail("RunCanceled")?, ["error"])?,
            asset_state: class(states, "AssetState")?,
            step_state: class(states, "StepState")?,
            failure: class(states, "Failure")?,
            step_ended: class(outcomes, "StepEnded")?,
            step_raised: class(outcomes, "StepRaised")?,
            asset_failed: class(outcomes, "AssetFailed")?,
            asset_skipped: class(outcomes, "AssetSkipped")?,
            run_told: class(outcomes, "RunEnded")?,
            inner_ended: class(outcomes, "InnerEnded")?,
            asset_made: class(outcomes, "AssetMaterialized")?,
            asset_seen: class(outcomes, "AssetObserved")?,
            asset_told: class(outcomes, "AssetPlanned")?,
            check_evaluated: class(outcomes, "CheckEvaluated")?,
            check_raised: class(outcomes, "CheckRaised")?,
            freshness_state: class(outcomes, "FreshnessState")?,
        })
    }

    pub fn job<'py>(&self, now: &Now<'_, 'py>) -> Done<Bound<'py, PyAny>> {
        self.run.get(&now.run, run::JOB).ok_or(Rest)
    }

    /// One of the run's dicts.
    pub fn dict<'py>(&self, now: &Now<'_, 'py>, field: usize) -> Done<Bound<'py, PyDict>> {
        dict(self.run.get(&now.run, field).ok_or(Rest)?)
    }

    pub fn asset_state<'py, const N: usize>(
        &self,
        py: Python<'py>,
        fields: [&Bound<'py, PyAny>; N],
    ) -> Done<Bound<'py, PyAny>> {
        made(&self.asset_state, py, fields)
    }

    /// One that has not begun and is to make these assets.
    pub fn step_state<'py>(&self, assets: &Bound<'py, PyAny>) -> Done<Bound<'py, PyAny>> {
        let py = assets.py();
        let (zero, no) = (int(py, 0), PyBool::new(py, false).to_owned().into_any());
        let nothing = intern!(py, "").as_any();
        made(&self.step_state, py, [&zero, &no, &no, &no, &zero, &zero, nothing, assets])
    }

    /// `step, attempt, at_ns, started_ns, error, interrupted, failed_check, partition`.
    pub fn failure<'py>(&self, py: Python<'py>, fields: [&Bound<'py, PyAny>; 8]) -> Done<Bound<'py, PyAny>> {
        made(&self.failure, py, fields)
    }

    /// `run, job, step, attempt, status, at_ns, started_ns, kind, assets, partition`, maybe `error`, `interrupted`,
    /// `failed_check`; the rest as is common.
    pub fn step_ended<'py, const N: usize>(&self, py: Python<'py>, fields: [&Bound<'py, PyAny>; N]) -> Told<'py> {
        made(&self.step_ended, py, fields).map(Some)
    }

    /// `run, job, step, attempt, at_ns, partition, error, interrupted`.
    pub fn step_raised<'py>(&self, py: Python<'py>, fields: [&Bound<'py, PyAny>; 8]) -> Told<'py> {
        made(&self.step_raised, py, fields).map(Some)
    }

    /// `run, job, step, attempt, asset, check, at_ns, error, interrupted`.
    pub fn check_raised<'py>(&self, py: Python<'py>, fields: [&Bound<'py, PyAny>; 9]) -> Told<'py> {
        made(&self.check_raised, py, fields).map(Some)
    }

    /// `run, job, step, attempt, asset, partition, at_ns, duration_ns, error, interrupted, failed_check, several, late`.
    pub fn asset_failed<'py>(&self, py: Python<'py>, fields: [&Bound<'py, PyAny>; 13]) -> Told<'py> {
        made(&self.asset_failed, py, fields).map(Some)
    }

    /// `run, job, asset, partition, at_ns`.
    pub fn asset_skipped<'py>(&self, py: Python<'py>, fields: [&Bound<'py, PyAny>; 5]) -> Told<'py> {
        made(&self.asset_skipped, py, fields).map(Some)
    }

    /// `run, job, status, at_ns, started_ns, enqueued_ns, starting_ns, error, reason, raised`.
    pub fn run_told<'py>(&self, py: Python<'py>, fields: [&Bound<'py, PyAny>; 10]) -> Told<'py> {
        made(&self.run_told, py, fields).map(Some)
    }

    /// `run, job, step, attempt, name, kind, at_ns, started_ns, error`.
    pub fn inner_ended<'py>(&self, py: Python<'py>, fields: [&Bound<'py, PyAny>; 9]) -> Told<'py> {
        made(&self.inner_ended, py, fields).map(Some)
    }

    /// `run, job, step, attempt, asset, partition, at_ns, duration_ns, execution, metadata, tags`.
    pub fn asset_made<'py>(&self, py: Python<'py>, fields: [&Bound<'py, PyAny>; 11]) -> Told<'py> {
        made(&self.asset_made, py, fields).map(Some)
    }

    /// `run, job, asset, partition, at_ns, metadata, tags`.
    pub fn asset_seen<'py>(&self, py: Python<'py>, fields: [&Bound<'py, PyAny>; 7]) -> Told<'py> {
        made(&self.asset_seen, py, fields).map(Some)
    }

    /// `asset, state, previous, at_ns`.
    pub fn freshness_state<'py>(&self, py: Python<'py>, fields: [&Bound<'py, PyAny>; 4]) -> Told<'py> {
        made(&self.freshness_state, py, fields).map(Some)
    }

    /// `run, job, step, asset, partition, at_ns`.
    pub fn asset_told<'py>(&self, py: Python<'py>, fields: [&Bound<'py, PyAny>; 6]) -> Told<'py> {
        made(&self.asset_told, py, fields).map(Some)
    }

    /// `run, job, step, asset, check, passed, severity, blocking, partition, at_ns, description, metadata, rows`.
    pub fn check_evaluated<'py>(&self, py: Python<'py>, fields: [&Bound<'py, PyAny>; 13]) -> Told<'py> {
        made(&self.check_evaluated, py, fields).map(Some)
    }
}

fn made<'py, const N: usize>(
    kind: &Class,
    py: Python<'py>,
    fields: [&Bound<'py, PyAny>; N],
) -> Done<Bound<'py, PyAny>> {
    Ok(kind.make(py, fields.map(Bound::as_ptr))?.into_bound(py))
}

/// Sets a field of a state to a value that was looked at before: that it is plain, and that the state is of the class.
#[inline]
pub fn set<const N: usize>(
    slots: &Slots<N>,
    state: &Bound<'_, PyAny>,
    field: usize,
    value: &Bound<'_, PyAny>,
) -> Done<()> {
    if slots.write_plain(state, field, value) {
        return Ok(());
    }
    Err(Odd::Raised(PySystemError::new_err("the ledger's twin wanted to set what it must not")))
}

#[inline]
pub fn set_bool<const N: usize>(slots: &Slots<N>, state: &Bound<'_, PyAny>, field: usize, value: bool) -> Done<()> {
    set(slots, state, field, &PyBool::new(state.py(), value))
}

#[inline]
pub fn dict(object: Bound<'_, PyAny>) -> Done<Bound<'_, PyDict>> {
    object.cast_into_exact::<PyDict>().map_err(|_| Rest)
}

#[inline]
pub fn list(object: Bound<'_, PyAny>) -> Done<Bound<'_, PyList>> {
    object.cast_into_exact::<PyList>().map_err(|_| Rest)
}

/// A bool, and nothing else that is true or false.
#[inline]
pub fn flag(object: &Bound<'_, PyAny>) -> Done<bool> {
    Ok(object.cast_exact::<PyBool>().map_err(|_| Rest)?.is_true())
}

#[inline]
pub fn text<'a>(object: &'a Bound<'_, PyAny>) -> Done<&'a str> {
    crate::log_facts::text(object).ok_or(Rest)
}

#[inline]
pub fn whole(object: &Bound<'_, PyAny>) -> Done<i64> {
    crate::log_facts::whole(object).ok_or(Rest)
}

/// Whether both are the same text.
#[inline]
pub fn same(one: &Bound<'_, PyAny>, other: &Bound<'_, PyAny>) -> Done<bool> {
    Ok(one.is(other) || text(one)? == text(other)?)
}

/// Whether both are the same partition, a text or None.
pub fn same_partition(one: &Bound<'_, PyAny>, other: &Bound<'_, PyAny>) -> Done<bool> {
    if one.is_none() || other.is_none() {
        partition(one)?;
        partition(other)?;
        return Ok(one.is(other));
    }
    same(one, other)
}

/// That it is a text or None.
pub fn partition(object: &Bound<'_, PyAny>) -> Done<()> {
    if object.is_none() || object.is_exact_instance_of::<PyString>() {
        return Ok(());
    }
    Err(Rest)
}

#[inline]
pub fn int(py: Python<'_>, value: i64) -> Bound<'_, PyAny> {
    let Ok(made) = value.into_pyobject(py);
    made.into_any()
}

/// A tuple of these, and of `last`.
pub fn tuple<'py>(first: &[Bound<'py, PyAny>], last: &Bound<'py, PyAny>) -> Done<Bound<'py, PyAny>> {
    if first.is_empty() {
        return Ok(PyTuple::new(last.py(), [last])?.into_any()); // nearly always
    }
    let items: Vec<_> = first.iter().chain([last]).collect();
    Ok(PyTuple::new(last.py(), items)?.into_any())
}
