//! `processors.ledger.book.Book`: the runs that the ledger knows, their steps, and what becomes of them at their end.

use crate::encoded_rows::EncodedRows;
use crate::ledger_orders::{Digests, Oldest};
use crate::ledger_parts::{dict, flag, list, rows, run, step, Done, Now, Parts, Rest};
use crate::slots::{make, Class};
use crate::table_rows::TableRows;
use pyo3::exceptions::PySystemError;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyList, PyModule, PyTuple, PyType};

/// The tables and orders of a `Book`, changed as its methods of the same names do. Which run is the oldest is Python's
/// to say.
pub struct Book {
    runs: Py<TableRows>,
    recent: Py<TableRows>,
    steps: Py<TableRows>,
    ended: EncodedRows,
    quiet: Oldest,
    ending: Oldest,
    first_ending: Py<PyAny>,
    buried: Py<PyAny>,
    touched: Py<PyDict>,
    keep_ended: usize,
    tombstones: usize,
    rows: Py<PyType>,
    run_state: Py<PyType>,
    tombstone: Class,
    digests: Digests,
}

impl Book {
    /// `parts`: `Book.parts()`.
    pub fn new(parts: &Bound<'_, PyTuple>, rows: &Bound<'_, PyType>, states: &Bound<'_, PyModule>) -> PyResult<Self> {
        let (tables, orders, touched, limits, digest) = parts.extract()?;
        let (runs, recent, steps, ended): (_, _, _, Bound<'_, PyAny>) = tables;
        let (quiet, ending, first_ending, buried): (Bound<'_, PyAny>, Bound<'_, PyAny>, _, _) = orders;
        let (keep_ended, tombstones): (Bound<'_, PyAny>, Bound<'_, PyAny>) = limits;
        let limit = |number: Bound<'_, PyAny>| number.extract().unwrap_or(usize::MAX);
        Ok(Self {
            runs,
            recent,
            steps,
            ended: EncodedRows::new(&ended)?,
            quiet: Oldest::new(&quiet)?,
            ending: Oldest::new(&ending)?,
            first_ending,
            buried,
            touched,
            keep_ended: limit(keep_ended),
            tombstones: limit(tombstones),
            rows: rows.clone().unbind(),
            run_state: states.getattr("RunState")?.cast_into()?.unbind(),
            tombstone: Class::new(&states.getattr("Tombstone")?.cast_into()?)?,
            digests: Digests::new(digest),
        })
    }

    /// The event's run, opened if it is new and fewer than `room` are going on; None for one that is long over.
    pub fn found<'py>(
        &self,
        event: &Bound<'py, PyAny>,
        fields: [&Bound<'py, PyAny>; 4],
        room: usize,
    ) -> Done<Option<Bound<'py, PyAny>>> {
        let [run_id, job, at, now_ns] = fields;
        let py = event.py();
        let (touched, runs) = (self.touched.bind(py), self.runs.get());
        if let Some(rows) = touched.get_item(run_id)? {
            return Ok(Some(rows));
        }
        if runs.__len__(py) >= room {
            return Err(Rest);
        }
        let known = match runs.edit(run_id)? {
            Some(run) => Some(run),
            None => self.recent.get().edit(run_id)?,
        };
        let is_new = known.is_none();
        let run = match known {
            Some(run) => run,
            None if self.ended.contains(run_id)? => return Ok(None),
            None => {
                let fields = [job, at, at, now_ns].map(Bound::as_ptr);
                let run = make(&self.run_state, py, fields)?.into_bound(py);
                runs.put(run_id, &run)?;
                self.quiet.add(run_id, now_ns, runs.__len__(py))?;
                run
            }
        };
        let rows = self.rows.bind(py).call1((run, is_new))?;
        touched.set_item(run_id, &rows)?;
        Ok(Some(rows))
    }

