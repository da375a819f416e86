//! `connectors.alerts.AlertsConnector.process`: most events give no finding, and those are passed over here.

use crate::log_facts::{class, text, whole};
use crate::slots::{next_few, Slots};
use crate::texts::Texts;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyDict, PyList, PyModule, PyTuple, PyType};

/// Parents of an asset that are looked through one by one.
const FEW: usize = 64;

/// Passes over events that neither give a finding nor change a table. `events`, `facts`, `outcomes`: the modules with
/// these classes.
#[pyclass]
pub struct AlertSelection {
    texts: Texts,
    shapes: Shapes,
}

struct Shapes {
    event: Slots<3>,
    run: Slots<2>,
    planned: Slots<2>,
    made: Slots<5>,
    step: Slots<4>,
    check: Slots<5>,
    run_ended: Slots<4>,
    told: [Py<PyType>; 3],
}

/// The connector's tables, and whether any subject fails.
struct Known<'a, 'py> {
    failing: &'a Bound<'py, PyAny>,
    parts: Option<&'a Bound<'py, PyAny>>,
    waiting: &'a Bound<'py, PyAny>,
    edges: Option<&'a Bound<'py, PyAny>>,
    said: &'a Bound<'py, PyDict>,
    fresh: &'a Bound<'py, PyDict>,
    any_fails: bool,
    texts: &'a mut Texts,
}

#[pymethods]
impl AlertSelection {
    #[new]
    fn new(
        events: &Bound<'_, PyModule>,
        facts: &Bound<'_, PyModule>,
        outcomes: &Bound<'_, PyModule>,
    ) -> PyResult<Self> {
        let told = ["AssetFailed", "CheckRaised", "StepRaised"].map(|name| class(outcomes, name).map(Bound::unbind));
        let [failed, check_raised, step_raised] = told;
        let shapes = Shapes {
            event: Slots::new(&class(events, "Event")?, ["outcomes", "run", "now_ns"])?,
            run: Slots::new(&class(facts, "RunFacts")?, ["backfill", "parent_run_id"])?,
            planned: Slots::new(&class(outcomes, "AssetPlanned")?, ["asset", "partition"])?,
            made: Slots::new(
                &class(outcomes, "AssetMaterialized")?,
                ["asset", "metadata", "tags", "partition", "at_ns"],
            )?,
            step: Slots::new(&class(outcomes, "StepEnded")?, ["status", "job", "step", "at_ns"])?,
            check: Slots::new(&class(outcomes, "CheckEvaluated")?, ["passed", "asset", "check", "partition", "at_ns"])?,
            run_ended: Slots::new(&class(outcomes, "RunEnded")?, ["status", "job", "run", "at_ns"])?,
            told: [failed?, check_raised?, step_raised?],
        };
        Ok(Self { texts: Texts::default(), shapes })
    }

    /// What all events give, in their order: `rest(event, given)` adds what one gives that is not passed over.
    ///
    /// `failing`, `parts`, `waiting`, `edges`: the tables of subjects, of their partitions, of runs and assets. `parts` is
    /// None where a success of any partition is one of all, `edges` where none are learned.
    /// `said`: asset → (its row of `edges`, the tags that told nothing new). `fresh`: `connectors.alert_successes.LatestSuccesses.fresh`.
    fn process<'py>(
        &mut self,
        events: &Bound<'py, PyAny>,
        failing: &Bound<'py, PyAny>,
        parts: Option<&Bound<'py, PyAny>>,
        waiting: &Bound<'py, PyAny>,
        edges: Option<&Bound<'py, PyAny>>,
        said: &Bound<'py, PyDict>,
        fresh: &Bound<'py, PyDict>,
        rest: &Bound<'py, PyAny>,
    ) -> PyResult<Bound<'py, PyList>> {
        let given = PyList::empty(events.py());
        let (failing, waiting, edges) = (&rows(failing)?, &rows(waiting)?, edges.map(rows).transpose()?);
        let parts = parts.map(rows).transpose()?;
        let (parts, edges) = (parts.as_ref(), edges.as_ref());
        let Self { texts, shapes } = self;
        let any_fails = !failing.is_empty()?;
        let mut known = Known { failing, parts, waiting, edges, said, fresh, any_fails, texts };
        let (mut events, mut near) = (events.try_iter()?, Vec::new());
        while next_few(&mut events, &mut near)? {
            near.iter().for_each(|event| shapes.event.fetch(event));
            for event in &near {
                if !shapes.is_quiet(event, &mut known)? {
                    rest.call1((event, &given))?;
                    known.any_fails = !failing.is_empty()?;
                }
            }
        }
        Ok(given)
    }
}

