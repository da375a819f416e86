//! Sums of a batch as `connectors.metric_tally.Tally` holds them, put into its dicts once a figure and batch.

use crate::slots::{make, Slots};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple, PyType};

const SECOND_NS: i64 = 1_000_000_000;
const DAY_NS: i64 = 86_400 * SECOND_NS;
/// What is said to have taken longer had an absurd time.
const LONGEST_NS: i64 = 366 * DAY_NS;

/// A series: its key, made once, and where its sum is in the round in progress.
#[derive(Default)]
pub struct Cell {
    key: Option<Py<PyTuple>>,
    round: u64,
    at: usize,
}

impl Cell {
    fn key<'py, const N: usize>(&mut self, py: Python<'py>, parts: [&Bound<'py, PyAny>; N]) -> PyResult<Py<PyTuple>> {
        if let Some(key) = &self.key {
            return Ok(key.clone_ref(py));
        }
        let key = PyTuple::new(py, parts)?.unbind();
        self.key = Some(key.clone_ref(py));
        Ok(key)
    }
}

/// A gauge's value: a number, or its own time in seconds.
#[derive(Clone, Copy)]
pub enum Value {
    Number(f64),
    Time,
}

struct Latest {
    key: Py<PyTuple>,
    value: Value,
    at_ns: i64,
    variant: Option<Py<PyAny>>,
}

/// The dicts of a Tally, and what is to be put into them. A round ends with that: from then on the dicts are right,
/// and the next round begins with what they hold.
pub struct Sums<'a, 'py> {
    py: Python<'py>,
    latest: &'a Py<PyType>,
    latest_at: &'a Slots<1>,
    round: u64,
    counts: Bound<'py, PyDict>,
    times_ns: Bound<'py, PyDict>,
    gauges: Bound<'py, PyDict>,
    variants: Bound<'py, PyDict>,
    seen: Bound<'py, PyDict>,
    new_counts: Vec<(Py<PyTuple>, f64)>,
    new_times: Vec<(Py<PyTuple>, Vec<i64>)>,
    new_gauges: Vec<Latest>,
    new_variants: Vec<Latest>,
    new_seen: Vec<(Py<PyTuple>, Bound<'py, PyAny>)>,
}

impl<'a, 'py> Sums<'a, 'py> {
    /// Of a Tally. `round`: above that of any round before.
    pub fn new(
        tally: &Bound<'py, PyAny>,
        latest: &'a Py<PyType>,
        latest_at: &'a Slots<1>,
        round: u64,
    ) -> PyResult<Self> {
        let py = tally.py();
        let dict = |name| -> PyResult<Bound<'py, PyDict>> { Ok(tally.getattr(name)?.cast_into()?) };
        Ok(Self {
            py,
            latest,
            latest_at,
            round,
            counts: dict(intern!(py, "counts"))?,
            times_ns: dict(intern!(py, "times_ns"))?,
            gauges: dict(intern!(py, "gauges"))?,
            variants: dict(intern!(py, "variants"))?,
            seen: dict(intern!(py, "seen"))?,
            new_counts: Vec::new(),
            new_times: Vec::new(),
            new_gauges: Vec::new(),
            new_variants: Vec::new(),
            new_seen: Vec::new(),
        })
    }

