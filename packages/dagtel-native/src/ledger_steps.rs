//! Attempts of steps, and what takes time within them: `processors/ledger/steps.py` and `inner.py`, where all is well.

use crate::ledger_failures::ends_with;
use crate::ledger_parts::{annotated, flag, list, run, same, same_partition, set, step, text, whole};
use crate::ledger_parts::{dict, int, tuple, Done, Now, Parts, Rest, Told};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyString, PyTuple};

const OPEN_MARKERS: usize = 64;

impl Parts {
    /// One that was not heard of before, among the run's steps.
    pub fn new_step<'py>(&self, now: &Now<'_, 'py>) -> Done<Bound<'py, PyAny>> {
        let order = list(self.run.get(&now.run, run::STEPS).ok_or(Rest)?)?;
        let of = self.step_state(self.assets_of(now)?.as_any())?;
        order.append(&now.key)?;
        Ok(of)
    }

    /// What the step is to make; for a step within a graph, also what the graph is to make.
    fn assets_of<'py>(&self, now: &Now<'_, 'py>) -> Done<Bound<'py, PyTuple>> {
        let py = now.event.py();
        let key = text(&now.key)?;
        let own = self.dict(now, run::PLAN)?.get_item(&now.key)?.map(list).transpose()?;
        if !key.contains('.') {
            return Ok(own.map_or_else(|| PyTuple::empty(py), |own| own.to_tuple()));
        }
        let all = PyDict::new(py);
        for asset in own.iter().flatten() {
            all.set_item(asset, py.None())?;
        }
        let graphs = self.dict(now, run::GRAPHS)?;
        for (dot, _) in key.match_indices('.') {
            let around = graphs.get_item(&key[..=dot])?.map(list).transpose()?;
            for asset in around.iter().flatten() {
                all.set_item(asset, py.None())?;
            }
        }
        Ok(all.keys().to_tuple())
    }

