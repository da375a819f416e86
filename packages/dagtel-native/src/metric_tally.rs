//! `connectors.metric_tally.Tally.take` over a batch.

use crate::log_facts::{class, text, whole};
use crate::metric_sums::{meant, Cell, Sums, Value};
use crate::slots::{next_few, Slots};
use crate::texts::Texts;
use ahash::AHashMap;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyDict, PyFloat, PyInt, PyModule, PyString, PyTuple, PyType};

/// Characters of a label value at most.
const LONGEST: usize = 1024;
/// Beyond it a metadata value is no figure of anything.
const LARGEST: f64 = 1e24;
/// Assets and jobs whose keys are remembered.
const MOST: usize = 8192;
/// Statuses of a job, or severities of a check: there are a handful, and more are none.
const FEW: usize = 16;

/// Why an outcome is not summed up here.
enum Left {
    /// It is Python's to do; nothing of it was summed up.
    ToPython,
    Raised(PyErr),
}

impl From<PyErr> for Left {
    fn from(error: PyErr) -> Self {
        Left::Raised(error)
    }
}

type Taken<T = ()> = Result<T, Left>;

/// What is there, or Python has to look.
fn sure<T>(found: Option<T>) -> Taken<T> {
    found.ok_or(Left::ToPython)
}

#[derive(Default)]
struct Asset {
    subject: Cell,
    made: Cell,
    updated: Cell,
    run: Cell,
    failed: Cell,
    success_time: Cell,
    failure_time: Cell,
    written: Cell,
    row_count: Cell,
    rows: Vec<Cell>,
    values: Vec<Cell>,
    checks: AHashMap<Box<str>, Check>,
}

#[derive(Default)]
struct Check {
    subject: Cell,
    rate: Cell,
    passed: Cell,
    evaluations: Vec<(bool, Box<str>, Cell)>,
}

#[derive(Default)]
struct Job {
    subject: Cell,
    retries: Cell,
    queue: Cell,
    runs: Vec<(Box<str>, Cell, Cell)>,
}

/// Which metadata labels mean what; see `connectors.metric_tally.Reading`.
struct Labels {
    rows: Vec<(Py<PyString>, Vec<Py<PyString>>)>,
    written: Vec<Py<PyString>>,
    values: Vec<Py<PyString>>,
    checks: Vec<Py<PyString>>,
}

/// What the metadata of one materialization says.
#[derive(Default)]
struct Said {
    rows: Vec<(usize, f64)>,
    written: Option<f64>,
    held: Option<(f64, Py<PyString>)>,
    values: Vec<(usize, f64)>,
}

struct Shapes {
    event: Slots<2>,
    planned: Slots<1>,
    made: Slots<5>,
    failed: Slots<2>,
    observed: Slots<3>,
    check: Slots<6>,
    run: Slots<7>,
    step: Slots<2>,
    gone: Py<PyType>,
}

/// Sums up what outcomes say. `events`, `outcomes`: the modules with these classes; `latest`: the class of a gauge by
/// event time. `rows`, `written`, `values`, `checks`: the metadata labels that count, rows by operation. `label`: a
/// text → its label value; `rate`: a CheckEvaluated whose metadata has one of `checks` → its pass rate.
#[pyclass]
pub struct MetricTally {
    shapes: Shapes,
    labels: Labels,
    latest: Py<PyType>,
    latest_at: Slots<1>,
    label: Py<PyAny>,
    rate: Py<PyAny>,
    known: Known,
    round: u64,
}

#[derive(Default)]
struct Known {
    assets: AHashMap<Box<str>, Asset>,
    jobs: AHashMap<Box<str>, Job>,
    texts: Texts,
}

