//! `processors.ledger.book.Book`: the runs that the ledger knows, their steps, and what becomes of them at their end.

use crate::encoded_rows::EncodedRows;
use crate::ledger_orders::{Digests, Oldest};
use crate::ledger_parts::{dict, flag, list, rows, run, step, text, Done, Now, Parts, Rest};
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
    buried: Py<PyAny>,
    touched: Py<PyDict>,
    /// Tombstones that are rows of their own.
    apart: usize,
    keep_whole: Py<PyAny>,
    put_whole: Py<PyAny>,
    is_long_buried: Py<PyAny>,
    make_room: Py<PyAny>,
    rows: Py<PyType>,
    run_state: Py<PyType>,
    tombstone: Class,
    digests: Digests,
}

impl Book {
    /// `parts`: `Book.parts()`.
    pub fn new(parts: &Bound<'_, PyTuple>, rows: &Bound<'_, PyType>, states: &Bound<'_, PyModule>) -> PyResult<Self> {
        let (tables, orders, touched, apart, calls) = parts.extract()?;
        let (runs, recent, steps, ended): (_, _, _, Bound<'_, PyAny>) = tables;
        let (quiet, buried): (Bound<'_, PyAny>, _) = orders;
        let (keep_whole, put_whole, is_long_buried, make_room, digest) = calls;
        let apart: Bound<'_, PyAny> = apart;
        Ok(Self {
            runs,
            recent,
            steps,
            ended: EncodedRows::new(&ended)?,
            quiet: Oldest::new(&quiet)?,
            buried,
            touched,
            apart: apart.extract().unwrap_or(usize::MAX),
            keep_whole,
            put_whole,
            is_long_buried,
            make_room,
            rows: rows.clone().unbind(),
            run_state: states.getattr("RunState")?.cast_into()?.unbind(),
            tombstone: Class::new(&states.getattr("Tombstone")?.cast_into()?)?,
            digests: Digests::new(digest),
        })
    }

    /// The event's run, opened if it is new and fewer than `room` are going on; None for one that is long over. One that
    /// ended before this call, and not long ago, is Python's to find.
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
        let known = runs.edit(run_id)?;
        let is_new = known.is_none();
        let run = match known {
            Some(run) => run,
            None if self.ended.contains(run_id)? => return Ok(None),
            None if self.is_long_buried.bind(py).call1((run_id,))?.is_truthy()? => return Ok(None),
            None if self.recent.get().rows(py).contains(run_id)? => return Err(Rest),
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
            let [run, _, _, new] = parts.rows.read(&touched).ok_or(Rest)?;
            if !text(&parts.run.get(&run, run::STATUS).ok_or(Rest)?)?.is_empty() {
                self.put_whole.bind(py).call1((run_id, touched))?;
                continue;
            }
            let new = dict(new)?;
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
    pub fn end(&self, parts: &Parts, now: &Now<'_, '_>, succeeded: bool) -> PyResult<()> {
        let (run_id, run) = (&now.run_id, &now.run);
        self.runs.get().delete(run_id)?;
        if succeeded {
            return self.bury(parts, run_id, run);
        }
        self.keep_whole.bind(run.py()).call1((run_id,)).map(drop)
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
        if self.ended.len(py) > self.apart {
            self.make_room.call0(py)?;
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
