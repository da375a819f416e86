//! Runs that end, and what is said of one that is long over: where nothing is left open, and nothing fails at last.

use crate::ledger_book::Book;
use crate::ledger_parts::{annotated, asset, flag, int, list, run, set, set_bool, text, Done, Now, Parts, Rest};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyString, PyTuple};

/// How a run ended, by its event.
#[derive(Clone, Copy, PartialEq)]
pub enum End {
    Success,
    Failure,
    Canceled,
}

impl End {
    fn status(self) -> &'static str {
        match self {
            End::Success => "success",
            End::Failure => "failure",
            End::Canceled => "canceled",
        }
    }
}

impl Parts {
    /// PIPELINE_SUCCESS, PIPELINE_FAILURE, PIPELINE_CANCELED of a run that is going on.
    pub fn run_ended<'py>(
        &self,
        now: &Now<'_, 'py>,
        end: End,
        rows: &Bound<'py, PyAny>,
        now_ns: &Bound<'py, PyAny>,
        book: &Book,
    ) -> Done<()> {
        let py = now.event.py();
        let [error, reason] = self.verdict(end, &now.detail)?;
        let of = |field| self.run.get(&now.run, field).ok_or(Rest);
        if !text(&of(run::STATUS)?)?.is_empty() || !list(of(run::UNVOICED)?)?.is_empty() {
            return Err(Rest);
        }
        let skipped = self.never_made(now)?;
        if book.has_open_steps(self, now, rows)? {
            return Err(Rest);
        }
        let status = PyString::intern(py, end.status());
        let (job, raised) = (of(run::JOB)?, of(run::RAISED)?);
        let [enqueued, starting] = [of(run::ENQUEUED_NS)?, of(run::STARTING_NS)?];
        let mut started = of(run::STARTED_NS)?;
        if started.is_none() {
            started = of(run::FIRST_NS)?;
        }
        let mut told = Vec::with_capacity(skipped.len() + 1);
        for (key, _, part) in &skipped {
            told.extend(self.asset_skipped(py, [&now.run_id, &job, key, part, &now.at])?);
        }
        #[rustfmt::skip]
        told.extend(self.run_told(py, [
            &now.run_id, &job, status.as_any(), &now.at, &started, &enqueued, &starting, &error, &reason, &raised,
        ])?);
        let told = PyTuple::new(py, told)?;
        for (_, state, _) in &skipped {
            set_bool(&self.asset, state, asset::SKIPPED, true)?;
        }
        set(&self.run, &now.run, run::STATUS, &status)?;
        set(&self.run, &now.run, run::SEEN_NS, now_ns)?;
        book.end(self, now, end == End::Success)?;
        self.annotated.write(now.event, annotated::OUTCOMES, &told);
        Ok(())
    }

    /// The error and the reason.
    fn verdict<'py>(&self, end: End, detail: &Bound<'py, PyAny>) -> Done<[Bound<'py, PyAny>; 2]> {
        let py = detail.py();
        let nothing = || intern!(py, "").clone().into_any();
        if detail.is_none() || end == End::Success {
            return Ok([py.None().into_bound(py), nothing()]);
        }
        if end == End::Failure {
            return self.run_failed.read(detail).ok_or(Rest);
        }
        let [error] = self.run_canceled.read(detail).ok_or(Rest)?;
        Ok([error, nothing()])
    }

    /// Assets that nobody made, observed or skipped before, each with its state and partition, where no failure may be
    /// theirs.
    #[allow(clippy::type_complexity)]
    fn never_made<'py>(
        &self,
        now: &Now<'_, 'py>,
    ) -> Done<Vec<(Bound<'py, PyAny>, Bound<'py, PyAny>, Bound<'py, PyAny>)>> {
        let (assets, failures) = (self.dict(now, run::ASSETS)?, self.dict(now, run::FAILURES)?);
        let mut found = Vec::new();
        for (key, state) in assets {
            let [maker, planned, part, several, is_made, has_failed, observed, _, skipped] =
                self.asset.read(&state).ok_or(Rest)?;
            if !flag(&planned)? || flag(&is_made)? || flag(&has_failed)? {
                continue;
            }
            if !failures.is_empty() && (text(&maker)?.contains('.') || failures.contains(&maker)?) {
                return Err(Rest);
            }
            if !flag(&observed)? && !flag(&skipped)? {
                let part = if flag(&several)? { key.py().None().into_bound(key.py()) } else { part };
                found.push((key, state, part));
            }
        }
        Ok(found)
    }

    /// An event of a run that is long over, of those that say nothing then.
    pub fn after_the_end(&self, event: &Bound<'_, PyAny>, detail: &Bound<'_, PyAny>, in_step: bool) -> Done<()> {
        if !(detail.is_none() || self.marker.is_of(detail)) {
            return Err(Rest);
        }
        self.annotated.write(event, annotated::ATTEMPT, &int(event.py(), i64::from(in_step)));
        self.annotated.write(event, annotated::OUTCOMES, &PyTuple::empty(event.py()));
        Ok(())
    }
}
