//! `connectors.logs.Logs.process`: a log record of each event, and what is to be learned of it.

use crate::ids::Ids;
use crate::log_facts::{text, whole, Asked, Describer, Facts, Kind, Made, Severity};
use crate::log_failures::Told;
use crate::record_bytes::Headers;
use crate::slots::{next_few, Class, Slots};
use crate::slow::{SlowTwin, Success};
use ahash::AHashMap;
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyBytes, PyDict, PyList, PyString, PyTuple, PyType};
use std::collections::{HashMap, HashSet};
use std::fmt::Write;

#[rustfmt::skip]
const EVENT: [&str; 14] = [
    "type", "run_id", "at_ns", "level", "job", "step_key", "message", "detail", "source", "headers", "attempt",
    "assets", "outcomes", "run",
];
const OUTCOMES: usize = 12;
const LEVELS: [&str; 5] = ["DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"];
const INFO: usize = 1;
const WARNING: usize = 2;
const ERROR: usize = 3;

/// What is known of an event type: the status and the level that it tells alone.
struct Known {
    kind: Kind,
    status: Option<Py<PyString>>,
    level: Option<Py<PyString>>,
}

/// Makes records of events as `Logs.process` does, but for what is rare: that it leaves to it, event by event.
///
/// `events`, `outcomes`: the modules with these classes. `statuses`, `levels`: those that an event type tells alone.
/// `place`: the header that holds an event's place. `ids`: (run, step, attempt) → trace and span id, of which
/// `most_ids` are remembered. `slow`: asked of, and told, each AssetMaterialized.
#[pyclass]
pub struct LogRecords {
    maker: Maker,
    ids: Ids,
}

struct Maker {
    describer: Describer,
    event: Slots<14>,
    raw: Slots<1>,
    offset: Slots<1>,
    no_bytes: Py<PyAny>,
    run: Slots<2>,
    record: Class,
    known: AHashMap<String, Known>,
    levels: [Py<PyString>; 5],
    no_extra: Py<PyDict>,
    place: String,
    slow: Py<SlowTwin>,
}

#[pymethods]
impl LogRecords {
    #[new]
    fn new(
        py: Python<'_>,
        events: &Bound<'_, PyModule>,
        outcomes: &Bound<'_, PyModule>,
        record: &Bound<'_, PyType>,
        run: &Bound<'_, PyType>,
        statuses: HashMap<String, String>,
        levels: HashMap<String, String>,
        no_extra: Py<PyDict>,
        place: String,
        ids: Py<PyAny>,
        most_ids: usize,
        slow: Py<SlowTwin>,
    ) -> PyResult<Self> {
        let event = events.getattr("Event")?.cast_into::<PyType>()?;
        let word = |text: &String| PyString::intern(py, text).unbind();
        let special = ["LOG", "ASSET_CHECK_EVALUATION", "STEP_FAILURE"].map(String::from);
        let names: HashSet<&String> = statuses.keys().chain(levels.keys()).chain(&special).collect();
        let known = names.into_iter().map(|name| {
            let (status, level) = (statuses.get(name).map(word), levels.get(name).map(word));
            (name.clone(), Known { kind: Kind::of(name), status, level })
        });
        let maker = Maker {
            describer: Describer::new(events, outcomes)?,
            event: Slots::new(&event, EVENT)?,
            raw: Slots::new(&event, ["raw"])?,
            offset: Slots::new(&event, ["offset"])?,
            no_bytes: PyBytes::new(py, b"").into_any().unbind(),
            run: Slots::new(run, ["partition", "code_location"])?,
            record: Class::new(record)?,
            known: known.collect(),
            levels: LEVELS.map(|name| PyString::intern(py, name).unbind()),
            no_extra,
            place,
            slow,
        };
        Ok(Self { maker, ids: Ids::new(ids, most_ids) })
    }

    /// The records of the events, in their order. `rest(event, records)` does all that an event asks for where it is
    /// not as plain as it mostly is. Raises only what `rest` and the other functions raise.
    fn process<'py>(&mut self, events: &Bound<'py, PyAny>, rest: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyList>> {
        let py = events.py();
        let records = PyList::empty(py);
        let maker = &self.maker;
        let mut events = events.try_iter()?;
        let mut near = Vec::new();
        while next_few(&mut events, &mut near)? {
            near.iter().for_each(|event| maker.event.fetch(event));
            for event in &near {
                let made = match maker.event.read(event) {
                    Some(fields) if !maker.raw.holds(0, event, &maker.no_bytes) => {
                        maker.record(py, event, &fields, &mut self.ids)?.map(|(record, made)| (record, made, fields))
                    }
                    _ => None,
                };
                if let Some((record, made, fields)) = made {
                    records.append(record)?;
                    if let Some(success) = made {
                        maker.learn(&fields[OUTCOMES], success)?;
                    }
                } else {
                    rest.call1((event, &records))?;
                }
            }
        }
        Ok(records)
    }
}