    /// The event's step; made if it is new. May be done twice.
    pub fn step<'py>(&self, parts: &Parts, now: &Now<'_, 'py>, rows: &Bound<'py, PyAny>) -> Done<Bound<'py, PyAny>> {
        let [_, at_hand, opened, new] = parts.rows.read(rows).ok_or(Rest)?;
        let (at_hand, new) = (dict(at_hand)?, dict(new)?);
        if let Some(of) = at_hand.get_item(&now.key)? {
            return Ok(of);
        }
        let known = if flag(&opened)? { None } else { self.steps.get().edit(&prefix(&now.run_id)?.add(&now.key)?)? };
        let of = match known {
            Some(of) => of,
            None => {
                let of = parts.new_step(now)?;
                new.set_item(&now.key, &of)?;
                of
            }
        };
        at_hand.set_item(&now.key, &of)?;
        Ok(of)
    }

    /// `Book.done`.
    pub fn done(&self, parts: &Parts, py: Python<'_>) -> Done<()> {
        for (run_id, touched) in self.touched.bind(py) {
            let new = dict(parts.rows.get(&touched, rows::NEW).ok_or(Rest)?)?;
            if new.is_empty() {
                continue;
            }
            let prefix = prefix(&run_id)?;
            for (key, of) in &new {
                self.steps.get().put(&prefix.add(key)?, &of)?;
            }
            new.clear();
        }
        Ok(())
    }

    /// Whether an attempt of a step of the event's run is under way.
    pub fn has_open_steps(&self, parts: &Parts, now: &Now<'_, '_>, rows: &Bound<'_, PyAny>) -> Done<bool> {
        let at_hand = dict(parts.rows.get(rows, rows::STEPS).ok_or(Rest)?)?;
        let (stored, prefix) = (self.steps.get().rows(rows.py()), prefix(&now.run_id)?);
        for key in &list(parts.run.get(&now.run, run::STEPS).ok_or(Rest)?)? {
            let known = match at_hand.get_item(&key)? {
                Some(of) => Some(of),
                None => stored.get_item(prefix.add(key)?)?,
            };
            if let Some(of) = known {
                if flag(&parts.step.get(&of, step::OPEN).ok_or(Rest)?)? {
                    return Ok(true);
                }
            }
        }
        Ok(false)
    }

    /// A run whose status and time are told is over, for good where it succeeded.
    pub fn end(&self, parts: &Parts, now: &Now<'_, '_>, now_ns: &Bound<'_, PyAny>, succeeded: bool) -> PyResult<()> {
        let (py, run_id, run) = (now.run.py(), &now.run_id, &now.run);
        self.runs.get().delete(run_id)?;
        if succeeded {
            return self.bury(parts, run_id, run);
        }
        let recent = self.recent.get();
        recent.put(run_id, run)?;
        self.ending.add(run_id, now_ns, recent.__len__(py))?;
        while recent.__len__(py) > self.keep_ended {
            let first = self.first_ending.call0(py)?.into_bound(py);
            if first.is_none() {
                break;
            }
            let first = first.get_item(1)?;
            if let Some(run) = recent.rows(py).get_item(&first)? {
                recent.delete(&first)?;
                self.bury(parts, &first, &run)?;
            }
        }
        Ok(())
    }

    fn bury(&self, parts: &Parts, run_id: &Bound<'_, PyAny>, run: &Bound<'_, PyAny>) -> PyResult<()> {
        let py = run.py();
        let odd = || PySystemError::new_err("the ledger's twin met a run that is none");
        let of = |field| parts.run.get(run, field).ok_or_else(odd);
        self.drop_steps(parts, run_id, of(run::STEPS)?.cast::<PyList>()?)?;
        let mut counted = Vec::new();
        for (key, state) in of(run::ASSETS)?.cast::<PyDict>()? {
            let [.., is_made, has_failed, _, _, _] = parts.asset.read(&state).ok_or_else(odd)?;
            if is_made.is_truthy()? || has_failed.is_truthy()? {
                self.digests.add(&key, &mut counted)?;
            }
        }
        let (mut status, mut started) = (of(run::STATUS)?, of(run::STARTED_NS)?);
        if !status.is_truthy()? {
            status = intern!(py, "unfinished").clone().into_any();
        }
        if started.is_none() {
            started = of(run::FIRST_NS)?;
        }
        let ended_ns = of(run::SEEN_NS)?;
        let counted = PyBytes::new(py, &counted);
        let [job, enqueued, starting, raised] =
            [of(run::JOB)?, of(run::ENQUEUED_NS)?, of(run::STARTING_NS)?, of(run::RAISED)?];
        let fields = [&status, &job, &ended_ns, &started, &enqueued, &starting, &raised, counted.as_any()];
        let tombstone = self.tombstone.make(py, fields.map(Bound::as_ptr))?;
        let buried = self.buried.bind(py);
        self.ended.put(run_id, tombstone.bind(py))?;
        buried.call_method1(intern!(py, "add"), (ended_ns, run_id))?;
        while self.ended.len(py) > self.tombstones {
            let oldest = buried.call_method0(intern!(py, "take"))?;
            if oldest.is_none() {
                break;
            }
            self.ended.delete(&oldest)?;
        }
        Ok(())
    }

    /// Its steps are in the table but for those that are new.
    fn drop_steps(&self, parts: &Parts, run_id: &Bound<'_, PyAny>, steps: &Bound<'_, PyList>) -> PyResult<()> {
        let touched = self.touched.bind(steps.py());
        let mut new = None;
        if let Some(rows) = touched.get_item(run_id)? {
            new = parts.rows.get(&rows, rows::NEW).and_then(|new| new.cast_into::<PyDict>().ok());
            touched.del_item(run_id)?;
        }
        let prefix = prefix(run_id)?;
        for key in steps {
            if !new.as_ref().map_or(Ok(false), |new| new.contains(&key))? {
                self.steps.get().delete(&prefix.add(key)?)?;
            }
        }
        Ok(())
    }
}

/// What the keys of a run's steps begin with.
fn prefix<'py>(run_id: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
    run_id.add(intern!(run_id.py(), "\0"))
}
