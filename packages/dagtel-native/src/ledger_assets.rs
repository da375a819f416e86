//! What becomes of a run's assets and checks, where nothing fails: `processors/ledger/assets.py` and its handlers.

use crate::ledger_parts::{annotated, asset, dict, flag, partition, run, same, same_partition, set, set_bool};
use crate::ledger_parts::{int, step, text, tuple, whole, Done, Now, Parts, Rest, Told};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyDict, PyList, PyString, PyTuple};

impl Parts {
    /// ASSET_MATERIALIZATION_PLANNED, before any step of the run was heard of.
    pub fn asset_planned<'py>(&self, now: &Now<'_, 'py>) -> Told<'py> {
        let py = now.event.py();
        let [key, part] = self.asset_planned.read(&now.detail).ok_or(Rest)?;
        let steps = self.run.get(&now.run, run::STEPS).ok_or(Rest)?;
        text(&key)?;
        partition(&part)?;
        if !steps.cast_exact::<PyList>().map_err(|_| Rest)?.is_empty() {
            return Err(Rest);
        }
        let told = self.asset_told(py, [&now.run_id, &self.job(now)?, &now.key, &key, &part, &now.at])?;
        self.plan(now, &key, &part)?;
        self.of_step(now)?;
        self.annotated.write(now.event, annotated::ASSETS, &tuple(&[], &key)?);
        Ok(told)
    }