impl Shapes {
    #[inline]
    fn is_quiet<'py>(&self, event: &Bound<'py, PyAny>, known: &mut Known<'_, 'py>) -> PyResult<bool> {
        let Some([outcomes, run, now]) = self.event.read(event) else { return Ok(false) };
        let Ok(outcomes) = outcomes.cast_exact::<PyTuple>() else { return Ok(false) };
        for outcome in outcomes.as_slice() {
            if !self.gives_nothing(outcome, &run, &now, known)? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn gives_nothing<'py>(
        &self,
        outcome: &Bound<'py, PyAny>,
        run: &Bound<'py, PyAny>,
        now: &Bound<'py, PyAny>,
        known: &mut Known<'_, 'py>,
    ) -> PyResult<bool> {
        if let Some([status, job, step, at]) = self.step.read(outcome) {
            return match text(&status) {
                Some("success") => known.stays_well("step", &[&job, &step], None, &at, now),
                Some(_) => Ok(true),
                None => Ok(false),
            };
        }
        if let Some([asset, partition]) = self.planned.read(outcome) {
            return Ok((partition.is_none() || self.is_of_no_backfill(run)) && known.knows(&asset)?);
        }
        if let Some([asset, metadata, tags, partition, at]) = self.made.read(outcome) {
            return Ok(known.reads_the_same(&asset, &metadata, &tags)?
                && known.stays_well("asset", &[&asset], Some(&partition), &at, now)?);
        }
        if let Some([passed, asset, check, partition, at]) = self.check.read(outcome) {
            return match passed.cast_exact::<PyBool>() {
                Ok(passed) if passed.is_true() => {
                    known.stays_well("check", &[&asset, &check], Some(&partition), &at, now)
                }
                _ => Ok(false),
            };
        }
        if let Some([status, job, run, at]) = self.run_ended.read(outcome) {
            return Ok(text(&status) == Some("success")
                && text(&run).is_some()
                && !known.waiting.contains(run)?
                && known.stays_well("job", &[&job], None, &at, now)?);
        }
        Ok(!self.told.iter().any(|class| outcome.get_type_ptr() == class.as_ptr().cast()))
    }

    /// Whether a run that plans a partition counts for no backfill.
    fn is_of_no_backfill(&self, run: &Bound<'_, PyAny>) -> bool {
        run.is_none()
            || self.run.read(run).is_some_and(|[backfill, parent]| {
                text(&backfill) == Some("") || text(&parent).is_some_and(|parent| !parent.is_empty())
            })
    }
}

