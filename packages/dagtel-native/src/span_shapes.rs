//! `connectors.span_shapes`: the shape of each span and span event.

use crate::ids;
use crate::log_facts::{text, whole};
use crate::slots::{Class, Slots};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyInt, PyList, PyString, PyTuple, PyType};
use std::collections::{HashMap, HashSet};

pub const STEP: [&str; 13] = [
    "run",
    "job",
    "step",
    "attempt",
    "status",
    "at_ns",
    "started_ns",
    "kind",
    "assets",
    "partition",
    "error",
    "interrupted",
    "begun",
];
pub const INNER: [&str; 9] = ["run", "job", "step", "attempt", "name", "kind", "at_ns", "started_ns", "error"];

/// Why there is nothing: it is Python's to do, or Python raised.
pub enum Not {
    Ours,
    Raised(PyErr),
}

impl From<PyErr> for Not {
    fn from(error: PyErr) -> Self {
        Self::Raised(error)
    }
}

pub type Made<T> = Result<T, Not>;
pub type Any<'py> = Bound<'py, PyAny>;

/// A run's ids.
pub struct RunIds<'py> {
    pub run: String,
    pub trace: Any<'py>,
    pub root: Any<'py>,
}

/// An asset of a span event.
pub struct Asset<'a, 'py> {
    pub key: &'a Any<'py>,
    pub partition: &'a Any<'py>,
    pub metadata: Option<&'a Any<'py>>,
    pub catalog: &'a Any<'py>,
}

struct Names {
    job: Py<PyAny>,
    run: Py<PyAny>,
    task: Py<PyAny>,
    task_run: Py<PyAny>,
    task_result: Py<PyAny>,
    error_type: Py<PyAny>,
    partition: Py<PyAny>,
    status: Py<PyAny>,
    kind: Py<PyAny>,
    attempt: Py<PyAny>,
    interrupted: Py<PyAny>,
    asset_keys: Py<PyAny>,
    inner_kind: Py<PyAny>,
    events_dropped: Py<PyAny>,
    inner_dropped: Py<PyAny>,
    link_type: Py<PyAny>,
    previous: Py<PyAny>,
    exception: Py<PyAny>,
    exception_type: Py<PyAny>,
    exception_message: Py<PyAny>,
    exception_stack: Py<PyAny>,
    asset: Py<PyAny>,
    group: Py<PyAny>,
    owners: Py<PyAny>,
    kinds: Py<PyAny>,
    rows: Py<PyAny>,
}

impl Names {
    fn new(names: &Any<'_>) -> PyResult<Self> {
        let name = |name: &str| name_of(names, name);
        Ok(Self {
            job: name("PIPELINE_NAME")?,
            run: name("PIPELINE_RUN_ID")?,
            task: name("TASK_NAME")?,
            task_run: name("TASK_RUN_ID")?,
            task_result: name("TASK_RUN_RESULT")?,
            error_type: name("ERROR_TYPE")?,
            partition: name("PARTITION")?,
            status: name("STEP_STATUS")?,
            kind: name("STEP_KIND")?,
            attempt: name("STEP_ATTEMPT")?,
            interrupted: name("STEP_INTERRUPTED")?,
            asset_keys: name("ASSET_KEYS")?,
            inner_kind: name("INNER_KIND")?,
            events_dropped: name("EVENTS_DROPPED")?,
            inner_dropped: name("INNER_DROPPED")?,
            link_type: name("LINK_TYPE")?,
            previous: name("LINK_PREVIOUS_ATTEMPT")?,
            exception: name("EXCEPTION")?,
            exception_type: name("EXCEPTION_TYPE")?,
            exception_message: name("EXCEPTION_MESSAGE")?,
            exception_stack: name("EXCEPTION_STACKTRACE")?,
            asset: name("ASSET_KEY")?,
            group: name("ASSET_GROUP")?,
            owners: name("ASSET_OWNERS")?,
            kinds: name("ASSET_KINDS")?,
            rows: name("ROWS")?,
        })
    }
}

/// Makes spans and span events of the common outcomes.
pub struct Shapes {
    names: Names,
    span: Class,
    event: Class,
    time: Slots<1>,
    link: Class,
    inner: Slots<9>,
    error: Slots<3>,
    catalog: Slots<1>,
    asset: Slots<3>,
    results: HashMap<String, Py<PyAny>>,
    internal: Py<PyAny>,
    text_room: usize,
    stack_room: usize,
    status_room: usize,
    row_names: [Py<PyAny>; 2],
}

