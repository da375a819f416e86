//! `connectors.span_shapes.run_span`: the root of a trace.

use crate::ids;
use crate::log_facts::{text, whole};
use crate::slots::{Class, Slots};
use crate::span_shapes::{clipped, flag, name_of, Any, Made, Not, RunIds, Shapes};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyString, PyTuple, PyType};
use std::collections::HashMap;

pub const RUN: [&str; 11] =
    ["run", "job", "status", "at_ns", "started_ns", "enqueued_ns", "starting_ns", "error", "reason", "raised", "late"];

struct Names {
    job: Py<PyAny>,
    run: Py<PyAny>,
    status: Py<PyAny>,
    result: Py<PyAny>,
    reason: Py<PyAny>,
    url: Py<PyAny>,
    partition: Py<PyAny>,
    backfill: Py<PyAny>,
    link_type: Py<PyAny>,
    parent: Py<PyAny>,
    starting: Py<PyAny>,
    started: Py<PyAny>,
}

/// Makes the root spans of runs. `facts`: what is read of a run's RunFacts, if it has one.
pub struct Roots {
    names: Names,
    tag: String,
    span: Class,
    link: Class,
    facts: Slots<4>,
    results: HashMap<String, Py<PyAny>>,
    reasons: HashMap<String, Py<PyAny>>,
    server: Py<PyAny>,
    text_room: usize,
    most_tags: usize,
    trace_id: Py<PyAny>,
    url: Py<PyString>,
    tags: bool,
}

impl Roots {
    /// From `connectors.span_shapes`. `url`, `tags`: of the configuration.
    pub fn new(shapes: &Bound<'_, PyModule>, trace_id: Py<PyAny>, url: Py<PyString>, tags: bool) -> PyResult<Self> {
        let kind = |name: &str| -> PyResult<Bound<'_, PyType>> { Ok(shapes.getattr(name)?.cast_into()?) };
        let names = shapes.getattr("names")?;
        let name = |name: &str| name_of(&names, name);
        Ok(Self {
            names: Names {
                job: name("PIPELINE_NAME")?,
                run: name("PIPELINE_RUN_ID")?,
                status: name("RUN_STATUS")?,
                result: name("PIPELINE_RESULT")?,
                reason: name("RUN_FAILURE_REASON")?,
                url: name("PIPELINE_RUN_URL")?,
                partition: name("PARTITION")?,
                backfill: name("BACKFILL")?,
                link_type: name("LINK_TYPE")?,
                parent: name("LINK_PARENT_RUN")?,
                starting: name("EVENT_RUN_STARTING")?,
                started: name("EVENT_RUN_STARTED")?,
            },
            tag: names.getattr("RUN_TAG")?.extract()?,
            span: Class::new(&kind("Span")?)?,
            link: Class::new(&kind("SpanLink")?)?,
            facts: Slots::new(&kind("RunFacts")?, ["partition", "backfill", "tags", "parent_run_id"])?,
            results: shapes.getattr("_RUN_RESULTS")?.extract()?,
            reasons: shapes.getattr("_REASONS")?.extract()?,
            server: shapes.getattr("SERVER")?.unbind(),
            text_room: shapes.getattr("_TEXT_MAX")?.extract()?,
            most_tags: shapes.getattr("_TAGS_MAX")?.extract()?,
            trace_id,
            url,
            tags,
        })
    }

