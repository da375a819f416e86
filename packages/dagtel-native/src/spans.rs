//! `connectors.spans.Spans.process`: spans of what has ended, and what waits for the end of its attempt.

use crate::ids::Decimal;
use crate::log_facts::{text, whole};
use crate::slots::{next_few, Slots};
use crate::span_roots::{Roots, RUN};
use crate::span_shapes::{name_of, Any, Asset, Made, Not, RunIds, Shapes, STEP};
use ahash::AHashMap;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList, PyModule, PyString, PyTuple, PyType};

/// Does with outcomes what `connectors.spans.Spans` does, but for what is rare: that it leaves to it.
///
/// `event`, `asset`: Event and AssetFacts. `shapes`: the module `connectors.span_shapes`. `silent`: the classes of
/// outcomes that no span tells of. `waiting`, `open_run`: the classes of what waits; `runs`, `ended`: the tables.
/// `resource`: code location → resource. `trace_id`: asked where a run's id is no UUID. `most_events`, `most_inner`:
/// so many wait for one attempt; `most_stack`: so many characters of an error's stack do.
#[pyclass(frozen)]
pub struct SpanMaker {
    shapes: Shapes,
    roots: Roots,
    outcomes: Slots<1>,
    event: Slots<5>,
    run: Slots<11>,
    facts: Slots<1>,
    step: Slots<13>,
    made: Slots<7>,
    check: Slots<9>,
    observed: Slots<5>,
    inner: Slots<4>,
    error: Slots<1>,
    silent: Vec<Py<PyType>>,
    event_names: [Py<PyAny>; 3],
    check_names: [Py<PyAny>; 4],
    waiting_type: Py<PyType>,
    waiting: Slots<4>,
    open_type: Py<PyType>,
    open: Slots<1>,
    runs: Py<PyAny>,
    ended: Py<PyAny>,
    resource: Py<PyAny>,
    most_events: usize,
    most_inner: usize,
    most_stack: usize,
}

/// A run in one call.
struct Run<'py> {
    ids: RunIds<'py>,
    key: Option<Key<'py>>,
    row: Option<Row<'py>>,
    /// How much Python had done when the row was looked at.
    seen: usize,
}

/// The last attempt that was asked for: a step's key, the number, both as one text.
struct Key<'py> {
    step: Any<'py>,
    attempt: i64,
    text: Any<'py>,
}

impl<'py> Run<'py> {
    /// `_attempt`; None for "".
    fn key(&mut self, step: &Any<'py>, attempt: &Any<'py>) -> Made<Option<Any<'py>>> {
        let number = whole(attempt).ok_or(Not::Ours)?;
        if let Some(last) = self.key.as_ref().filter(|last| last.step.is(step) && last.attempt == number) {
            return Ok(Some(last.text.clone()));
        }
        let name = text(step).ok_or(Not::Ours)?;
        if name.is_empty() || number == 0 {
            return Ok(None);
        }
        let both = PyString::new(step.py(), &[name, "#", Decimal::of(number).text()].concat()).into_any();
        self.key = Some(Key { step: step.clone(), attempt: number, text: both.clone() });
        Ok(Some(both))
    }
}

/// What the tables say of a run.
enum Row<'py> {
    /// It waits. Its row may be changed in this call: the table has been told.
    Open(Bound<'py, PyDict>),
    Ended,
}

type Runs<'py> = AHashMap<String, Run<'py>>;

/// One call of `process`. `left` counts what was left to Python, which may have changed any row.
struct Call<'py> {
    spans: Bound<'py, PyList>,
    runs: Runs<'py>,
    left: usize,
    bury: Any<'py>,
    /// The last code location that was asked for, and its resource.
    place: Option<(Any<'py>, Any<'py>)>,
}