    /// Adds to a counter.
    pub fn count<const N: usize>(&mut self, cell: &mut Cell, key: [&Bound<'py, PyAny>; N], by: f64) -> PyResult<()> {
        if cell.round == self.round {
            self.new_counts[cell.at].1 += by;
            return Ok(());
        }
        let key = cell.key(self.py, key)?;
        let before = match self.counts.get_item(&key)? {
            Some(before) => before.extract()?,
            None => 0.0,
        };
        (cell.round, cell.at) = (self.round, self.new_counts.len());
        self.new_counts.push((key, before + by));
        Ok(())
    }

    /// Adds a duration to a histogram, if there is one.
    pub fn time<const N: usize>(
        &mut self,
        cell: &mut Cell,
        key: [&Bound<'py, PyAny>; N],
        took_ns: Option<i64>,
    ) -> PyResult<()> {
        let Some(took_ns) = took_ns.map(|took_ns| took_ns.clamp(0, LONGEST_NS)) else { return Ok(()) };
        if cell.round == self.round {
            self.new_times[cell.at].1.push(took_ns);
            return Ok(());
        }
        let key = cell.key(self.py, key)?;
        (cell.round, cell.at) = (self.round, self.new_times.len());
        self.new_times.push((key, vec![took_ns]));
        Ok(())
    }

    /// Sets a gauge, unless it holds something later.
    pub fn gauge<const N: usize>(
        &mut self,
        cell: &mut Cell,
        key: [&Bound<'py, PyAny>; N],
        value: Value,
        at_ns: i64,
    ) -> PyResult<()> {
        if cell.round == self.round {
            let last = &mut self.new_gauges[cell.at];
            if at_ns >= last.at_ns {
                (last.value, last.at_ns) = (value, at_ns);
            }
            return Ok(());
        }
        let key = cell.key(self.py, key)?;
        if !self.is_later(&self.gauges, &key, at_ns)? {
            (cell.round, cell.at) = (self.round, self.new_gauges.len());
            self.new_gauges.push(Latest { key, value, at_ns, variant: None });
        }
        Ok(())
    }

    /// Sets a gauge of which its subject, which was heard of, has one, whatever its last label, `variant`.
    pub fn vary(
        &mut self,
        cell: &mut Cell,
        name: &Bound<'py, PyAny>,
        subject: &Cell,
        value: f64,
        at_ns: i64,
        variant: Py<PyAny>,
    ) -> PyResult<()> {
        let value = Value::Number(value);
        if cell.round == self.round {
            let last = &mut self.new_variants[cell.at];
            if at_ns >= last.at_ns {
                (last.value, last.at_ns, last.variant) = (value, at_ns, Some(variant));
            }
            return Ok(());
        }
        let key = cell.key(self.py, [name, subject.key.as_ref().map_or(name, |key| key.bind(self.py).as_any())])?;
        if !self.is_later(&self.variants, &key, at_ns)? {
            (cell.round, cell.at) = (self.round, self.new_variants.len());
            self.new_variants.push(Latest { key, value, at_ns, variant: Some(variant) });
        }
        Ok(())
    }

    /// A subject was heard of.
    pub fn hear<const N: usize>(
        &mut self,
        cell: &mut Cell,
        subject: [&Bound<'py, PyAny>; N],
        now_ns: &Bound<'py, PyAny>,
    ) -> PyResult<()> {
        if cell.round == self.round {
            self.new_seen[cell.at].1 = now_ns.clone();
            return Ok(());
        }
        let subject = cell.key(self.py, subject)?;
        (cell.round, cell.at) = (self.round, self.new_seen.len());
        self.new_seen.push((subject, now_ns.clone()));
        Ok(())
    }

    /// Puts all into the dicts.
    pub fn settle(&mut self) -> PyResult<()> {
        self.round += 1;
        for (key, value) in self.new_counts.drain(..) {
            self.counts.set_item(key, value)?;
        }
        for (key, times_ns) in self.new_times.drain(..) {
            match self.times_ns.get_item(&key)? {
                Some(before) => before.call_method1(intern!(self.py, "extend"), (times_ns,)).map(|_| ())?,
                None => self.times_ns.set_item(key, times_ns)?,
            }
        }
        for (new, dict) in [(&mut self.new_gauges, &self.gauges), (&mut self.new_variants, &self.variants)] {
            for Latest { key, value, at_ns, variant } in new.drain(..) {
                let at_ns = at_ns.into_pyobject(self.py)?.into_any();
                let value = match value {
                    Value::Number(value) => value.into_pyobject(self.py)?.into_any(),
                    Value::Time => at_ns.div(SECOND_NS)?,
                };
                let latest = match variant {
                    Some(variant) => make(self.latest, self.py, [value.as_ptr(), at_ns.as_ptr(), variant.as_ptr()])?,
                    None => make(self.latest, self.py, [value.as_ptr(), at_ns.as_ptr()])?,
                };
                dict.set_item(key, latest)?;
            }
        }
        for (subject, now_ns) in self.new_seen.drain(..) {
            self.seen.set_item(subject, now_ns)?;
        }
        Ok(())
    }

    /// The round in progress.
    pub fn round(&self) -> u64 {
        self.round
    }

    fn is_later(&self, dict: &Bound<'py, PyDict>, key: &Py<PyTuple>, at_ns: i64) -> PyResult<bool> {
        let Some(last) = dict.get_item(key)? else { return Ok(false) };
        match self.latest_at.read(&last) {
            Some([last_ns]) => last_ns.gt(at_ns),
            None => Ok(false),
        }
    }
}

/// The event's own time; now, where it lies more than a day ahead.
pub fn meant(at_ns: i64, now_ns: i64) -> i64 {
    if now_ns != 0 && at_ns > now_ns.saturating_add(DAY_NS) {
        now_ns
    } else {
        at_ns
    }
}
