//! `processors.ledger.ledger.Ledger.take` over a batch: the events of runs that go on as they should.

use crate::ledger_book::Book;
use crate::ledger_ends::End;
use crate::ledger_parts::{
    annotated, flag, int, rows, run, set, set_bool, step, text, tuple, whole, Done, Now, Odd, Parts, Rest,
};
use crate::slots::next_few;
use ahash::AHashMap;
use pyo3::prelude::*;
use pyo3::types::{PyModule, PyString, PyTuple, PyType};
use std::collections::HashSet;

/// What an event of a type does.
#[derive(Clone, Copy, PartialEq)]
enum Way {
    Rest,
    Enqueued,
    Starting,
    Begun,
    AssetPlanned,
    CheckPlanned,
    Materialized,
    Observed,
    Checked,
    Started,
    Restarted,
    UpForRetry,
    Succeeded,
    Failed,
    Output,
    Input,
    Handled,
    Loaded,
    Logged,
    Ended(End),
    Marked,
    Herald,
}

impl Way {
    /// Of a type that has a handler in Python; one that is not known here is all Python's.
    fn handled(name: &str) -> Self {
        match name {
            "PIPELINE_ENQUEUED" => Way::Enqueued,
            "PIPELINE_STARTING" => Way::Starting,
            "PIPELINE_START" => Way::Begun,
            "ASSET_MATERIALIZATION_PLANNED" => Way::AssetPlanned,
            "ASSET_CHECK_EVALUATION_PLANNED" => Way::CheckPlanned,
            "ASSET_MATERIALIZATION" => Way::Materialized,
            "ASSET_OBSERVATION" => Way::Observed,
            "ASSET_CHECK_EVALUATION" => Way::Checked,
            "STEP_START" => Way::Started,
            "STEP_RESTARTED" => Way::Restarted,
            "STEP_UP_FOR_RETRY" => Way::UpForRetry,
            "STEP_SUCCESS" => Way::Succeeded,
            "STEP_FAILURE" => Way::Failed,
            "STEP_OUTPUT" => Way::Output,
            "STEP_INPUT" => Way::Input,
            "HANDLED_OUTPUT" => Way::Handled,
            "LOADED_INPUT" => Way::Loaded,
            "LOG" => Way::Logged,
            "PIPELINE_SUCCESS" => Way::Ended(End::Success),
            "PIPELINE_FAILURE" => Way::Ended(End::Failure),
            "PIPELINE_CANCELED" => Way::Ended(End::Canceled),
            _ => Way::Rest,
        }
    }
}

/// The run of the event before, as most events are of the same one.
struct Last<'py> {
    run_id: Bound<'py, PyAny>,
    rows: Bound<'py, PyAny>,
    run: Bound<'py, PyAny>,
    heard: Option<(i64, i64)>,
}

impl Last<'_> {
    fn is_of(&self, run_id: &Bound<'_, PyAny>, id: &str) -> bool {
        self.run_id.is(run_id) || text(&self.run_id).is_ok_and(|own| own == id)
    }
}

/// Takes events as `Ledger.take` does, but for what is rare: that it leaves to it, event by event.
///
/// `events`, `outcomes`, `states`, `rows`: the modules and the class that it reads and makes objects of. `in_run`,
/// `in_step`, `heralds`, `idle`: the event types that have a handler, one for events of a step, come before an attempt,
/// or are said of runs that were over, too. `book`: `Book.parts()`.
#[pyclass(frozen)]
pub struct LedgerTwin {
    parts: Parts,
    book: Book,
    outside: AHashMap<String, Way>,
    idle: HashSet<String>,
    in_step: AHashMap<String, Way>,
}

#[pymethods]
impl LedgerTwin {
    #[new]
    fn new(
        events: &Bound<'_, PyModule>,
        outcomes: &Bound<'_, PyModule>,
        states: &Bound<'_, PyModule>,
        rows: &Bound<'_, PyType>,
        in_run: HashSet<String>,
        in_step: HashSet<String>,
        heralds: HashSet<String>,
        idle: HashSet<String>,
        book: &Bound<'_, PyTuple>,
    ) -> PyResult<Self> {
        let handled = |name: &String| (name.clone(), Way::handled(name));
        let heralds = heralds.into_iter().map(|name| (name, Way::Herald));
        Ok(Self {
            parts: Parts::new(events, outcomes, states, rows)?,
            book: Book::new(book, rows, states)?,
            idle,
            outside: in_run.iter().map(handled).collect(),
            in_step: heralds.chain(in_run.iter().chain(&in_step).map(handled)).collect(),
        })
    }