    /// STEP_START of a step that has not begun, or a repeat.
    pub fn started<'py>(&self, now: &Now<'_, 'py>, of: &Bound<'py, PyAny>) -> Told<'py> {
        let py = of.py();
        let [attempt, .., starts, _, _, _, _, _] = self.step.read(of).ok_or(Rest)?;
        if whole(&attempt)? != 0 {
            return Ok(None);
        }
        if !starts.cast_exact::<PyTuple>().map_err(|_| Rest)?.is_empty() {
            return Err(Rest);
        }
        let told = int(py, now.at_ns.checked_add(1).ok_or(Rest)?);
        set(&self.step, of, step::STARTS, &tuple(&[], &told)?)?;
        self.begin(now, of, &int(py, 1), &now.at)?;
        Ok(None)
    }

    /// STEP_SUCCESS of an attempt under way, or a repeat.
    pub fn succeeded<'py>(&self, now: &Now<'_, 'py>, of: &Bound<'py, PyAny>) -> Told<'py> {
        let py = of.py();
        let [attempt, open, _, started_ns, _, kind, assets, _, ends, ..] = self.step.read(of).ok_or(Rest)?;
        let Some(ends) = ends_with(&ends, now)? else { return Ok(None) };
        if !flag(&open)? {
            return Err(Rest);
        }
        whole(&attempt)?;
        let began = if whole(&started_ns)? < now.at_ns { &started_ns } else { &now.at };
        let partition = self.partition(now, &assets)?;
        let (job, status) = (self.job(now)?, intern!(py, "success").as_any());
        let told = self.step_ended(
            py,
            [&now.run_id, &job, &now.key, &attempt, status, &now.at, began, &kind, &assets, &partition],
        )?;
        self.ended(of, &ends)?;
        Ok(told)
    }

    /// The one that the step's planned assets have in common; the run's for a step without any.
    pub fn partition<'py>(&self, now: &Now<'_, 'py>, assets: &Bound<'py, PyAny>) -> Done<Bound<'py, PyAny>> {
        let assets = assets.cast_exact::<PyTuple>().map_err(|_| Rest)?.as_slice();
        let mut common: Option<Bound<'py, PyAny>> = None;
        if !assets.is_empty() {
            let known = self.dict(now, run::ASSETS)?;
            for key in assets {
                text(key)?;
                let Some(state) = known.get_item(key)? else { continue };
                let [_, planned, partition, several, ..] = self.asset.read(&state).ok_or(Rest)?;
                if !flag(&planned)? {
                    continue;
                }
                let of_it = if flag(&several)? { now.event.py().None().into_bound(now.event.py()) } else { partition };
                match &common {
                    Some(first) if same_partition(first, &of_it)? => {}
                    Some(_) => return Ok(now.event.py().None().into_bound(now.event.py())),
                    None => common = Some(of_it),
                }
            }
        }
        match common {
            Some(common) => Ok(common),
            None => self.run.get(&now.run, run::PARTITION).ok_or(Rest),
        }
    }

    /// LOADED_INPUT or HANDLED_OUTPUT.
    pub fn handled<'py>(&self, now: &Now<'_, 'py>, of: &Bound<'py, PyAny>, loads: bool) -> Told<'py> {
        let py = of.py();
        let [name] = self.io.read(&now.detail).ok_or(Rest)?;
        let (field, verb) = if loads { (step::INPUT_NS, "load") } else { (step::OUTPUT_NS, "store") };
        let since = self.step.get(of, field).ok_or(Rest)?;
        let since_ns = whole(&since)?;
        let told = if since_ns != 0 {
            let name = PyString::new(py, &[verb, " ", text(&name)?].concat());
            self.inner(now, name.as_any(), intern!(py, "io"), &since, since_ns, &py.None().into_bound(py))?
        } else {
            None
        };
        let then = if loads { now.at.clone() } else { int(py, 0) };
        set(&self.step, of, field, &then)?;
        Ok(told)
    }

    /// An event without a handler: the start or end of a pair of markers, or nothing. `of`: its step, if it has one.
    /// `heralds`: it comes before an attempt begins.
    pub fn marked<'py>(
        &self,
        now: &Now<'_, 'py>,
        of: Option<&Bound<'py, PyAny>>,
        heralds: bool,
        resource: bool,
    ) -> Told<'py> {
        if !self.marker.is_of(&now.detail) {
            return Ok(None);
        }
        let py = now.event.py();
        let [start, end, error] = self.marker.read(&now.detail).ok_or(Rest)?;
        let (starts, ends) = (!text(&start)?.is_empty(), !text(&end)?.is_empty());
        let run_markers = self.dict(now, run::MARKERS)?;
        let own = match of {
            None => Some(run_markers.clone()),
            Some(of) => {
                let markers = self.step.get(of, step::MARKERS).ok_or(Rest)?;
                if markers.is_none() {
                    None
                } else {
                    Some(dict(markers)?)
                }
            }
        };
        if starts && (own.as_ref().is_some_and(|own| own.len() >= OPEN_MARKERS) || (ends && same(&start, &end)?)) {
            return Err(Rest);
        }
        let mut ended = None;
        if ends {
            for markers in own.iter().chain(of.map(|_| &run_markers)) {
                if let Some(since) = markers.get_item(&end)? {
                    ended = Some((markers, whole(&since)?, since));
                    break;
                }
            }
        }
        if let (Some(of), true) = (of, heralds) {
            self.heralded(now, of)?;
        }
        let told = match &ended {
            Some((_, since_ns, since)) => {
                let kind = if resource { intern!(py, "resource") } else { intern!(py, "marker") };
                self.inner(now, &end, kind, since, *since_ns, &error)?
            }
            None => None,
        };
        if starts {
            match &own {
                Some(own) => own.set_item(&start, &now.at)?,
                None => {
                    let markers = PyDict::new(py);
                    markers.set_item(&start, &now.at)?;
                    if let Some(of) = of {
                        of.setattr(intern!(py, "markers"), markers)?;
                    }
                }
            }
        }
        if let Some((markers, ..)) = &ended {
            markers.del_item(&end)?;
        }
        Ok(told)
    }

    /// First sign of an attempt. May be done twice.
    fn heralded<'py>(&self, now: &Now<'_, 'py>, of: &Bound<'py, PyAny>) -> Done<()> {
        let [attempt, open, retried, _, first_ns, ..] = self.step.read(of).ok_or(Rest)?;
        let (open, retried, first_ns) = (flag(&open)?, flag(&retried)?, whole(&first_ns)?);
        let next = whole(&attempt)?.checked_add(1).ok_or(Rest)?;
        if !open && first_ns == 0 {
            set(&self.step, of, step::FIRST_NS, &now.at)?;
        }
        if retried {
            let next = int(of.py(), next);
            self.annotated.write(now.event, annotated::ATTEMPT, &next);
        }
        Ok(())
    }

    fn inner<'py>(
        &self,
        now: &Now<'_, 'py>,
        name: &Bound<'py, PyAny>,
        kind: &Bound<'py, PyString>,
        since: &Bound<'py, PyAny>,
        since_ns: i64,
        error: &Bound<'py, PyAny>,
    ) -> Told<'py> {
        let attempt = self.annotated.get(now.event, annotated::ATTEMPT).ok_or(Rest)?;
        let job = self.job(now)?;
        let began = if since_ns < now.at_ns { since } else { &now.at };
        self.inner_ended(
            now.event.py(),
            [&now.run_id, &job, &now.key, &attempt, name, kind.as_any(), &now.at, began, error],
        )
    }
}