impl Shapes {
    /// From `connectors.span_shapes` and what it knows by name.
    pub fn new(shapes: &Bound<'_, PyModule>, asset: &Bound<'_, PyType>) -> PyResult<Self> {
        let kind = |name: &str| -> PyResult<Bound<'_, PyType>> { Ok(shapes.getattr(name)?.cast_into()?) };
        let room = |name: &str| -> PyResult<usize> { shapes.getattr(name)?.extract() };
        let word = |text: &str| PyString::intern(shapes.py(), text).into_any().unbind();
        let names = Names::new(&shapes.getattr("names")?)?;
        Ok(Self {
            names,
            span: Class::new(&kind("Span")?)?,
            event: Class::new(&kind("SpanEvent")?)?,
            time: Slots::new(&kind("SpanEvent")?, ["at_ns"])?,
            link: Class::new(&kind("SpanLink")?)?,
            inner: Slots::new(&kind("InnerEnded")?, INNER)?,
            error: Slots::new(&kind("ErrorInfo")?, ["type", "message", "stack"])?,
            catalog: Slots::new(&kind("Catalog")?, ["assets"])?,
            asset: Slots::new(asset, ["group", "owners", "kinds"])?,
            results: shapes.getattr("_STEP_RESULTS")?.extract()?,
            internal: shapes.getattr("INTERNAL")?.unbind(),
            text_room: room("_TEXT_MAX")?,
            stack_room: room("_STACK_MAX")?,
            status_room: room("_STATUS_MAX")?,
            row_names: ["dagster/partition_row_count", "dagster/row_count"].map(word),
        })
    }

    /// `step_span` and its id. `key` is `step#attempt`.
    pub fn step<'py>(
        &self,
        ids: &RunIds<'py>,
        ended: &[Any<'py>; 13],
        key: &Any<'py>,
        resource: &Any<'py>,
        events: Option<&Bound<'py, PyList>>,
        dropped: Option<[&Any<'py>; 2]>,
    ) -> Made<(Py<PyAny>, Any<'py>)> {
        let [run, job, step, attempt, status, at_ns, started_ns, kind, assets, partition, error, interrupted, begun] =
            ended;
        let py = run.py();
        let names = &self.names;
        let (step_text, number) = (text(step).ok_or(Not::Ours)?, whole(attempt).ok_or(Not::Ours)?);
        let status_text = text(status).ok_or(Not::Ours)?;
        let result = self.results.get(status_text);
        let attributes = PyDict::new(py);
        attributes.set_item(&names.job, job)?;
        attributes.set_item(&names.run, run)?;
        attributes.set_item(&names.task, step)?;
        attributes.set_item(&names.status, status)?;
        attributes.set_item(&names.attempt, attempt)?;
        if begun.is_truthy()? {
            attributes.set_item(&names.task_run, key)?;
        }
        if let Some(result) = result {
            attributes.set_item(&names.task_result, result)?;
        }
        for (name, value) in [(&names.kind, kind), (&names.asset_keys, assets), (&names.partition, partition)] {
            if value.is_truthy()? {
                attributes.set_item(name, value)?;
            }
        }
        if interrupted.is_truthy()? {
            attributes.set_item(&names.interrupted, true)?;
        }
        if let Some([events, inner]) = dropped {
            for (name, value) in [(&names.events_dropped, events), (&names.inner_dropped, inner)] {
                if value.is_truthy()? {
                    attributes.set_item(name, value)?;
                }
            }
        }
        let failed = matches!(status_text, "failure" | "retry");
        let mut events = events.map_or_else(|| PyTuple::empty(py), |events| events.to_tuple());
        let mut told = if failed { intern!(py, "step failed").clone().into_any() } else { py.None().into_bound(py) };
        if !error.is_none() {
            let (exception, status) = self.exception(error, at_ns, &attributes, true)?;
            events = PyTuple::new(py, events.iter().chain([exception]).collect::<Vec<_>>())?;
            if failed {
                told = status;
            }
        }
        let links = if number < 2 {
            PyTuple::empty(py)
        } else {
            let before = PyString::new(py, ids::step_span(&ids.run, step_text, number - 1).text());
            let kind = PyDict::new(py);
            kind.set_item(&names.link_type, &names.previous)?;
            PyTuple::new(py, [self.link.make(py, [ids.trace.as_ptr(), before.as_ptr(), kind.as_ptr()])?])?
        };
        let id = PyString::new(py, ids::step_span(&ids.run, step_text, number).text()).into_any();
        let fields = [
            ids.trace.as_ptr(),
            id.as_ptr(),
            ids.root.as_ptr(),
            step.as_ptr(),
            earlier(started_ns, at_ns)?.as_ptr(),
            at_ns.as_ptr(),
            attributes.as_ptr(),
            resource.as_ptr(),
            self.internal.as_ptr(),
            events.as_ptr(),
            links.as_ptr(),
            told.as_ptr(),
            flag(py, status_text == "success"),
        ];
        Ok((self.span.make(py, fields)?, id))
    }

    /// `inner_spans` of a run's, in place.
    pub fn inner<'py>(
        &self,
        ids: &RunIds<'py>,
        ended: Vec<Any<'py>>,
        parent: &Any<'py>,
        resource: &Any<'py>,
        when: &str,
    ) -> Made<Vec<Py<PyAny>>> {
        if ended.is_empty() {
            return Ok(Vec::new());
        }
        let mut taken = HashSet::with_capacity(ended.len());
        let mut spans = Vec::with_capacity(ended.len());
        for inner in ended {
            let fields = self.inner.read(&inner).ok_or(Not::Ours)?;
            let [run, _, step, attempt, name, _, _, started_ns, _] = &fields;
            if text(run) != Some(&ids.run) {
                return Err(Not::Ours);
            }
            let (step, name) = (text(step).ok_or(Not::Ours)?, text(name).ok_or(Not::Ours)?);
            let (attempt, started_ns) = (whole(attempt).ok_or(Not::Ours)?, whole(started_ns).ok_or(Not::Ours)?);
            let mut suffix = String::new();
            if !when.is_empty() {
                suffix.extend(["\0", when]);
            }
            let mut id = ids::inner_span(&ids.run, step, attempt, [name, &suffix], started_ns);
            while taken.contains(&id) {
                suffix.push('\'');
                id = ids::inner_span(&ids.run, step, attempt, [name, &suffix], started_ns);
            }
            spans.push(self.inner_span(ids, &fields, id.text(), parent, resource)?);
            taken.insert(id);
        }
        Ok(spans)
    }