#[pymethods]
impl MetricTally {
    #[new]
    fn new(
        events: &Bound<'_, PyModule>,
        outcomes: &Bound<'_, PyModule>,
        latest: &Bound<'_, PyType>,
        rows: Vec<(Py<PyString>, Vec<Py<PyString>>)>,
        written: Vec<Py<PyString>>,
        values: Vec<Py<PyString>>,
        checks: Vec<Py<PyString>>,
        label: Py<PyAny>,
        rate: Py<PyAny>,
    ) -> PyResult<Self> {
        let shapes = Shapes {
            event: Slots::new(&class(events, "Event")?, ["outcomes", "now_ns"])?,
            planned: Slots::new(&class(outcomes, "AssetPlanned")?, ["asset"])?,
            made: Slots::new(
                &class(outcomes, "AssetMaterialized")?,
                ["asset", "at_ns", "duration_ns", "execution", "metadata"],
            )?,
            failed: Slots::new(&class(outcomes, "AssetFailed")?, ["asset", "duration_ns"])?,
            observed: Slots::new(&class(outcomes, "AssetObserved")?, ["asset", "at_ns", "metadata"])?,
            check: Slots::new(
                &class(outcomes, "CheckEvaluated")?,
                ["asset", "check", "passed", "severity", "at_ns", "metadata"],
            )?,
            run: Slots::new(
                &class(outcomes, "RunEnded")?,
                ["job", "status", "phase", "at_ns", "started_ns", "enqueued_ns", "starting_ns"],
            )?,
            step: Slots::new(&class(outcomes, "StepEnded")?, ["status", "job"])?,
            gone: class(outcomes, "AssetGone")?.unbind(),
        };
        Ok(Self {
            shapes,
            labels: Labels { rows, written, values, checks },
            latest: latest.clone().unbind(),
            latest_at: Slots::new(latest, ["at_ns"])?,
            label,
            rate,
            known: Known::default(),
            round: 0,
        })
    }

    /// Adds what the events say to the tally. `rest(event)` does all of one where it is not as plain as it mostly is,
    /// and gives the tally that the events after it are added to.
    fn take<'py>(
        &mut self,
        events: &Bound<'py, PyAny>,
        tally: &Bound<'py, PyAny>,
        rest: &Bound<'py, PyAny>,
    ) -> PyResult<()> {
        if self.known.assets.len() + self.known.jobs.len() > MOST {
            self.known = Known::default();
        }
        self.round += 1;
        let mut tally = tally.clone();
        let mut sums = Sums::new(&tally, &self.latest, &self.latest_at, self.round)?;
        let mut taking = Taking {
            py: tally.py(),
            shapes: &self.shapes,
            labels: &self.labels,
            label: &self.label,
            rate: &self.rate,
            known: &mut self.known,
        };
        let (mut events, mut near) = (events.try_iter()?, Vec::new());
        while next_few(&mut events, &mut near)? {
            near.iter().for_each(|event| taking.shapes.event.fetch(event));
            for event in &near {
                let Some((outcomes, now, now_ns)) = taking.plain(event) else {
                    sums.settle()?;
                    self.round = sums.round();
                    let next = rest.call1((event,))?;
                    if !next.is(&tally) {
                        tally = next;
                        sums = Sums::new(&tally, &self.latest, &self.latest_at, self.round)?;
                    }
                    continue;
                };
                for outcome in outcomes.as_slice() {
                    match taking.take(&mut sums, outcome, &now, now_ns) {
                        Ok(()) => {}
                        Err(Left::ToPython) => {
                            sums.settle()?;
                            self.round = sums.round();
                            tally.call_method1(intern!(tally.py(), "take"), ((outcome,), &now))?;
                        }
                        Err(Left::Raised(error)) => {
                            self.round = sums.round();
                            return Err(error);
                        }
                    }
                }
            }
        }
        sums.settle()?;
        self.round = sums.round();
        Ok(())
    }
}

struct Taking<'a, 'py> {
    py: Python<'py>,
    shapes: &'a Shapes,
    labels: &'a Labels,
    label: &'a Py<PyAny>,
    rate: &'a Py<PyAny>,
    known: &'a mut Known,
}