#[pymethods]
impl SpanMaker {
    #[new]
    fn new(
        event: &Bound<'_, PyType>,
        asset: &Bound<'_, PyType>,
        shapes: &Bound<'_, PyModule>,
        silent: Vec<Py<PyType>>,
        waiting: &Bound<'_, PyType>,
        open_run: &Bound<'_, PyType>,
        runs: Py<PyAny>,
        ended: Py<PyAny>,
        resource: Py<PyAny>,
        trace_id: Py<PyAny>,
        run_url: Py<PyString>,
        run_tags: bool,
        most_events: usize,
        most_inner: usize,
        most_stack: usize,
    ) -> PyResult<Self> {
        let kind = |name: &str| -> PyResult<Bound<'_, PyType>> { Ok(shapes.getattr(name)?.cast_into()?) };
        let names = shapes.getattr("names")?;
        let name = |name: &str| name_of(&names, name);
        let check = ["run", "step", "asset", "check", "passed", "severity", "blocking", "partition", "at_ns"];
        Ok(Self {
            shapes: Shapes::new(shapes, asset)?,
            roots: Roots::new(shapes, trace_id, run_url, run_tags)?,
            outcomes: Slots::new(event, ["outcomes"])?,
            event: Slots::new(event, ["attempt", "step_key", "run", "catalog", "now_ns"])?,
            run: Slots::new(&kind("RunEnded")?, RUN)?,
            facts: Slots::new(&kind("RunFacts")?, ["code_location"])?,
            step: Slots::new(&kind("StepEnded")?, STEP)?,
            made: Slots::new(
                &kind("AssetMaterialized")?,
                ["run", "step", "attempt", "asset", "partition", "metadata", "at_ns"],
            )?,
            check: Slots::new(&kind("CheckEvaluated")?, check)?,
            observed: Slots::new(&kind("AssetObserved")?, ["run", "asset", "partition", "metadata", "at_ns"])?,
            inner: Slots::new(&kind("InnerEnded")?, ["run", "step", "attempt", "error"])?,
            error: Slots::new(&kind("ErrorInfo")?, ["stack"])?,
            silent,
            event_names: [name("EVENT_MATERIALIZATION")?, name("EVENT_OBSERVATION")?, name("EVENT_CHECK")?],
            check_names: [name("CHECK_NAME")?, name("CHECK_PASSED")?, name("CHECK_SEVERITY")?, name("CHECK_BLOCKING")?],
            waiting: Slots::new(waiting, ["events", "inner", "events_dropped", "inner_dropped"])?,
            waiting_type: waiting.clone().unbind(),
            open: Slots::new(open_run, ["attempts"])?,
            open_type: open_run.clone().unbind(),
            runs,
            ended,
            resource,
            most_events,
            most_inner,
            most_stack,
        })
    }

    /// The spans of the events, in their order. `rest(outcome, event, spans)` does all that an outcome asks for where
    /// it is not as plain as it mostly is; `bury(run, now_ns)` leaves a tombstone. Raises only what these, the tables and the other functions raise.
    fn process<'py>(&self, events: &Any<'py>, rest: &Any<'py>, bury: &Any<'py>) -> PyResult<Bound<'py, PyList>> {
        let mut call =
            Call { spans: PyList::empty(events.py()), runs: AHashMap::new(), left: 0, bury: bury.clone(), place: None };
        let mut events = events.try_iter()?;
        let mut near = Vec::new();
        while next_few(&mut events, &mut near)? {
            near.iter().for_each(|event| self.outcomes.fetch(event));
            near.iter().for_each(|event| self.fetch(event));
            for event in &near {
                let outcomes = match self.outcomes.read(event) {
                    Some([outcomes]) => outcomes,
                    None => event.getattr(intern!(event.py(), "outcomes"))?,
                };
                let Ok(plain) = outcomes.cast_exact::<PyTuple>() else {
                    for outcome in outcomes.try_iter()? {
                        call.leave(&outcome?, event, rest)?;
                    }
                    continue;
                };
                for outcome in plain.as_slice() {
                    match self.take(&mut call, outcome, event) {
                        Ok(()) => {}
                        Err(Not::Ours) => call.leave(outcome, event, rest)?,
                        Err(Not::Raised(error)) => return Err(error),
                    }
                }
            }
        }
        Ok(call.spans)
    }
}

impl<'py> Call<'py> {
    fn leave(&mut self, outcome: &Any<'py>, event: &Any<'py>, rest: &Any<'py>) -> PyResult<()> {
        self.left += 1;
        rest.call1((outcome, event, &self.spans)).map(drop)
    }
}