    /// Takes the events in their order, and puts the steps that are new then; how many events it did itself.
    ///
    /// Opens runs while fewer than `room` are going on. `rest(place, event)`, places from 1, takes an event in Python.
    /// Raises what this, the book's tables and its orders raise.
    fn take_all<'py>(
        &self,
        events: &Bound<'py, PyAny>,
        room: &Bound<'py, PyAny>,
        rest: &Bound<'py, PyAny>,
    ) -> PyResult<usize> {
        let room = room.extract().unwrap_or(usize::MAX);
        let (mut events, mut near) = (events.try_iter()?, Vec::new());
        let (mut place, mut done, mut last) = (0, 0, None);
        while next_few(&mut events, &mut near)? {
            near.iter().for_each(|event| self.parts.event.fetch(event));
            for event in &near {
                place += 1;
                match self.take(event, room, &mut last) {
                    Ok(()) => done += 1,
                    Err(Odd::Raised(error)) => return Err(error),
                    Err(Rest) => {
                        last = None;
                        rest.call1((place, event))?;
                    }
                }
            }
        }
        match self.book.done(&self.parts, rest.py()) {
            Err(Odd::Raised(error)) => Err(error),
            _ => Ok(done), // what is odd is left to `Book.done`
        }
    }
}

impl LedgerTwin {
    fn take<'py>(&self, event: &Bound<'py, PyAny>, room: usize, last: &mut Option<Last<'py>>) -> Done<()> {
        let parts = &self.parts;
        let [run_id, kind, key, at, now_ns, detail, step_kind] = parts.event.read(event).ok_or(Rest)?;
        let (name, at_ns, now_ns) = (text(&kind)?, whole(&at)?, (whole(&now_ns)?, now_ns));
        let is_outside = text(&key)?.is_empty();
        let ways = if is_outside { &self.outside } else { &self.in_step };
        let way = ways.get(name).copied().unwrap_or(Way::Marked);
        let of_run = text(&run_id)?;
        if of_run.is_empty() {
            return self.tell(event, parts.runless(&at, &detail)?);
        }
        if way == Way::Rest {
            return Err(Rest);
        }
        if !last.as_ref().is_some_and(|last| last.is_of(&run_id, of_run)) {
            let job = parts.annotated.get(event, annotated::JOB).ok_or(Rest)?;
            let Some(rows) = self.book.found(event, [&run_id, &job, &at, &now_ns.1], room)? else {
                let is_end = matches!(way, Way::Ended(_));
                return if is_end { Err(Rest) } else { parts.after_the_end(event, &detail, !is_outside) };
            };
            let run = parts.rows.get(&rows, rows::RUN).ok_or(Rest)?;
            *last = Some(Last { run_id: run_id.clone(), rows, run, heard: None });
        }
        let known = last.as_mut().ok_or(Rest)?;
        let (rows, run) = (known.rows.clone(), known.run.clone());
        let now = Now { event, run_id, key, at, at_ns, detail, run };
        self.hear(&now, name, now_ns.0, &now_ns.1, &mut known.heard)?;
        if matches!(way, Way::Ended(_)) {
            *last = None;
        }
        let of = if is_outside || matches!(way, Way::AssetPlanned | Way::CheckPlanned) {
            None
        } else {
            Some(self.step(&now, &rows, &step_kind)?)
        };
        let told = match (way, &of) {
            (Way::Marked | Way::Herald, of) => {
                parts.marked(&now, of.as_ref(), way == Way::Herald, name.starts_with("RESOURCE_"))?
            }
            (Way::Started, Some(of)) => parts.started(&now, of)?,
            (Way::Restarted, Some(of)) => parts.restarted(&now, of)?,
            (Way::UpForRetry, Some(of)) => parts.up_for_retry(&now, of)?,
            (Way::Succeeded, Some(of)) => parts.succeeded(&now, of)?,
            (Way::Failed, Some(of)) => parts.failed(&now, of).map(|()| None)?,
            (Way::Handled, Some(of)) => parts.handled(&now, of, false)?,
            (Way::Loaded, Some(of)) => parts.handled(&now, of, true)?,
            (Way::Output, Some(of)) => set(&parts.step, of, step::OUTPUT_NS, &now.at).map(|()| None)?,
            (Way::Input, Some(of)) => set(&parts.step, of, step::INPUT_NS, &now.at).map(|()| None)?,
            (Way::Logged, Some(of)) => parts.says_nothing(&now, of)?.then_some(None).ok_or(Rest)?,
            (Way::Materialized, of) => parts.materialized(&now, of.as_ref())?,
            (Way::Observed, _) => parts.observed(&now)?,
            (Way::Checked, _) => parts.checked(&now)?,
            (Way::AssetPlanned, _) => parts.asset_planned(&now)?,
            (Way::CheckPlanned, _) => parts.check_planned(&now)?,
            (Way::Enqueued, _) => self.moved(&now, run::ENQUEUED_NS, "queued").map(|()| None)?,
            (Way::Starting, _) => self.moved(&now, run::STARTING_NS, "starting").map(|()| None)?,
            (Way::Ended(end), None) => parts.run_ended(&now, end, &rows, &now_ns.1, &self.book).map(|()| None)?,
            (Way::Begun, _) => self.moved(&now, run::STARTED_NS, "started").map(|()| None)?,
            _ => return Err(Rest),
        };
        if let Some(of) = &of {
            let assets = parts.step.get(of, step::ASSETS).ok_or(Rest)?;
            parts.annotated.write(event, annotated::ASSETS, &assets);
        }
        self.tell(event, told)
    }

    fn tell<'py>(&self, event: &Bound<'py, PyAny>, told: Option<Bound<'py, PyAny>>) -> Done<()> {
        if let Some(told) = told {
            self.parts.annotated.write(event, annotated::OUTCOMES, &tuple(&[], &told)?);
        }
        Ok(())
    }

    /// When the run was heard of. May be done twice. `heard`: when it last was, of one that goes on and has begun.
    fn hear(
        &self,
        now: &Now<'_, '_>,
        name: &str,
        now_ns: i64,
        now_object: &Bound<'_, PyAny>,
        heard: &mut Option<(i64, i64)>,
    ) -> Done<()> {
        let slots = &self.parts.run;
        let get = |field| slots.get(&now.run, field).ok_or(Rest);
        let (seen_ns, last_ns) = match *heard {
            Some(both) => both,
            None => {
                if !text(&get(run::STATUS)?)?.is_empty() {
                    return Ok(());
                }
                let both = (whole(&get(run::SEEN_NS)?)?, whole(&get(run::LAST_NS)?)?);
                let mut begun = flag(&get(run::BEGUN)?)?;
                if !begun {
                    if text(&get(run::JOB)?)?.is_empty() {
                        let job = self.parts.annotated.get(now.event, annotated::JOB).ok_or(Rest)?;
                        text(&job)?;
                        set(slots, &now.run, run::JOB, &job)?;
                    }
                    begun = !self.idle.contains(name);
                    set_bool(slots, &now.run, run::BEGUN, begun)?;
                }
                *heard = begun.then_some(both);
                both
            }
        };
        if now_ns > seen_ns {
            set(slots, &now.run, run::SEEN_NS, now_object)?;
        }
        if now.at_ns > last_ns {
            set(slots, &now.run, run::LAST_NS, &now.at)?;
        }
        if heard.is_some() {
            *heard = Some((seen_ns.max(now_ns), last_ns.max(now.at_ns)));
        }
        Ok(())
    }

    /// The event's step, and its attempt onto the event. May be done twice.
    fn step<'py>(
        &self,
        now: &Now<'_, 'py>,
        rows: &Bound<'py, PyAny>,
        kind: &Bound<'py, PyAny>,
    ) -> Done<Bound<'py, PyAny>> {
        let slots = &self.parts.step;
        let of = self.book.step(&self.parts, now, rows)?;
        let attempt = slots.get(&of, step::ATTEMPT).ok_or(Rest)?;
        if text(&slots.get(&of, step::KIND).ok_or(Rest)?)?.is_empty() && !text(kind)?.is_empty() {
            set(slots, &of, step::KIND, kind)?;
        }
        let attempt = if whole(&attempt)? == 0 { int(kind.py(), 1) } else { attempt };
        self.parts.annotated.write(now.event, annotated::ATTEMPT, &attempt);
        Ok(of)
    }

    /// A run on its way: when it first came so far.
    fn moved(&self, now: &Now<'_, '_>, since: usize, phase: &'static str) -> Done<()> {
        let (slots, run) = (&self.parts.run, &now.run);
        let before = slots.get(run, since).ok_or(Rest)?;
        if since == run::ENQUEUED_NS {
            match self.parts.queued.read(&now.detail) {
                Some([partition]) => {
                    crate::ledger_parts::partition(&partition)?;
                    set(slots, run, run::PARTITION, &partition)?;
                }
                None if now.detail.is_none() => {}
                None => return Err(Rest),
            }
        }
        if before.is_none() {
            set(slots, run, since, &now.at)?;
        }
        set(slots, run, run::PHASE, &PyString::intern(run.py(), phase))
    }
}