    /// `run_span`. `events` are those that no attempt took.
    pub fn span<'py>(
        &self,
        shapes: &Shapes,
        ids: &RunIds<'py>,
        ended: &[Any<'py>; 11],
        facts: &Any<'py>,
        resource: &Any<'py>,
        mut events: Vec<Any<'py>>,
    ) -> Made<Py<PyAny>> {
        let [run, job, status, at_ns, started_ns, enqueued_ns, starting_ns, error, reason, raised, _] = ended;
        let (py, names) = (run.py(), &self.names);
        let (status_text, reason_text) = (text(status).ok_or(Not::Ours)?, text(reason).ok_or(Not::Ours)?);
        let attributes = PyDict::new(py);
        attributes.set_item(&names.job, job)?;
        attributes.set_item(&names.run, run)?;
        attributes.set_item(&names.status, status)?;
        if let Some(result) = self.results.get(status_text) {
            attributes.set_item(&names.result, self.reasons.get(reason_text).unwrap_or(result))?;
        }
        if !reason_text.is_empty() {
            attributes.set_item(&names.reason, reason)?;
        }
        let url = self.url.bind(py);
        if url.is_truthy()? {
            let url = url.call_method1(intern!(py, "replace"), (intern!(py, "{run_id}"), run))?;
            attributes.set_item(&names.url, url)?;
        }
        let mut links = PyTuple::empty(py);
        if !facts.is_none() {
            let [partition, backfill, tags, parent] = self.facts.read(facts).ok_or(Not::Ours)?;
            for (name, value) in [(&names.partition, partition), (&names.backfill, backfill)] {
                if value.is_truthy()? {
                    attributes.set_item(name, value)?;
                }
            }
            if self.tags {
                self.put_tags(&attributes, &tags)?;
            }
            let parent_text = text(&parent).ok_or(Not::Ours)?;
            if !parent_text.is_empty() {
                links = PyTuple::new(py, [self.link(&parent, parent_text)?])?;
            }
        }
        for (name, at_ns) in [(&names.starting, starting_ns), (&names.started, started_ns)] {
            if !at_ns.is_none() {
                events.push(shapes.event(name, at_ns, &PyDict::new(py))?);
            }
        }
        let failed = status_text == "failure";
        let mut told = match reason_text {
            _ if !failed => py.None().into_bound(py),
            "" => intern!(py, "run failed").clone().into_any(),
            _ => reason.clone(),
        };
        if !error.is_none() {
            let (exception, status) = shapes.exception(error, at_ns, &attributes, !raised.is_truthy()?)?;
            events.push(exception);
            if failed {
                told = status;
            }
        }
        let name = PyString::new(py, &root_name(text(job).ok_or(Not::Ours)?).ok_or(Not::Ours)?);
        let (none, events) = (PyString::intern(py, ""), PyTuple::new(py, shapes.sorted(events)?)?);
        let fields = [
            ids.trace.as_ptr(),
            ids.root.as_ptr(),
            none.as_ptr(),
            name.as_ptr(),
            first([enqueued_ns, starting_ns, started_ns, at_ns])?.as_ptr(),
            at_ns.as_ptr(),
            attributes.as_ptr(),
            resource.as_ptr(),
            self.server.as_ptr(),
            events.as_ptr(),
            links.as_ptr(),
            told.as_ptr(),
            flag(py, status_text == "success"),
        ];
        Ok(self.span.make(py, fields)?)
    }

    /// A run's ids; it is not "".
    pub fn ids<'py>(&self, run: &Any<'py>, name: &str) -> Made<RunIds<'py>> {
        let trace = match ids::trace(name) {
            Some(digits) => PyString::new(run.py(), &digits).into_any(),
            None => self.trace_id.bind(run.py()).call1((run,))?,
        };
        Ok(RunIds { run: name.into(), trace, root: PyString::new(run.py(), ids::run_span(name).text()).into_any() })
    }

    fn link<'py>(&self, parent: &Any<'py>, name: &str) -> Made<Py<PyAny>> {
        let py = parent.py();
        let ids = self.ids(parent, name)?;
        let attributes = PyDict::new(py);
        attributes.set_item(&self.names.link_type, &self.names.parent)?;
        Ok(self.link.make(py, [ids.trace.as_ptr(), ids.root.as_ptr(), attributes.as_ptr()])?)
    }

    fn put_tags(&self, attributes: &Bound<'_, PyDict>, tags: &Any<'_>) -> Made<()> {
        let mut count = 0;
        for (key, value) in tags.cast_exact::<PyDict>().map_err(|_| Not::Ours)? {
            let key = text(&key).ok_or(Not::Ours)?;
            if key.starts_with('.') {
                continue;
            }
            if count == self.most_tags {
                break;
            }
            count += 1;
            attributes.set_item([&self.tag, key].concat(), clipped(&value, self.text_room)?)?;
        }
        Ok(())
    }
}

/// The earliest of times, ns, without those that are None.
fn first<'a, 'py, const N: usize>(times: [&'a Any<'py>; N]) -> Made<&'a Any<'py>> {
    let mut least: Option<(i64, &Any<'py>)> = None;
    for time in times.into_iter().filter(|time| !time.is_none()) {
        let ns = whole(time).ok_or(Not::Ours)?;
        if least.is_none_or(|(least, _)| ns < least) {
            least = Some((ns, time));
        }
    }
    least.map(|(_, time)| time).ok_or(Not::Ours)
}

/// None for a job whose name may end in blanks.
fn root_name(job: &str) -> Option<String> {
    match job.bytes().last() {
        None => Some("RUN".into()),
        Some(last) => last.is_ascii_graphic().then(|| format!("RUN {job}")),
    }
}