impl SpanMaker {
    /// Has what its outcomes hold fetched into the cache.
    fn fetch(&self, event: &Any<'_>) {
        let Some([outcomes]) = self.outcomes.read(event) else { return };
        let Ok(outcomes) = outcomes.cast_exact::<PyTuple>() else { return };
        if outcomes.is_empty() {
            return;
        }
        self.event.fetch(event);
        for outcome in outcomes.as_slice() {
            self.step.fetch(outcome);
            self.made.fetch(outcome);
            self.inner.fetch(outcome);
            self.check.fetch(outcome);
        }
    }

    fn take<'py>(&self, call: &mut Call<'py>, outcome: &Any<'py>, event: &Any<'py>) -> Made<()> {
        let kind = outcome.get_type_ptr();
        if self.silent.iter().any(|silent| silent.as_ptr() == kind.cast()) {
            return Ok(());
        }
        let [event_attempt, event_step, facts, catalog, now_ns] = &self.event.read(event).ok_or(Not::Ours)?;
        if let Some(fields) = self.step.read(outcome) {
            return self.step(call, &fields, facts);
        }
        if let Some([run, step, attempt, key, partition, metadata, at_ns]) = &self.made.read(outcome) {
            let asset = Asset { key, partition, metadata: Some(metadata), catalog };
            return self.note(call, run, [step, attempt], |shapes| {
                shapes.event(&self.event_names[0], at_ns, &shapes.asset(&asset)?)
            });
        }
        if let Some([run, step, attempt, error]) = &self.inner.read(outcome) {
            return self.inner(call, outcome, run, [step, attempt], error);
        }
        if let Some([run, step, key, check, passed, severity, blocking, partition, at_ns]) = &self.check.read(outcome) {
            let asset = Asset { key, partition, metadata: None, catalog };
            return self.note(call, run, [step, event_attempt], |shapes| {
                let attributes = shapes.asset(&asset)?;
                for (name, value) in self.check_names.iter().zip([check, passed, severity, blocking]) {
                    attributes.set_item(name, value)?;
                }
                shapes.event(&self.event_names[2], at_ns, &attributes)
            });
        }
        if let Some([run, key, partition, metadata, at_ns]) = &self.observed.read(outcome) {
            let asset = Asset { key, partition, metadata: Some(metadata), catalog };
            return self.note(call, run, [event_step, event_attempt], |shapes| {
                shapes.event(&self.event_names[1], at_ns, &shapes.asset(&asset)?)
            });
        }
        if let Some(fields) = self.run.read(outcome) {
            return self.end(call, &fields, facts, now_ns);
        }
        Err(Not::Ours)
    }

    /// `Spans._run`.
    fn end<'py>(&self, call: &mut Call<'py>, ended: &[Any<'py>; 11], facts: &Any<'py>, now_ns: &Any<'py>) -> Made<()> {
        let (py, name, late) = (now_ns.py(), &ended[0], &ended[10]);
        let Some(run) = self.known(&mut call.runs, name)? else { return Ok(()) };
        let (open_runs, ended_runs) = (self.runs.bind(py), self.ended.bind(py));
        let left = open_runs.call_method1(intern!(py, "get"), (name,))?;
        let is_over = late.is_truthy()? || ended_runs.contains(name)?;
        let mut spans = Vec::new();
        if !is_over {
            let resource = self.resource_of(&mut call.place, facts)?;
            let (events, inner) = self.joined(&left)?;
            spans.push(self.roots.span(&self.shapes, &run.ids, ended, facts, &resource, events)?);
            spans.extend(self.shapes.inner(&run.ids, inner, &run.ids.root, &resource, "end")?);
        }
        if !left.is_none() {
            open_runs.call_method1(intern!(py, "delete"), (name,))?;
        }
        run.row = None;
        if !is_over {
            let buried = ended_runs.len()?;
            call.bury.call1((name, now_ns))?;
            if ended_runs.len()? != buried + 1 {
                call.left += 1; // some are forgotten
            }
        }
        for span in spans {
            call.spans.append(span)?;
        }
        Ok(())
    }

    /// `_joined`: span events, and what ended within.
    fn joined<'py>(&self, left: &Any<'py>) -> Made<(Vec<Any<'py>>, Vec<Any<'py>>)> {
        let (mut all_events, mut all_inner) = (Vec::new(), Vec::new());
        if !left.is_none() {
            for waiting in self.attempts(left)?.values() {
                let [events, inner, _, _] = self.waiting.read(&waiting).ok_or(Not::Ours)?;
                all_events.extend(list(&events)?);
                all_inner.extend(list(&inner)?);
            }
        }
        all_events.truncate(self.most_events);
        Ok((all_events, all_inner))
    }

    /// `Spans._step`.
    fn step<'py>(&self, call: &mut Call<'py>, ended: &[Any<'py>; 13], facts: &Any<'py>) -> Made<()> {
        let [name, _, step, attempt, ..] = ended;
        let Some(run) = self.known(&mut call.runs, name)? else { return Ok(()) };
        let key = run.key(step, attempt)?.ok_or(Not::Ours)?;
        let resource = self.resource_of(&mut call.place, facts)?;
        let attempts = match &run.row {
            Some(Row::Open(attempts)) if run.seen == call.left => Some(attempts.clone()),
            _ => self.stored(name, &key)?,
        };
        let waiting = attempts.as_ref().map_or(Ok(None), |attempts| attempts.get_item(&key))?;
        let (Some(attempts), Some(waiting)) = (attempts, waiting) else {
            let (span, _) = self.shapes.step(&run.ids, ended, &key, &resource, None, None)?;
            return Ok(call.spans.append(span)?);
        };
        let [events, inner, events_dropped, inner_dropped] = self.waiting.read(&waiting).ok_or(Not::Ours)?;
        let (events, inner) = (list(&events)?, list(&inner)?);
        let dropped = Some([&events_dropped, &inner_dropped]);
        let (span, id) = self.shapes.step(&run.ids, ended, &key, &resource, Some(events), dropped)?;
        let within = self.shapes.inner(&run.ids, inner.iter().collect(), &id, &resource, "")?;
        attempts.del_item(&key)?;
        call.spans.append(span)?;
        for span in within {
            call.spans.append(span)?;
        }
        Ok(())
    }

    /// `Spans._note` of what `note` makes.
    fn note<'py>(
        &self,
        call: &mut Call<'py>,
        name: &Any<'py>,
        [step, attempt]: [&Any<'py>; 2],
        note: impl FnOnce(&Shapes) -> Made<Any<'py>>,
    ) -> Made<()> {
        let Some(run) = self.known(&mut call.runs, name)? else { return Ok(()) };
        let (key, note) = (run.key(step, attempt)?, note(&self.shapes)?);
        let Some(attempts) = self.row(run, name, call.left)? else { return Ok(()) };
        let waiting = self.wait(attempts, key)?;
        let [events, _, dropped, _] = self.waiting.read(&waiting).ok_or(Not::Ours)?;
        let events = list(&events)?;
        if events.len() < self.most_events {
            events.append(note)?;
        } else {
            waiting.setattr(intern!(name.py(), "events_dropped"), dropped.add(1)?)?;
        }
        Ok(())
    }

    /// `Spans._inner`, but for what comes after the run's end.
    fn inner<'py>(
        &self,
        call: &mut Call<'py>,
        ended: &Any<'py>,
        name: &Any<'py>,
        [step, attempt]: [&Any<'py>; 2],
        error: &Any<'py>,
    ) -> Made<()> {
        let Some(run) = self.known(&mut call.runs, name)? else { return Ok(()) };
        let key = run.key(step, attempt)?;
        if !error.is_none() {
            let [stack] = self.error.read(error).ok_or(Not::Ours)?;
            if stack.cast_exact::<PyString>().map_err(|_| Not::Ours)?.len()? > self.most_stack {
                return Err(Not::Ours);
            }
        }
        let attempts = self.row(run, name, call.left)?.ok_or(Not::Ours)?;
        let waiting = self.wait(attempts, key)?;
        let [_, inner, _, dropped] = self.waiting.read(&waiting).ok_or(Not::Ours)?;
        let inner = list(&inner)?;
        if inner.len() < self.most_inner {
            inner.append(ended)?;
        } else {
            waiting.setattr(intern!(name.py(), "inner_dropped"), dropped.add(1)?)?;
        }
        Ok(())
    }

    /// What is known of a run; None for no run.
    fn known<'a, 'py>(&self, runs: &'a mut Runs<'py>, run: &Any<'py>) -> Made<Option<&'a mut Run<'py>>> {
        let name = text(run).ok_or(Not::Ours)?;
        if name.is_empty() {
            return Ok(None);
        }
        if !runs.contains_key(name) {
            let ids = self.roots.ids(run, name)?;
            runs.insert(name.into(), Run { ids, key: None, row: None, seen: 0 });
        }
        Ok(runs.get_mut(name))
    }

    /// What waits within a run, by attempt, to be changed; None for one that has ended.
    fn row<'a, 'py>(
        &self,
        run: &'a mut Run<'py>,
        name: &Any<'py>,
        left: usize,
    ) -> Made<Option<&'a Bound<'py, PyDict>>> {
        let py = name.py();
        if run.row.is_none() || run.seen != left {
            let row = if self.ended.bind(py).contains(name)? {
                Row::Ended
            } else {
                let runs = self.runs.bind(py);
                let mut open = runs.call_method1(intern!(py, "edit"), (name,))?;
                if open.is_none() {
                    open = self.open_type.bind(py).call0()?;
                    runs.call_method1(intern!(py, "put"), (name, &open))?;
                }
                Row::Open(self.attempts(&open)?)
            };
            (run.row, run.seen) = (Some(row), left);
        }
        Ok(match &run.row {
            Some(Row::Open(attempts)) => Some(attempts),
            _ => None,
        })
    }

    /// The same of the table if this attempt is among it, else None, and the table is not told of a change.
    fn stored<'py>(&self, run: &Any<'py>, key: &Any<'py>) -> Made<Option<Bound<'py, PyDict>>> {
        let (py, runs) = (run.py(), self.runs.bind(run.py()));
        let open = runs.call_method1(intern!(py, "get"), (run,))?;
        if open.is_none() {
            return Ok(None);
        }
        let attempts = self.attempts(&open)?;
        if !attempts.contains(key)? {
            return Ok(None);
        }
        runs.call_method1(intern!(py, "edit"), (run,))?;
        Ok(Some(attempts))
    }

    fn attempts<'py>(&self, open: &Any<'py>) -> Made<Bound<'py, PyDict>> {
        let [attempts] = self.open.read(open).ok_or(Not::Ours)?;
        attempts.cast_into_exact().map_err(|_| Not::Ours)
    }

    /// What waits for an attempt, made where nothing does yet.
    fn wait<'py>(&self, attempts: &Bound<'py, PyDict>, key: Option<Any<'py>>) -> Made<Any<'py>> {
        let key = key.unwrap_or_else(|| intern!(attempts.py(), "").clone().into_any());
        if let Some(waiting) = attempts.get_item(&key)? {
            return Ok(waiting);
        }
        let waiting = self.waiting_type.bind(attempts.py()).call0()?;
        attempts.set_item(key, &waiting)?;
        Ok(waiting)
    }

    /// `Spans._resource_of`.
    fn resource_of<'py>(&self, last: &mut Option<(Any<'py>, Any<'py>)>, facts: &Any<'py>) -> Made<Any<'py>> {
        let py = facts.py();
        let place = if facts.is_none() {
            intern!(py, "").clone().into_any()
        } else {
            let [place] = self.facts.read(facts).ok_or(Not::Ours)?;
            place
        };
        if let Some((_, resource)) = last.as_ref().filter(|(known, _)| known.is(&place)) {
            return Ok(resource.clone());
        }
        let resource = self.resource.bind(py).call1((&place,))?;
        *last = Some((place, resource.clone()));
        Ok(resource)
    }
}

fn list<'a, 'py>(object: &'a Any<'py>) -> Made<&'a Bound<'py, PyList>> {
    object.cast_exact().map_err(|_| Not::Ours)
}
