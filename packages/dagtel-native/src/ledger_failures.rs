//! Attempts that fail, where the step is of no graph: `processors/ledger/steps.py`, `told.py` and `voices.py`.

use crate::ledger_parts::{annotated, asset, dict, flag, int, run, set, set_bool, step, text, tuple, whole};
use crate::ledger_parts::{Done, Now, Parts, Rest, Told};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyDict, PyList, PyString, PyTuple};

/// How many times are kept besides a new one.
pub const KEPT: usize = 15;
const KEPT_TEXT: usize = 4096;
const KEPT_FRAMES: usize = 16;
const BLOCKED: &str = "DagsterAssetCheckFailedError";
const INTERRUPTED: &str = "DagsterExecutionInterruptedError";
const NUMBER: &str = "(attempt # ";
const NOT_RUN: (&str, &str) = ("Dependencies for step ", "Not executing.");

/// What a StepFailed says.
struct Failed<'py> {
    error: Bound<'py, PyAny>,
    interrupted: bool,
    failed_check: bool,
}

impl Parts {
    /// STEP_UP_FOR_RETRY of an attempt under way, or a repeat.
    pub fn up_for_retry<'py>(&self, now: &Now<'_, 'py>, of: &Bound<'py, PyAny>) -> Told<'py> {
        let py = of.py();
        let [attempt, open, _, started_ns, _, kind, assets, _, ends, _, _, _, displaced] =
            self.step.read(of).ok_or(Rest)?;
        let Some(ends) = ends_with(&ends, now)? else { return Ok(None) };
        if !flag(&open)? || flag(&displaced)? {
            return Err(Rest);
        }
        let error = match self.retry.read(&now.detail) {
            Some([error]) => error,
            None if now.detail.is_none() => py.None().into_bound(py),
            None => return Err(Rest),
        };
        whole(&attempt)?;
        let began = if whole(&started_ns)? < now.at_ns { &started_ns } else { &now.at };
        let partition = self.partition(now, &assets)?;
        let (job, status) = (self.job(now)?, intern!(py, "retry").as_any());
        let told = self.step_ended(
            py,
            [&now.run_id, &job, &now.key, &attempt, status, &now.at, began, &kind, &assets, &partition, &error],
        )?;
        self.ended(of, &ends)?;
        set_bool(&self.step, of, step::RETRIED, true)?;
        Ok(told)
    }

    /// STEP_RESTARTED after an attempt that is over, or a repeat.
    pub fn restarted<'py>(&self, now: &Now<'_, 'py>, of: &Bound<'py, PyAny>) -> Told<'py> {
        let py = of.py();
        let [message] = self.message.read(now.event).ok_or(Rest)?;
        let [attempt, open, _, _, _, _, _, starts, ..] = self.step.read(of).ok_or(Rest)?;
        let starts = starts.cast_exact::<PyTuple>().map_err(|_| Rest)?.as_slice();
        let at_ns = now.at_ns.checked_add(number(text(&message)?)?).ok_or(Rest)?;
        for start in starts {
            if whole(start)? == at_ns {
                return Ok(None);
            }
        }
        let attempt = whole(&attempt)?;
        if flag(&open)? || attempt == 0 || starts.len() >= KEPT {
            return Err(Rest);
        }
        let attempt = int(py, attempt.checked_add(1).ok_or(Rest)?);
        set(&self.step, of, step::STARTS, &tuple(starts, &int(py, at_ns))?)?;
        self.begin(now, of, &attempt, &now.at)?;
        Ok(None)
    }

    /// An attempt begins, or began at another time.
    pub fn begin(
        &self,
        now: &Now<'_, '_>,
        of: &Bound<'_, PyAny>,
        attempt: &Bound<'_, PyAny>,
        since: &Bound<'_, PyAny>,
    ) -> Done<()> {
        let zero = int(of.py(), 0);
        set(&self.step, of, step::ATTEMPT, attempt)?;
        set_bool(&self.step, of, step::OPEN, true)?;
        set_bool(&self.step, of, step::RETRIED, false)?;
        set(&self.step, of, step::STARTED_NS, since)?;
        set(&self.step, of, step::INPUT_NS, since)?;
        set(&self.step, of, step::FIRST_NS, &zero)?;
        set(&self.step, of, step::OUTPUT_NS, &zero)?;
        self.annotated.write(now.event, annotated::ATTEMPT, attempt);
        Ok(())
    }

    /// The open attempt is over.
    pub fn ended(&self, of: &Bound<'_, PyAny>, ends: &Bound<'_, PyAny>) -> Done<()> {
        set(&self.step, of, step::ENDS, ends)?;
        set_bool(&self.step, of, step::OPEN, false)?;
        set(&self.step, of, step::FIRST_NS, &int(of.py(), 0))
    }

    /// STEP_FAILURE of an attempt under way or of one that never started, the first of its step, with an error that
    /// state can bear.
    pub fn failed<'py>(&self, now: &Now<'_, 'py>, of: &Bound<'py, PyAny>) -> Done<()> {
        let py = of.py();
        let [mut attempt, open, _, mut started_ns, first_ns, kind, assets, _, ends, ..] =
            self.step.read(of).ok_or(Rest)?;
        let Some(ends) = ends_with(&ends, now)? else { return Err(Rest) };
        let is_open = flag(&open)?;
        if is_open == (whole(&attempt)? == 0) {
            return Err(Rest);
        }
        if !is_open {
            attempt = int(py, 1);
            started_ns = if whole(&first_ns)? == 0 { now.at.clone() } else { first_ns };
        }
        let failures = self.dict(now, run::FAILURES)?;
        let [unvoiced, status] = [run::UNVOICED, run::STATUS].map(|field| self.run.get(&now.run, field));
        let unvoiced = unvoiced.ok_or(Rest)?.cast_into_exact::<PyList>().map_err(|_| Rest)?;
        if !unvoiced.is_empty() || text(&now.key)?.contains('.') || failures.contains(&now.key)? {
            return Err(Rest);
        }
        let late = PyBool::new(py, !text(&status.ok_or(Rest)?)?.is_empty()).to_owned().into_any();
        let since_ns = whole(&started_ns)?;
        let said = self.said(&now.detail)?;
        let partition = self.partition(now, &assets)?;
        let (states, several) = self.undecided(now)?;
        let says_more = states.is_empty() && !said.failed_check;
        let checks = if says_more { self.dict(now, run::CHECKS)?.get_item(&now.key)? } else { None };
        let checks = checks.map(dict).transpose()?;
        let broken = not_done(checks.as_ref())?;
        let began = if since_ns < now.at_ns { &started_ns } else { &now.at };
        let took = int(py, now.at_ns.checked_sub(since_ns).ok_or(Rest)?.max(0));
        let job = self.job(now)?;
        let [interrupted, failed_check, several] =
            [said.interrupted, said.failed_check, several].map(|is| PyBool::new(py, is).to_owned().into_any());
        let mut told = Vec::with_capacity(2);
        #[rustfmt::skip]
        told.extend(self.step_ended(py, [
            &now.run_id, &job, &now.key, &attempt, intern!(py, "failure").as_any(), &now.at, began, &kind, &assets,
            &partition, &said.error, &interrupted, &failed_check,
        ])?);
        for (key, _, part) in &states {
            #[rustfmt::skip]
            told.extend(self.asset_failed(py, [
                &now.run_id, &job, &now.key, &attempt, key, part, &now.at, &took, &said.error, &interrupted,
                &failed_check, &several, &late,
            ])?);
        }
        for name in &broken {
            let (asset, check) = text(name)?.split_once('\0').ok_or(Rest)?;
            let [asset, check] = [asset, check].map(|part| PyString::new(py, part).into_any());
            #[rustfmt::skip]
            told.extend(self.check_raised(py, [
                &now.run_id, &job, &now.key, &attempt, &asset, &check, &now.at, &said.error, &interrupted,
            ])?);
        }
        if says_more && broken.is_empty() {
            #[rustfmt::skip]
            told.extend(self.step_raised(py, [
                &now.run_id, &job, &now.key, &attempt, &now.at, &partition, &said.error, &interrupted,
            ])?);
        }
        #[rustfmt::skip]
        let failure = self.failure(py, [
            &now.key, &attempt, &now.at, &started_ns, &said.error, &interrupted, &failed_check, &partition,
        ])?;
        let told = PyTuple::new(py, told)?.into_any();
        failures.set_item(&now.key, failure)?;
        set_bool(&self.run, &now.run, run::RAISED, true)?;
        for (_, state, _) in &states {
            set_bool(&self.asset, state, asset::FAILED, true)?;
        }
        if let Some(checks) = &checks {
            broken.iter().try_for_each(|name| checks.set_item(name, true))?;
        }
        if !is_open {
            self.begin(now, of, &attempt, &started_ns)?;
        }
        self.ended(of, &ends)?;
        self.annotated.write(now.event, annotated::OUTCOMES, &told);
        Ok(())
    }

    fn said<'py>(&self, detail: &Bound<'py, PyAny>) -> Done<Failed<'py>> {
        let [error, source] = self.step_failed.read(detail).ok_or(Rest)?;
        let mut interrupted = text(&source)? == "INTERRUPT";
        let mut failed_check = false;
        if !error.is_none() {
            let [kind, message, stack, frames, chain] = self.error.read(&error).ok_or(Rest)?;
            let is_light = |told: &Bound<'py, PyAny>| -> Done<bool> {
                Ok(told.cast_exact::<PyString>().map_err(|_| Rest)?.len()? <= KEPT_TEXT)
            };
            let is_short = frames.cast_exact::<PyTuple>().map_err(|_| Rest)?.len() <= KEPT_FRAMES;
            if !is_short || !is_light(&message)? || !is_light(&stack)? {
                return Err(Rest);
            }
            interrupted = interrupted || text(&kind)? == INTERRUPTED;
            for name in chain.cast_exact::<PyTuple>().map_err(|_| Rest)?.as_slice() {
                failed_check = failed_check || text(name)? == BLOCKED;
            }
        }
        Ok(Failed { error, interrupted, failed_check })
    }

    /// Of the assets that the step is to make, those whose fate is open, each with its state and partition; and whether
    /// it is to make more than one.
    #[allow(clippy::type_complexity)]
    fn undecided<'py>(
        &self,
        now: &Now<'_, 'py>,
    ) -> Done<(Vec<(Bound<'py, PyAny>, Bound<'py, PyAny>, Bound<'py, PyAny>)>, bool)> {
        let Some(plan) = self.dict(now, run::PLAN)?.get_item(&now.key)? else { return Ok((Vec::new(), false)) };
        let plan = plan.cast_into_exact::<PyList>().map_err(|_| Rest)?;
        let states = self.dict(now, run::ASSETS)?;
        let mut found = Vec::new();
        for key in &plan {
            let (state, part) = self.state_of(&states, &key)?;
            let [planned, is_made, has_failed] =
                [asset::PLANNED, asset::MADE, asset::FAILED].map(|field| self.asset.get(&state, field));
            if flag(&planned.ok_or(Rest)?)? && !flag(&is_made.ok_or(Rest)?)? && !flag(&has_failed.ok_or(Rest)?)? {
                if found.iter().any(|(_, other, _): &(_, Bound<'py, PyAny>, _)| other.is(&state)) {
                    return Err(Rest);
                }
                found.push((key, state, part));
            }
        }
        Ok((found, plan.len() > 1))
    }

    /// The state of an asset, and its `one_partition`.
    fn state_of<'py>(
        &self,
        states: &Bound<'py, PyDict>,
        key: &Bound<'py, PyAny>,
    ) -> Done<(Bound<'py, PyAny>, Bound<'py, PyAny>)> {
        text(key)?;
        let state = states.get_item(key)?.ok_or(Rest)?;
        let [_, _, part, several, ..] = self.asset.read(&state).ok_or(Rest)?;
        let part = if flag(&several)? { key.py().None().into_bound(key.py()) } else { part };
        Ok((state, part))
    }

    /// LOG of a step: whether it says nothing of any asset. That it says it only of a step that has not begun and is to
    /// make some, in a run in which one failed that may decide them.
    pub fn says_nothing<'py>(&self, now: &Now<'_, 'py>, of: &Bound<'py, PyAny>) -> Done<bool> {
        let attempt = self.step.get(of, step::ATTEMPT).ok_or(Rest)?;
        let failures = self.dict(now, run::FAILURES)?;
        if whole(&attempt)? != 0 || failures.is_empty() {
            return Ok(true);
        }
        let Some(plan) = self.dict(now, run::PLAN)?.get_item(&now.key)? else { return Ok(true) };
        let [message] = self.message.read(now.event).ok_or(Rest)?;
        let message = text(&message)?;
        if !(message.starts_with(NOT_RUN.0) && message.ends_with(NOT_RUN.1)) {
            return Ok(true);
        }
        let states = self.dict(now, run::ASSETS)?;
        for key in &plan.cast_into_exact::<PyList>().map_err(|_| Rest)? {
            let (state, _) = self.state_of(&states, &key)?;
            let maker = self.asset.get(&state, asset::STEP).ok_or(Rest)?;
            if text(&maker)?.contains('.') || failures.contains(&maker)? {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

/// The checks that are planned and have no result.
fn not_done<'py>(planned: Option<&Bound<'py, PyDict>>) -> Done<Vec<Bound<'py, PyAny>>> {
    let mut names = Vec::new();
    for (name, is_done) in planned.into_iter().flatten() {
        text(&name)?;
        if !flag(&is_done)? {
            names.push(name);
        }
    }
    Ok(names)
}

/// The times with this event's as the last; None where it is among them.
pub fn ends_with<'py>(ends: &Bound<'py, PyAny>, now: &Now<'_, 'py>) -> Done<Option<Bound<'py, PyAny>>> {
    let ends = ends.cast_exact::<PyTuple>().map_err(|_| Rest)?.as_slice();
    for end in ends {
        if whole(end)? == now.at_ns {
            return Ok(None);
        }
    }
    if ends.len() >= KEPT {
        return Err(Rest);
    }
    tuple(ends, &now.at).map(Some)
}

/// The attempt that a message names, 0 if none. One that is written oddly is Python's.
fn number(message: &str) -> Done<i64> {
    let Some(at) = message.find(NUMBER) else { return Ok(0) };
    let rest = &message[at + NUMBER.len()..];
    let digits = rest.find(')').map(|end| &rest[..end]).ok_or(Rest)?;
    if !(1..=6).contains(&digits.len()) || !digits.bytes().all(|digit| digit.is_ascii_digit()) {
        return Err(Rest);
    }
    digits.parse().map_err(|_| Rest)
}
