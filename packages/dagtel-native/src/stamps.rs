//! `pipeline.runtime.domain_time.DomainTime.stamp`: the domain time of each event of a read.

use crate::slots::{next_few, Slots};
use pyo3::prelude::*;
use pyo3::types::{PyInt, PyType};

/// Sets `now_ns` of events (`pipeline.events.Event`).
#[pyclass(frozen)]
pub struct Stamps {
    by_record: Slots<1>,
    by_event: Slots<1>,
    now: Slots<1>,
}

#[pymethods]
impl Stamps {
    #[new]
    fn new(event: &Bound<'_, PyType>) -> PyResult<Self> {
        Ok(Self {
            by_record: Slots::new(event, ["record_ns"])?,
            by_event: Slots::new(event, ["at_ns"])?,
            now: Slots::new(event, ["now_ns"])?,
        })
    }

    /// How many of these items, from the first, it did, and the time then: it begins at `now_ns` and goes on with each
    /// event's own, or its record's. What is later than `ahead_ns`, and what is no event, is Python's.
    fn stamp<'py>(
        &self,
        items: &Bound<'py, PyAny>,
        now_ns: Bound<'py, PyInt>,
        ahead_ns: i64,
        by_event: bool,
    ) -> PyResult<(usize, Bound<'py, PyInt>)> {
        let times = if by_event { &self.by_event } else { &self.by_record };
        let (mut done, mut now) = (0, now_ns);
        let Ok(mut latest) = now.extract::<i64>() else { return Ok((0, now)) };
        let (mut items, mut near) = (items.try_iter()?, Vec::new());
        while next_few(&mut items, &mut near)? {
            for item in &near {
                let Some([at]) = times.read(item) else { return Ok((done, now)) };
                let Ok(at) = at.cast_into_exact::<PyInt>() else { return Ok((done, now)) };
                if !at.is(&now) {
                    let Ok(ns) = at.extract::<i64>() else { return Ok((done, now)) };
                    if ns > ahead_ns {
                        return Ok((done, now));
                    }
                    if ns > latest {
                        (latest, now) = (ns, at);
                    }
                }
                if !self.now.write(item, 0, &now) {
                    return Ok((done, now));
                }
                done += 1;
            }
        }
        Ok((done, now))
    }
}