    fn inner_span<'py>(
        &self,
        ids: &RunIds<'py>,
        ended: &[Any<'py>; 9],
        id: &str,
        parent: &Any<'py>,
        resource: &Any<'py>,
    ) -> Made<Py<PyAny>> {
        let [run, job, step, attempt, name, kind, at_ns, started_ns, error] = ended;
        let py = run.py();
        let attributes = PyDict::new(py);
        attributes.set_item(&self.names.job, job)?;
        attributes.set_item(&self.names.run, run)?;
        attributes.set_item(&self.names.inner_kind, kind)?;
        if step.is_truthy()? {
            attributes.set_item(&self.names.task, step)?;
            attributes.set_item(&self.names.attempt, attempt)?;
        }
        let (mut events, mut told) = (PyTuple::empty(py), py.None().into_bound(py));
        if !error.is_none() {
            let (exception, status) = self.exception(error, at_ns, &attributes, true)?;
            (events, told) = (PyTuple::new(py, [exception])?, status);
        }
        let (id, none) = (PyString::new(py, id), PyTuple::empty(py));
        let fields = [
            ids.trace.as_ptr(),
            id.as_ptr(),
            parent.as_ptr(),
            name.as_ptr(),
            earlier(started_ns, at_ns)?.as_ptr(),
            at_ns.as_ptr(),
            attributes.as_ptr(),
            resource.as_ptr(),
            self.internal.as_ptr(),
            events.as_ptr(),
            none.as_ptr(),
            told.as_ptr(),
            flag(py, false),
        ];
        Ok(self.span.make(py, fields)?)
    }