impl Maker {
    /// The event's record; and where there is something to learn of its outcomes, what is known of the first success.
    fn record<'py>(
        &self,
        py: Python<'py>,
        event: &Bound<'py, PyAny>,
        fields: &[Bound<'py, PyAny>; 14],
        ids: &mut Ids,
    ) -> PyResult<Option<(Py<PyAny>, Option<Option<Success<'py>>>)>> {
        let [kind, run_id, at_ns, level, job, step, message, detail, source, headers, attempt, assets, outcomes, run] =
            fields;
        let Some(known) = text(kind).map(|name| self.known.get(name)) else { return Ok(None) };
        let asked = Asked {
            kind: known.map_or(Kind::Other, |known| known.kind),
            status: known.and_then(|known| known.status.as_ref()),
            message,
            detail,
            assets,
            outcomes,
        };
        let Some(facts) = self.describer.describe(py, &asked) else { return Ok(None) };
        let Some(level_name) = self.level(known, level, &facts) else { return Ok(None) };
        let Some(id) = self.event_id(event, run_id, source, headers) else { return Ok(None) };
        let (partition, code_location) = if run.is_none() {
            (py.None().into_bound(py), self.describer.empty.bind(py).clone().into_any())
        } else {
            let Some([partition, code_location]) = self.run.read(run) else { return Ok(None) };
            (partition, code_location)
        };
        let partition = match &facts.partition {
            Some(told) if !told.is_none() => match text(told) {
                Some("") => partition,
                Some(_) => told.clone(),
                None => return Ok(None),
            },
            _ => partition,
        };
        let mut message = facts.message.as_ref().map_or(message, |message| message.as_any());
        let mut slow = false;
        let mut learns = None;
        let succeeded;
        if let Some(made) = &facts.made {
            let (is_slow, first) = self.slow.get().is_slow(&made.outcome)?;
            (slow, learns) = (is_slow, Some(first));
            match success(made, slow) {
                None => return Ok(None),
                Some(None) => {}
                Some(Some(told)) => {
                    succeeded = PyString::new(py, &told).into_any();
                    message = &succeeded;
                }
            }
        }
        let begun = !facts.status.is(&self.describer.planned_word) && !facts.status.is(&self.describer.skipped_word);
        let Some(ids) = ids.of(run_id, step, if begun { Some(attempt) } else { None })? else { return Ok(None) };
        let (none, empty) = (py.None(), self.describer.empty.as_ptr());
        let [error_type, error_message, error_stack] = match &facts.error {
            Some(Told(kind, message, stack)) => {
                [kind.as_ptr(), message.as_ptr(), stack.as_ref().map_or(empty, |stack| stack.as_ptr())]
            }
            None => [empty; 3],
        };
        let fields = [
            at_ns.as_ptr(),
            level_name.as_ptr(),
            kind.as_ptr(),
            message.as_ptr(),
            id.as_ptr(),
            run_id.as_ptr(),
            job.as_ptr(),
            step.as_ptr(),
            facts.asset.as_ptr(),
            partition.as_ptr(),
            facts.status.as_ptr(),
            facts.took.as_ref().map_or(none.as_ptr(), |took| took.as_ptr()),
            PyBool::new(py, slow).as_ptr(),
            error_type,
            error_message,
            error_stack,
            ids.0.as_ptr(),
            ids.1.as_ptr(),
            level.as_ptr(),
            PyBool::new(py, false).as_ptr(),
            code_location.as_ptr(),
            facts.extra.as_ref().map_or(self.no_extra.as_ptr(), |extra| extra.as_ptr()),
        ];
        Ok(Some((self.record.make(py, fields)?, learns)))
    }

    /// `pipeline.log_levels.log_level`.
    fn level<'a>(
        &'a self,
        known: Option<&'a Known>,
        level: &Bound<'_, PyAny>,
        facts: &Facts<'_, '_>,
    ) -> Option<&'a Py<PyString>> {
        if let Some(level) = known.and_then(|known| known.level.as_ref()) {
            return Some(level);
        }
        let number: i64 = level.extract().ok()?;
        let place = match known.map_or(Kind::Other, |known| known.kind) {
            Kind::Log if number == 40 && facts.waited => INFO,
            Kind::Check => match facts.failed {
                None => INFO,
                Some(Severity::Warn) => WARNING,
                Some(Severity::Error) => ERROR,
            },
            _ => (number.div_euclid(10).clamp(1, 5) - 1) as usize,
        };
        self.levels.get(place)
    }

    /// `connectors.logs.event_id`.
    fn event_id<'py>(
        &self,
        event: &Bound<'py, PyAny>,
        run_id: &Bound<'py, PyAny>,
        source: &Bound<'py, PyAny>,
        headers: &Bound<'py, PyAny>,
    ) -> Option<Bound<'py, PyString>> {
        let py = event.py();
        let run = text(run_id)?;
        let mut id = String::with_capacity(64);
        id.push_str(if run.is_empty() { text(source)? } else { run });
        id.push(':');
        for pair in Headers::of(headers)?.pairs() {
            let (name, value) = pair?;
            if name == self.place {
                id.push_str(std::str::from_utf8(value).ok()?);
                return Some(PyString::new(py, &id));
            }
        }
        let [offset] = self.offset.read(event)?;
        write!(id, "{}", whole(&offset)?).ok()?;
        Some(PyString::new(py, &id))
    }

    fn learn<'py>(&self, outcomes: &Bound<'py, PyAny>, mut first: Option<Success<'py>>) -> PyResult<()> {
        for outcome in outcomes.cast_exact::<PyTuple>()?.as_slice() {
            if self.describer.is_made(outcome) {
                self.slow.get().learn(outcome, first.take())?;
            }
        }
        Ok(())
    }
}

/// `connectors.logs.succeeded`: Some(None) is the event's own message, None one that Python makes.
fn success(made: &Made<'_>, slow: bool) -> Option<Option<String>> {
    let Some(ms) = made.took_ms else { return Some(None) };
    let mut told = String::from("Succeeded in ");
    let digits = (ms.round_ties_even() as u64).to_string();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place) % 3 == 0 {
            told.push(',');
        }
        told.push(digit);
    }
    told.push_str(if slow { "ms (slow)" } else { "ms" });
    if !made.description.is_none() {
        match text(&made.description)? {
            "" => {}
            description => write!(told, ": {description}").ok()?,
        }
    }
    Some(Some(told))
}