impl<'py> Taking<'_, 'py> {
    /// Outcomes and domain time of an event, unless it is odd or an asset is gone.
    fn plain(&self, event: &Bound<'py, PyAny>) -> Option<(Bound<'py, PyTuple>, Bound<'py, PyAny>, i64)> {
        let [outcomes, now] = self.shapes.event.read(event)?;
        let outcomes = outcomes.cast_into_exact::<PyTuple>().ok()?;
        let is_gone = |outcome: &Bound<'_, PyAny>| outcome.get_type_ptr() == self.shapes.gone.as_ptr().cast();
        if outcomes.as_slice().iter().any(is_gone) {
            return None;
        }
        let now_ns = whole(&now)?;
        Some((outcomes, now, now_ns))
    }

    fn take(
        &mut self,
        sums: &mut Sums<'_, 'py>,
        outcome: &Bound<'py, PyAny>,
        now: &Bound<'py, PyAny>,
        now_ns: i64,
    ) -> Taken {
        let py = self.py;
        let shapes = self.shapes;
        if let Some([status, job]) = shapes.step.read(outcome) {
            if sure(text(&status))? == "retry" {
                let known = self.job(&job)?;
                sums.hear(&mut known.subject, [intern!(py, "job"), &job], now)?;
                sums.count(&mut known.retries, [intern!(py, "dagster_step_retries_total"), &job], 1.0)?;
            }
        } else if let Some([asset]) = shapes.planned.read(outcome) {
            let known = self.asset(&asset)?;
            sums.hear(&mut known.subject, [intern!(py, "asset"), &asset], now)?;
        } else if let Some(made) = shapes.made.read(outcome) {
            self.materialized(sums, made, now, now_ns)?;
        } else if let Some(check) = shapes.check.read(outcome) {
            self.evaluated(sums, outcome, check, now, now_ns)?;
        } else if let Some(run) = shapes.run.read(outcome) {
            self.run_ended(sums, run, now)?;
        } else if let Some([asset, took]) = shapes.failed.read(outcome) {
            let took_ns = maybe(&took)?;
            let known = self.asset(&asset)?;
            sums.hear(&mut known.subject, [intern!(py, "asset"), &asset], now)?;
            sums.count(&mut known.run, [intern!(py, "asset_executions_total"), &asset], 1.0)?;
            sums.count(&mut known.failed, [intern!(py, "asset_execution_failures_total"), &asset], 1.0)?;
            let key = [intern!(py, "asset_execution_seconds"), &asset, intern!(py, "failure")];
            sums.time(&mut known.failure_time, key, took_ns)?;
        } else if let Some([asset, at_ns, metadata]) = shapes.observed.read(outcome) {
            let at_ns = meant(sure(whole(&at_ns))?, now_ns);
            let values = self.values(&sure(metadata.cast_into_exact().ok())?)?;
            let labels = self.labels;
            let known = self.asset(&asset)?;
            sums.hear(&mut known.subject, [intern!(py, "asset"), &asset], now)?;
            known.tell(sums, &asset, labels, &values, at_ns)?;
        }
        Ok(())
    }

    fn materialized(
        &mut self,
        sums: &mut Sums<'_, 'py>,
        [asset, at_ns, took, execution, metadata]: [Bound<'py, PyAny>; 5],
        now: &Bound<'py, PyAny>,
        now_ns: i64,
    ) -> Taken {
        let (py, labels) = (self.py, self.labels);
        let (at_ns, took_ns) = (meant(sure(whole(&at_ns))?, now_ns), maybe(&took)?);
        let execution = sure(execution.cast_exact::<PyBool>().ok())?.is_true();
        let metadata = sure(metadata.cast_into_exact::<PyDict>().ok())?;
        let said = if metadata.is_empty() { Said::default() } else { self.said(sure(text(&asset))?, &metadata)? };
        let known = self.asset(&asset)?;
        sums.hear(&mut known.subject, [intern!(py, "asset"), &asset], now)?;
        sums.count(&mut known.made, [intern!(py, "asset_materializations_total"), &asset], 1.0)?;
        let key = [intern!(py, "asset_last_update_timestamp"), &asset];
        sums.gauge(&mut known.updated, key, Value::Time, at_ns)?;
        if execution {
            sums.count(&mut known.run, [intern!(py, "asset_executions_total"), &asset], 1.0)?;
            let key = [intern!(py, "asset_execution_seconds"), &asset, intern!(py, "success")];
            sums.time(&mut known.success_time, key, took_ns)?;
        }
        known.tell(sums, &asset, labels, &said.values, at_ns)?;
        for (at, rows) in said.rows {
            let key = [intern!(py, "asset_rows_processed_total"), &asset, labels.rows[at].0.bind(py)];
            sums.count(nth(&mut known.rows, at), key, rows)?;
        }
        if let Some(written) = said.written {
            sums.count(&mut known.written, [intern!(py, "asset_bytes_written_total"), &asset], written)?;
        }
        if let Some((held, schema)) = said.held {
            let name = intern!(py, "asset_row_count");
            sums.vary(&mut known.row_count, name, &known.subject, held, at_ns, schema.into_any())?;
        }
        Ok(())
    }

    fn evaluated(
        &mut self,
        sums: &mut Sums<'_, 'py>,
        outcome: &Bound<'py, PyAny>,
        [asset, check, passed, severity, at_ns, metadata]: [Bound<'py, PyAny>; 6],
        now: &Bound<'py, PyAny>,
        now_ns: i64,
    ) -> Taken {
        let py = self.py;
        let at_ns = meant(sure(whole(&at_ns))?, now_ns);
        let passed = sure(passed.cast_exact::<PyBool>().ok())?.is_true();
        let told = self.fitting(&severity)?;
        let name = self.fitting(&check)?;
        let metadata = sure(metadata.cast_into_exact::<PyDict>().ok())?;
        let mut rate = if passed { 100.0 } else { 0.0 };
        if !metadata.is_empty() {
            for label in &self.labels.checks {
                if metadata.contains(label)? {
                    rate = self.rate.bind(py).call1((outcome,))?.extract()?;
                    break;
                }
            }
        }
        let of = self.asset(&asset)?;
        if !of.checks.contains_key(name) {
            of.checks.insert(name.into(), Check::default());
        }
        let known = sure(of.checks.get_mut(name))?;
        let at = match known.evaluations.iter().position(|(one, severity, _)| *one == passed && **severity == *told) {
            Some(at) => at,
            None if known.evaluations.len() < FEW => {
                known.evaluations.push((passed, told.into(), Cell::default()));
                known.evaluations.len() - 1
            }
            None => return Err(Left::ToPython),
        };
        sums.hear(&mut of.subject, [intern!(py, "asset"), &asset], now)?;
        sums.hear(&mut known.subject, [intern!(py, "check"), &asset, &check], now)?;
        let status = if passed { intern!(py, "passed") } else { intern!(py, "failed") };
        let key = [intern!(py, "asset_check_evaluations_total"), &asset, &check, status, &severity];
        sums.count(&mut known.evaluations[at].2, key, 1.0)?;
        let key = [intern!(py, "validation_pass_rate"), &asset, &check];
        sums.gauge(&mut known.rate, key, Value::Number(rate), at_ns)?;
        let (name, value) = (intern!(py, "asset_check_passed"), if passed { 1.0 } else { 0.0 });
        sums.vary(&mut known.passed, name, &known.subject, value, at_ns, severity.unbind())?;
        Ok(())
    }

    fn run_ended(
        &mut self,
        sums: &mut Sums<'_, 'py>,
        [job, status, phase, at_ns, started_ns, enqueued_ns, starting_ns]: [Bound<'py, PyAny>; 7],
        now: &Bound<'py, PyAny>,
    ) -> Taken {
        let py = self.py;
        let took_ns = sure(sure(whole(&at_ns))?.checked_sub(sure(whole(&started_ns))?))?;
        let queued_ns = match (maybe(&enqueued_ns)?, maybe(&starting_ns)?) {
            (Some(enqueued_ns), Some(starting_ns)) => Some(sure(starting_ns.checked_sub(enqueued_ns))?),
            _ => None,
        };
        let is_over = sure(text(&status))? != "unfinished";
        let said = if is_over { &status } else { &phase };
        let name = sure(text(said))?;
        let known = self.job(&job)?;
        let at = match known.runs.iter().position(|(one, ..)| **one == *name) {
            Some(at) => at,
            None if known.runs.len() < FEW => {
                known.runs.push((name.into(), Cell::default(), Cell::default()));
                known.runs.len() - 1
            }
            None => return Err(Left::ToPython),
        };
        sums.hear(&mut known.subject, [intern!(py, "job"), &job], now)?;
        let (_, count, time) = &mut known.runs[at];
        sums.count(count, [intern!(py, "dagster_runs_total"), &job, said], 1.0)?;
        if is_over {
            sums.time(time, [intern!(py, "dagster_run_seconds"), &job, said], Some(took_ns))?;
            sums.time(&mut known.queue, [intern!(py, "dagster_run_queue_seconds"), &job], queued_ns)?;
        }
        Ok(())
    }

    /// What metadata says of rows, bytes and figures.
    fn said(&mut self, asset: &str, metadata: &Bound<'py, PyDict>) -> Taken<Said> {
        let (py, labels) = (self.py, self.labels);
        let mut said = Said { values: self.values(metadata)?, ..Said::default() };
        for (at, (_, names)) in labels.rows.iter().enumerate() {
            said.rows.extend(amount(metadata, names)?.map(|rows| (at, rows)));
        }
        said.written = amount(metadata, &labels.written)?;
        if let Some(held) = metadata.get_item(intern!(py, "dagster/row_count"))? {
            if let Some(held) = number(&held)? {
                let table = metadata.get_item(intern!(py, "dagster/table_name"))?;
                let schema = match &table {
                    Some(table) if table.is_instance_of::<PyString>() => schema_of(asset, Some(sure(text(table))?)),
                    _ => schema_of(asset, None),
                };
                sure(is_plain(schema).then_some(()))?;
                said.held = Some((held, self.known.texts.get(py, schema)));
            }
        }
        Ok(said)
    }

    fn values(&self, metadata: &Bound<'py, PyDict>) -> Taken<Vec<(usize, f64)>> {
        let mut found = Vec::new();
        if !metadata.is_empty() {
            for (at, label) in self.labels.values.iter().enumerate() {
                if let Some(value) = metadata.get_item(label)? {
                    found.extend(number(&value)?.map(|value| (at, value)));
                }
            }
        }
        Ok(found)
    }

    /// The text, if it is its own label value.
    fn fitting<'a>(&self, object: &'a Bound<'py, PyAny>) -> Taken<&'a str> {
        let name = sure(text(object))?;
        if !is_plain(name) && !self.label.bind(self.py).call1((object,))?.eq(object)? {
            return Err(Left::ToPython);
        }
        Ok(name)
    }

    fn asset(&mut self, object: &Bound<'py, PyAny>) -> Taken<&mut Asset> {
        let name = sure(text(object))?;
        if !self.known.assets.contains_key(name) {
            self.fitting(object)?;
            self.known.assets.insert(name.into(), Asset::default());
        }
        sure(self.known.assets.get_mut(name))
    }

    fn job(&mut self, object: &Bound<'py, PyAny>) -> Taken<&mut Job> {
        let name = sure(text(object))?;
        if !self.known.jobs.contains_key(name) {
            self.fitting(object)?;
            self.known.jobs.insert(name.into(), Job::default());
        }
        sure(self.known.jobs.get_mut(name))
    }
}

impl Asset {
    /// Sets the gauges of metadata.
    fn tell<'py>(
        &mut self,
        sums: &mut Sums<'_, 'py>,
        asset: &Bound<'py, PyAny>,
        labels: &Labels,
        values: &[(usize, f64)],
        at_ns: i64,
    ) -> PyResult<()> {
        let py = asset.py();
        for &(at, value) in values {
            let key = [intern!(py, "asset_metadata_value"), asset, labels.values[at].bind(py)];
            sums.gauge(nth(&mut self.values, at), key, Value::Number(value), at_ns)?;
        }
        Ok(())
    }
}

fn nth(cells: &mut Vec<Cell>, at: usize) -> &mut Cell {
    if cells.len() <= at {
        cells.resize_with(at + 1, Cell::default);
    }
    &mut cells[at]
}

/// An int that may be None.
fn maybe(object: &Bound<'_, PyAny>) -> Taken<Option<i64>> {
    if object.is_none() {
        return Ok(None);
    }
    sure(whole(object)).map(Some)
}

/// A text that is its own label value, as is seen at once.
fn is_plain(text: &str) -> bool {
    text.len() <= LONGEST && text.bytes().all(|byte| (b' '..=b'~').contains(&byte))
}

/// The value if it is a finite number of a size that can be meant; ints of more than 64 bits are Python's.
fn number(value: &Bound<'_, PyAny>) -> Taken<Option<f64>> {
    if let Ok(value) = value.cast_exact::<PyFloat>() {
        let value = value.value();
        return Ok((-LARGEST < value && value < LARGEST).then_some(value));
    }
    if value.cast_exact::<PyInt>().is_ok() {
        return Ok(Some(sure(whole(value))? as f64));
    }
    Ok(None)
}

/// The first of the labels that holds a number of at least 0.
fn amount(metadata: &Bound<'_, PyDict>, labels: &[Py<PyString>]) -> Taken<Option<f64>> {
    for label in labels {
        if let Some(value) = metadata.get_item(label)? {
            if let Some(found) = number(&value)?.filter(|found| *found >= 0.0) {
                return Ok(Some(found));
            }
        }
    }
    Ok(None)
}

/// The schema part of a table's name (`lake.raw.orders` → `raw`), else the key's prefix, else "".
fn schema_of<'a>(asset: &'a str, table: Option<&'a str>) -> &'a str {
    let schema = table.and_then(|table| table.rsplit('.').nth(1)).filter(|schema| !schema.is_empty());
    schema.unwrap_or_else(|| asset.rsplit_once('/').map_or("", |(prefix, _)| prefix))
}