    fn plan<'py>(&self, now: &Now<'_, 'py>, key: &Bound<'py, PyAny>, part: &Bound<'py, PyAny>) -> Done<()> {
        let py = now.event.py();
        let assets = self.dict(now, run::ASSETS)?;
        let state = assets.get_item(key)?;
        if let Some(state) = &state {
            let [of, planned, before, several, ..] = self.asset.read(state).ok_or(Rest)?;
            if flag(&planned)? {
                let several = flag(&several)? || !same_partition(&before, part)?;
                if !same(&of, &now.key)? {
                    return Err(Rest);
                }
                return set_bool(&self.asset, state, asset::SEVERAL, several);
            }
        }
        let (plan, graphs) = (self.dict(now, run::PLAN)?, self.dict(now, run::GRAPHS)?);
        let graph = text(&now.key)?.rfind('.').map(|dot| text(&now.key).map(|key| PyString::new(py, &key[..=dot])));
        let graph = graph.transpose()?;
        let planned = list(&plan, &now.key)?;
        let around = graph.as_ref().map(|graph| list(&graphs, graph.as_any())).transpose()?.flatten();
        match &state {
            Some(state) => {
                set_bool(&self.asset, state, asset::PLANNED, true)?;
                set(&self.asset, state, asset::STEP, &now.key)?;
                set(&self.asset, state, asset::PARTITION, part)?;
            }
            None => assets.set_item(key, self.asset_state(py, [&now.key, &PyBool::new(py, true), part])?)?,
        }
        append(&plan, &now.key, planned, key)?;
        match &graph {
            Some(graph) => append(&graphs, graph.as_any(), around, key),
            None => Ok(()),
        }
    }

    /// ASSET_CHECK_EVALUATION_PLANNED.
    pub fn check_planned<'py>(&self, now: &Now<'_, 'py>) -> Told<'py> {
        let py = now.event.py();
        let [key, check] = self.check_planned.read(&now.detail).ok_or(Rest)?;
        let name = PyString::new(py, &[text(&key)?, "\0", text(&check)?].concat());
        let checks = self.dict(now, run::CHECKS)?;
        match checks.get_item(&now.key)? {
            Some(planned) => {
                let planned = dict(planned)?;
                if !planned.contains(&name)? {
                    planned.set_item(&name, false)?;
                }
            }
            None => {
                let planned = PyDict::new(py);
                planned.set_item(&name, false)?;
                checks.set_item(&now.key, planned)?;
            }
        }
        self.of_step(now)?;
        Ok(None)
    }

    /// The attempt of what is planned.
    fn of_step(&self, now: &Now<'_, '_>) -> Done<()> {
        let attempt = int(now.event.py(), i64::from(!text(&now.key)?.is_empty()));
        self.annotated.write(now.event, annotated::ATTEMPT, &attempt);
        Ok(())
    }

    /// ASSET_MATERIALIZATION.
    pub fn materialized<'py>(&self, now: &Now<'_, 'py>, of: Option<&Bound<'py, PyAny>>) -> Told<'py> {
        let py = now.event.py();
        let [key, part, metadata, tags] = self.materialized.read(&now.detail).ok_or(Rest)?;
        text(&key)?;
        let rows = metadata.cast_exact::<PyDict>().map_err(|_| Rest)?.get_item(intern!(py, "dagster/row_count"))?;
        let rows = rows.filter(|rows| whole(rows).is_ok()).unwrap_or_else(|| py.None().into_bound(py));
        let assets = self.dict(now, run::ASSETS)?;
        let (state, is_new) = match assets.get_item(&key)? {
            Some(state) => (state, false),
            None => (self.asset_state(py, [])?, true),
        };
        let [planned_in, _, _, _, is_made, has_failed, ..] = self.asset.read(&state).ok_or(Rest)?;
        let execution = !flag(&is_made)? && !flag(&has_failed)?;
        let mut duration = py.None().into_bound(py);
        let mut more = None;
        if let Some(of) = of {
            let [attempt, _, _, started_ns, _, _, made_in, ..] = self.step.read(of).ok_or(Rest)?;
            if whole(&attempt)? != 0 {
                let took = now.at_ns.checked_sub(whole(&started_ns)?).ok_or(Rest)?;
                duration = int(py, took.max(0));
            }
            if !same(&planned_in, &now.key)? {
                more = with(&made_in, &key)?;
            }
        }
        let [job, attempt] = self.named(now)?;
        let is_executed = PyBool::new(py, execution);
        #[rustfmt::skip]
        let told = self.asset_made(py, [
            &now.run_id, &job, &now.key, &attempt, &key, &part, &now.at, &duration, is_executed.as_any(), &metadata,
            &tags,
        ])?;
        if is_new {
            assets.set_item(&key, &state)?;
        }
        set_bool(&self.asset, &state, asset::MADE, true)?;
        set(&self.asset, &state, asset::ROWS, &rows)?;
        if let (Some(of), Some(more)) = (of, more) {
            set(&self.step, of, step::ASSETS, &more)?;
        }
        Ok(told)
    }

    /// The event's job and attempt.
    fn named<'py>(&self, now: &Now<'_, 'py>) -> Done<[Bound<'py, PyAny>; 2]> {
        let [job, attempt, ..] = self.annotated.read(now.event).ok_or(Rest)?;
        Ok([job, attempt])
    }

    /// ASSET_OBSERVATION.
    pub fn observed<'py>(&self, now: &Now<'_, 'py>) -> Told<'py> {
        let py = now.event.py();
        let [key, part, metadata, tags] = self.observed.read(&now.detail).ok_or(Rest)?;
        text(&key)?;
        let assets = self.dict(now, run::ASSETS)?;
        let [job, _] = self.named(now)?;
        let told = self.asset_seen(py, [&now.run_id, &job, &key, &part, &now.at, &metadata, &tags])?;
        let state = match assets.get_item(&key)? {
            Some(state) if self.asset.is_of(&state) => state,
            Some(_) => return Err(Rest),
            None => {
                let state = self.asset_state(py, [])?;
                assets.set_item(&key, &state)?;
                state
            }
        };
        set_bool(&self.asset, &state, asset::OBSERVED, true)?;
        Ok(told)
    }

    /// An event without a run: a FRESHNESS_STATE_CHANGE.
    pub fn runless<'py>(&self, at: &Bound<'py, PyAny>, detail: &Bound<'py, PyAny>) -> Told<'py> {
        let [key, state, previous, since] = self.freshness.read(detail).ok_or(Rest)?;
        let since = if whole(&since)? == 0 { at } else { &since };
        self.freshness_state(at.py(), [&key, &state, &previous, since])
    }

    /// ASSET_CHECK_EVALUATION.
    pub fn checked<'py>(&self, now: &Now<'_, 'py>) -> Told<'py> {
        let py = now.event.py();
        let [key, check, passed, severity, blocking, part, description, metadata] =
            self.check.read(&now.detail).ok_or(Rest)?;
        let (asset_key, check_name) = (text(&key)?, text(&check)?);
        let planned = self.dict(now, run::CHECKS)?.get_item(&now.key)?.map(dict).transpose()?;
        let rows = match self.dict(now, run::ASSETS)?.get_item(&key)? {
            Some(state) => self.asset.get(&state, asset::ROWS).ok_or(Rest)?,
            None => py.None().into_bound(py),
        };
        let [job, _] = self.named(now)?;
        #[rustfmt::skip]
        let told = self.check_evaluated(py, [
            &now.run_id, &job, &now.key, &key, &check, &passed, &severity, &blocking, &part, &now.at, &description,
            &metadata, &rows,
        ])?;
        if let Some(planned) = planned {
            planned.set_item([asset_key, "\0", check_name].concat(), true)?;
        }
        Ok(told)
    }
}

/// The list of that key, if there is one.
fn list<'py>(lists: &Bound<'py, PyDict>, key: &Bound<'py, PyAny>) -> Done<Option<Bound<'py, PyList>>> {
    lists.get_item(key)?.map(|list| list.cast_into_exact::<PyList>().map_err(|_| Rest)).transpose()
}

fn append<'py>(
    lists: &Bound<'py, PyDict>,
    key: &Bound<'py, PyAny>,
    list: Option<Bound<'py, PyList>>,
    item: &Bound<'py, PyAny>,
) -> Done<()> {
    match list {
        Some(list) => list.append(item)?,
        None => lists.set_item(key, PyList::new(lists.py(), [item])?)?,
    }
    Ok(())
}

/// The texts and one more; None where it is among them.
fn with<'py>(texts: &Bound<'py, PyAny>, one: &Bound<'py, PyAny>) -> Done<Option<Bound<'py, PyAny>>> {
    let texts = texts.cast_exact::<PyTuple>().map_err(|_| Rest)?.as_slice();
    for known in texts {
        if same(known, one)? {
            return Ok(None);
        }
    }
    tuple(texts, one).map(Some)
}
