//! `connectors.slow.Baselines`: whether a success took much longer than those before it, and what is learned of it.

use crate::log_facts::{text, whole};
use crate::slots::Slots;
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyFloat, PyInt, PyModule, PyTuple, PyType};

const EXACT: f64 = 9_007_199_254_740_992.0; // 2^53: up to here each whole number is a float

/// What is usual for each asset. Leaves to Python an asset that is new, and durations that are not plain.
///
/// `outcomes`: the module with AssetMaterialized. `get`, `put`: of the table. `is_slow`, `learn`: the same in Python.
#[pyclass(frozen)]
pub struct SlowTwin {
    made: Slots<3>,
    get: Py<PyAny>,
    put: Py<PyAny>,
    is_slow: Py<PyAny>,
    learn: Py<PyAny>,
    factor: f64,
    excess_ns: i64,
    at_least: usize,
    history: usize,
}

#[pymethods]
impl SlowTwin {
    #[new]
    #[allow(clippy::too_many_arguments)]
    fn new(
        outcomes: &Bound<'_, PyModule>,
        get: Py<PyAny>,
        put: Py<PyAny>,
        is_slow: Py<PyAny>,
        learn: Py<PyAny>,
        factor: f64,
        excess_ns: i64,
        at_least: usize,
        history: usize,
    ) -> PyResult<Self> {
        let made = outcomes.getattr("AssetMaterialized")?.cast_into::<PyType>()?;
        let made = Slots::new(&made, ["asset", "duration_ns", "execution"])?;
        Ok(Self { made, get, put, is_slow, learn, factor, excess_ns, at_least, history })
    }
}

/// A success, and the durations before it: at least one.
pub struct Success<'py> {
    asset: Bound<'py, PyAny>,
    took: Bound<'py, PyAny>,
    counts: bool,
    past: Bound<'py, PyTuple>,
}

impl SlowTwin {
    /// Whether it is slow; and what `learn` may do without looking again.
    pub fn is_slow<'py>(&self, made: &Bound<'py, PyAny>) -> PyResult<(bool, Option<Success<'py>>)> {
        let py = made.py();
        let asked = |made| self.is_slow.bind(py).call1((made,))?.is_truthy();
        let Some(success) = self.success(made)? else { return Ok((asked(made)?, None)) };
        match self.judge(&success) {
            Some(is_slow) => Ok((is_slow, Some(success))),
            None => Ok((asked(made)?, None)),
        }
    }

    /// From now on it is one of those before. `success`: what `is_slow` gave of it, with nothing learned since.
    pub fn learn<'py>(&self, made: &Bound<'py, PyAny>, success: Option<Success<'py>>) -> PyResult<()> {
        let py = made.py();
        let Some(Success { asset, took, counts, past }) = success else {
            self.learn.bind(py).call1((made,))?;
            return Ok(());
        };
        if counts {
            let past = past.as_slice();
            let kept = past.iter().skip((past.len() + 1).saturating_sub(self.history)).chain([&took]);
            let kept: Vec<_> = kept.collect();
            let kept = &kept[kept.len().saturating_sub(self.history)..];
            self.put.bind(py).call1((asset, PyTuple::new(py, kept)?))?;
        }
        Ok(())
    }

    fn success<'py>(&self, made: &Bound<'py, PyAny>) -> PyResult<Option<Success<'py>>> {
        let Some([asset, took, counts]) = self.made.read(made) else { return Ok(None) };
        if self.factor == 0.0 || text(&asset).is_none() || whole(&took).is_none() {
            return Ok(None);
        }
        let Ok(counts) = counts.cast_exact::<PyBool>().map(|counts| counts.is_true()) else { return Ok(None) };
        let past = self.get.bind(made.py()).call1((&asset,))?;
        Ok(past.cast_into_exact::<PyTuple>().ok().map(|past| Success { asset, took, counts, past }))
    }

    /// None: Python is to say it.
    fn judge(&self, success: &Success<'_>) -> Option<bool> {
        let (took, past) = (whole(&success.took)?, success.past.as_slice());
        if past.is_empty() {
            return None;
        }
        if took < self.excess_ns || past.len() < self.at_least {
            return Some(false);
        }
        let took = exact(&success.took)?;
        let mut least = f64::INFINITY;
        for duration in past {
            least = least.min(exact(duration)?);
        }
        if took < self.factor * least {
            return Some(false);
        }
        let mut ordered = past.iter().map(exact).collect::<Option<Vec<_>>>()?;
        let usual = *ordered.select_nth_unstable_by(past.len() / 2, f64::total_cmp).1;
        Some(took >= usual * self.factor && took - usual >= self.excess_ns as f64)
    }
}

/// A duration that is the same as a float, and of which the difference to another one is.
fn exact(duration: &Bound<'_, PyAny>) -> Option<f64> {
    let value = match duration.cast_exact::<PyFloat>() {
        Ok(duration) => duration.value(),
        Err(_) => duration.cast_exact::<PyInt>().ok()?.extract::<i64>().ok()? as f64,
    };
    (0.0..EXACT).contains(&value).then_some(value)
}