impl<'py> Known<'_, 'py> {
    /// Whether a success of the subject of this kind and these names ends nothing; when it was is noted then.
    fn stays_well(
        &mut self,
        kind: &str,
        names: &[&Bound<'py, PyAny>],
        partition: Option<&Bound<'py, PyAny>>,
        at: &Bound<'py, PyAny>,
        now: &Bound<'py, PyAny>,
    ) -> PyResult<bool> {
        let mut subject = String::with_capacity(96);
        subject.push_str(kind);
        for name in names {
            let Some(name) = text(name) else { return Ok(false) };
            subject.push(':');
            subject.push_str(name);
        }
        let (Some(at_ns), Some(now_ns)) = (whole(at), whole(now)) else { return Ok(false) };
        let partition = match partition.filter(|partition| !partition.is_none()) {
            Some(partition) => match text(partition) {
                Some(partition) => partition,
                None => return Ok(false),
            },
            None => "",
        };
        if self.any_fails && self.failing.contains(&subject)? && !self.fails_elsewhere(at.py(), &subject, partition)? {
            return Ok(false);
        }
        let (at_ns, at) = if at_ns <= now_ns { (at_ns, at) } else { (now_ns, now) };
        subject.push('\0');
        let end = subject.len();
        subject.push_str(partition);
        self.note(&subject, at_ns, at)?;
        if !partition.is_empty() {
            subject.truncate(end);
            subject.push('\0');
            self.note(&subject, at_ns, at)?;
        }
        Ok(true)
    }

    /// Whether all that fails of a subject is of other partitions.
    fn fails_elsewhere(&mut self, py: Python<'py>, subject: &str, partition: &str) -> PyResult<bool> {
        let Some(parts) = self.parts.filter(|_| !partition.is_empty()) else { return Ok(false) };
        let subject = self.texts.get(py, subject);
        for part in [self.texts.get(py, partition), intern!(py, "").clone().unbind()] {
            if parts.contains((&subject, part))? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn note(&mut self, subject: &str, at_ns: i64, at: &Bound<'py, PyAny>) -> PyResult<()> {
        let key = self.texts.get(at.py(), subject).into_bound(at.py());
        let before = self.fresh.get_item(&key)?.and_then(|before| whole(&before)).unwrap_or(0);
        if at_ns > before {
            self.fresh.set_item(key, at)?;
        }
        Ok(())
    }

    /// Whether the asset was heard of before.
    fn knows(&self, asset: &Bound<'py, PyAny>) -> PyResult<bool> {
        match self.edges {
            Some(edges) => Ok(text(asset).is_some() && edges.contains(asset)?),
            None => Ok(true),
        }
    }

    /// Whether a materialization tells no edge that is new.
    fn reads_the_same(
        &self,
        asset: &Bound<'py, PyAny>,
        metadata: &Bound<'py, PyAny>,
        tags: &Bound<'py, PyAny>,
    ) -> PyResult<bool> {
        let Some(edges) = self.edges else { return Ok(true) };
        let (py, Some(name)) = (asset.py(), text(asset)) else { return Ok(false) };
        let Some(said) = self.said.get_item(asset)? else { return Ok(false) };
        let Some((row, before)) = pair(&said) else { return Ok(false) };
        if !are_keys(before, tags) || !edges.call_method1(intern!(py, "get"), (asset,))?.is(row) {
            return Ok(false);
        }
        let Ok(metadata) = metadata.cast_exact::<PyDict>() else { return Ok(false) };
        match metadata.get_item(intern!(py, "dagster/column_lineage"))? {
            Some(columns) => Ok(names_no_other(&columns, row, name).unwrap_or(false)),
            None => Ok(true),
        }
    }
}

/// A table's rows as Python's own mapping, which calls no Python; they are looked up but never changed here.
fn rows<'py>(table: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
    let items = table.call_method0(intern!(table.py(), "items"))?;
    Ok(items.getattr(intern!(table.py(), "mapping")).unwrap_or_else(|_| table.clone()))
}

fn pair<'a, 'py>(told: &'a Bound<'py, PyAny>) -> Option<(&'a Bound<'py, PyAny>, &'a Bound<'py, PyAny>)> {
    match told.cast_exact::<PyTuple>().ok()?.as_slice() {
        [first, second] => Some((first, second)),
        _ => None,
    }
}

/// Whether these are the dict's keys, in its order.
fn are_keys(texts: &Bound<'_, PyAny>, dict: &Bound<'_, PyAny>) -> bool {
    let (Ok(texts), Ok(dict)) = (texts.cast_exact::<PyTuple>(), dict.cast_exact::<PyDict>()) else { return false };
    let same = |(one, (key, _)): (&Bound<'_, PyAny>, (Bound<'_, PyAny>, _))| {
        one.is(&key) || text(one).is_some_and(|one| text(&key) == Some(one))
    };
    texts.len() == dict.len() && texts.as_slice().iter().zip(dict.iter()).all(same)
}

/// Whether a table's columns are made of those of assets among `known` alone, or of its own; None for what is odd.
fn names_no_other(columns: &Bound<'_, PyAny>, known: &Bound<'_, PyAny>, own: &str) -> Option<bool> {
    let known = known.cast_exact::<PyTuple>().ok().filter(|known| known.len() <= FEW)?.as_slice();
    for (_, sources) in columns.cast_exact::<PyDict>().ok()?.iter() {
        for source in sources.cast_exact::<PyList>().ok()?.iter() {
            let Some(key) = source.cast_exact::<PyDict>().ok()?.get_item(intern!(source.py(), "asset_key")).ok()?
            else {
                continue;
            };
            let key = text(&key)?;
            if !key.is_empty() && key != own && !known.iter().any(|each| text(each) == Some(key)) {
                return Some(false);
            }
        }
    }
    Some(true)
}