    /// `exception` and `_status` of an error; its type becomes an attribute of the span.
    pub fn exception<'py>(
        &self,
        error: &Any<'py>,
        at_ns: &Any<'py>,
        span: &Bound<'py, PyDict>,
        with_stack: bool,
    ) -> Made<(Any<'py>, Any<'py>)> {
        let py = error.py();
        let [kind, message, stack] = self.error.read(error).ok_or(Not::Ours)?;
        let (kind_text, message_text) = (text(&kind).ok_or(Not::Ours)?, text(&message).ok_or(Not::Ours)?);
        span.set_item(&self.names.error_type, &kind)?;
        let attributes = PyDict::new(py);
        attributes.set_item(&self.names.exception_type, &kind)?;
        attributes.set_item(&self.names.exception_message, clipped(&message, self.text_room)?)?;
        if with_stack && stack.is_truthy()? {
            attributes.set_item(&self.names.exception_stack, clipped(&stack, self.stack_room)?)?;
        }
        let status = PyString::new(py, &format!("{kind_text}: {message_text}")).into_any();
        Ok((self.event(&self.names.exception, at_ns, &attributes)?, clipped(&status, self.status_room)?))
    }

    pub fn event<'py>(&self, name: &Py<PyAny>, at_ns: &Any<'py>, attributes: &Bound<'py, PyDict>) -> Made<Any<'py>> {
        let py = at_ns.py();
        Ok(self.event.make(py, [name.as_ptr(), at_ns.as_ptr(), attributes.as_ptr()])?.into_bound(py))
    }

    /// Span events by their time.
    pub fn sorted<'py>(&self, events: Vec<Any<'py>>) -> Made<Vec<Any<'py>>> {
        let mut timed = Vec::with_capacity(events.len());
        for event in events {
            let [at_ns] = self.time.read(&event).ok_or(Not::Ours)?;
            timed.push((whole(&at_ns).ok_or(Not::Ours)?, event));
        }
        timed.sort_by_key(|(at_ns, _)| *at_ns);
        Ok(timed.into_iter().map(|(_, event)| event).collect())
    }

    /// `_asset`.
    pub fn asset<'py>(&self, asset: &Asset<'_, 'py>) -> Made<Bound<'py, PyDict>> {
        let py = asset.key.py();
        let attributes = PyDict::new(py);
        let key = asset.key.cast_exact::<PyString>().map_err(|_| Not::Ours)?;
        attributes.set_item(&self.names.asset, key)?;
        if asset.partition.is_truthy()? {
            attributes.set_item(&self.names.partition, asset.partition)?;
        }
        if let Some(metadata) = asset.metadata {
            let metadata = metadata.cast_exact::<PyDict>().map_err(|_| Not::Ours)?;
            if !metadata.is_empty() {
                let [of_partition, of_asset] = &self.row_names;
                let rows = metadata
                    .get_item(of_partition)?
                    .map_or_else(|| metadata.get_item(of_asset), |rows| Ok(Some(rows)))?;
                if let Some(rows) = rows.filter(|rows| rows.is_instance_of::<PyInt>()) {
                    attributes.set_item(&self.names.rows, rows)?;
                }
            }
        }
        if !asset.catalog.is_none() {
            let [assets] = self.catalog.read(asset.catalog).ok_or(Not::Ours)?;
            if let Some(facts) = assets.cast_exact::<PyDict>().map_err(|_| Not::Ours)?.get_item(key)? {
                let [group, owners, kinds] = self.asset.read(&facts).ok_or(Not::Ours)?;
                let names = &self.names;
                for (name, value) in [(&names.group, group), (&names.owners, owners), (&names.kinds, kinds)] {
                    if value.is_truthy()? {
                        attributes.set_item(name, value)?;
                    }
                }
            }
        }
        Ok(attributes)
    }
}

/// A name of `pipeline.names`, as one object.
pub fn name_of(names: &Any<'_>, name: &str) -> PyResult<Py<PyAny>> {
    let text = names.getattr(name)?.cast_into::<PyString>()?;
    Ok(PyString::intern(names.py(), text.to_str()?).into_any().unbind())
}

/// `min` of two times, ns.
fn earlier<'a, 'py>(begun: &'a Any<'py>, ended: &'a Any<'py>) -> Made<&'a Any<'py>> {
    let (first, second) = (whole(begun).ok_or(Not::Ours)?, whole(ended).ok_or(Not::Ours)?);
    Ok(if second < first { ended } else { begun })
}

/// `clipped`: the text itself where it is short.
pub fn clipped<'py>(long: &Any<'py>, room: usize) -> Made<Any<'py>> {
    let size = long.cast_exact::<PyString>().map_err(|_| Not::Ours)?.len()?;
    if size <= room {
        return Ok(long.clone());
    }
    let told = text(long).ok_or(Not::Ours)?;
    let place = |characters: usize| told.char_indices().nth(characters).map_or(told.len(), |(place, _)| place);
    let (head, tail) = (place(room / 2), place(size - room / 2));
    Ok(PyString::new(long.py(), &format!("{}\n…\n{}", &told[..head], &told[tail..])).into_any())
}

pub fn flag(py: Python<'_>, value: bool) -> *mut pyo3::ffi::PyObject {
    pyo3::types::PyBool::new(py, value).as_ptr()
}
