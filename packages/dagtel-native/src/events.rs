//! `receivers.dagster_wire.decode`: bytes of a stored EventLogEntry to an `Event`.

use crate::details::{Details, Way, NULL};
use crate::entry::Entry;
use crate::nanos::nanos;
use crate::records::Records;
use crate::scan::Quoted;
use crate::slots::{Class, Slots};
use crate::texts::Texts;
use ahash::AHashMap;
use memchr::{memchr2_iter, memmem};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyInt, PyList, PyString, PyTuple, PyType};
use std::borrow::Cow;
use std::collections::HashMap;

const ENTRIES: [&str; 4] = ["EventLogEntry", "DagsterEventRecord", "LogMessageRecord", "EventRecord"];
const LOG: &str = "LOG";
const DEEP: usize = 900;
const MILLISECOND: i64 = 1_000_000;

/// What is known of an event type: its name of today, whether it belongs to a step, how and by whom it is read.
struct Known {
    name: Py<PyString>,
    of_step: bool,
    way: Way,
    reader: Py<PyAny>,
}

/// Decodes entries as `receivers.dagster_wire.decode` does, but for what is rare: that it leaves to it.
///
/// `record`: the class of Kafka's records. `kinds`: the classes of `pipeline.events` by name. `known`: event type → (its name of today, whether it belongs to a
/// step, the way it is read or "", its reader in Python or None). `read`: `(reader, bytes) -> Detail | None`. `log`:
/// `(message, bytes) -> (message, Detail | None)` for entries of user code that hold more than a text, `mark` among it.
/// `payloads`: the class of a metadata value → the name of its one payload. `value`: a metadata value of any
/// other class, as JSON → the plain one. `frame`: see `Errors`.
#[pyclass]
pub struct EventDecoder {
    record: Slots<4>,
    event: Class,
    details: Details,
    known: AHashMap<String, Known>,
    read: Py<PyAny>,
    log: Py<PyAny>,
    mark: String,
    texts: Texts,
    log_name: Py<PyString>,
    carried_at: Option<(i64, Py<PyInt>)>, // ms and ns, mostly those of the record before
}

#[pymethods]
impl EventDecoder {
    #[new]
    fn new(
        py: Python<'_>,
        record: &Bound<'_, PyType>,
        kinds: &Bound<'_, PyModule>,
        known: HashMap<String, (Py<PyString>, bool, String, Py<PyAny>)>,
        payloads: HashMap<String, String>,
        read: Py<PyAny>,
        log: Py<PyAny>,
        value: Py<PyAny>,
        frame: Py<PyAny>,
        mark: String,
    ) -> PyResult<Self> {
        let mut types = AHashMap::new();
        for (wire, (name, of_step, way, reader)) in known {
            let way = Way::of(&way, reader.is_none(py))?;
            types.insert(wire, Known { name, of_step, way, reader });
        }
        Ok(Self {
            record: Slots::new(record, ["offset", "timestamp", "value", "headers"])?,
            event: Class::new(&kinds.getattr("Event")?.cast_into::<PyType>()?)?,
            details: Details::new(kinds, payloads.into_iter().collect(), value, frame)?,
            known: types,
            read,
            log,
            mark,
            texts: Texts::default(),
            log_name: PyString::intern(py, LOG).unbind(),
            carried_at: None,
        })
    }

    /// The event, or None for `receivers.dagster_wire.decode` to look at. Never raises for what the bytes hold.
    fn decode(
        this: &Bound<'_, Self>,
        raw: &Bound<'_, PyBytes>,
        source: &Bound<'_, PyAny>,
        offset: &Bound<'_, PyAny>,
        record_ns: &Bound<'_, PyAny>,
        headers: &Bound<'_, PyAny>,
    ) -> PyResult<Option<Py<PyAny>>> {
        let Ok(mut decoder) = this.try_borrow_mut() else { return Ok(None) }; // another thread is at it
        let record_ns = record_ns.is_truthy()?.then_some(record_ns);
        decoder.event(raw.as_bytes(), raw, source, offset, record_ns, headers)
    }

    /// The events of many records (`Records`, or `receivers.kafka_records.KafkaRecord`s), None in place of what Python
    /// has to look at, their number, and the bytes of the others. None for records of another class.
    fn decode_all<'py>(
        this: &Bound<'py, Self>,
        records: &Bound<'py, PyAny>,
        source: &Bound<'py, PyAny>,
    ) -> PyResult<Option<(Bound<'py, PyList>, usize, usize)>> {
        let py = records.py();
        let Ok(mut decoder) = this.try_borrow_mut() else { return Ok(None) };
        let mut found = Found { events: PyList::empty(py), odd: 0, size: 0 };
        if let Ok(records) = records.cast::<Records>() {
            let records = records.get();
            for (at, record) in records.all().iter().enumerate() {
                records.fetch(py, at + 1);
                let (mut event, mut size) = (None, 0);
                if let (Some((text, left)), true) = (records.value(py, record), record.is_whole) {
                    let (left, offset) = (Bound::new(py, left)?.into_any(), record.offset.into_pyobject(py)?);
                    event = decoder.carried(text, &left, source, offset.as_any(), record.at_ms, &left)?;
                    size = text.len();
                }
                found.add(event, size)?;
            }
        } else {
            for record in records.try_iter()? {
                let Some([offset, timestamp, value, headers]) = decoder.record.read(&record?) else { return Ok(None) };
                let value = value.cast::<PyBytes>().ok();
                let mut event = None;
                if let (Some(raw), Ok(at_ms), true) = (value, timestamp.extract::<i64>(), whole(&headers)) {
                    event = decoder.carried(raw.as_bytes(), raw, source, &offset, at_ms, &headers)?;
                }
                found.add(event, value.map_or(0, |value| value.as_bytes().len()))?;
            }
        }
        Ok(Some((found.events, found.odd, found.size)))
    }
}

/// What `decode_all` gives.
struct Found<'py> {
    events: Bound<'py, PyList>,
    odd: usize,
    size: usize,
}

impl Found<'_> {
    fn add(&mut self, event: Option<Py<PyAny>>, size: usize) -> PyResult<()> {
        match event {
            Some(_) => self.size += size,
            None => self.odd += 1,
        }
        self.events.append(event)
    }
}

/// Whether every header has a value.
fn whole(headers: &Bound<'_, PyAny>) -> bool {
    headers.cast::<PyTuple>().is_ok_and(|headers| {
        headers.iter().all(|pair| {
            pair.cast::<PyTuple>().is_ok_and(|pair| pair.get_item(1).is_ok_and(|v| v.cast::<PyBytes>().is_ok()))
        })
    })
}

impl EventDecoder {
    /// The event of a record of that time (ms; 0 or less for none). `text`: its bytes, for which `raw` stands.
    fn carried<'py>(
        &mut self,
        text: &[u8],
        raw: &Bound<'py, PyAny>,
        source: &Bound<'py, PyAny>,
        offset: &Bound<'py, PyAny>,
        at_ms: i64,
        headers: &Bound<'py, PyAny>,
    ) -> PyResult<Option<Py<PyAny>>> {
        let py = raw.py();
        let known = self.carried_at.as_ref().filter(|(ms, _)| *ms == at_ms).map(|(_, ns)| ns.clone_ref(py));
        let at_ns = match known {
            Some(ns) => Some(ns),
            None if at_ms <= 0 => None,
            None => {
                let Some(ns) = at_ms.checked_mul(MILLISECOND) else { return Ok(None) };
                let ns = ns.into_pyobject(py)?.unbind();
                self.carried_at = Some((at_ms, ns.clone_ref(py)));
                Some(ns)
            }
        };
        self.event(text, raw, source, offset, at_ns.as_ref().map(|ns| ns.bind(py).as_any()), headers)
    }

    /// `record_ns`: the time of the record that carried it, None if it has none.
    fn event<'a>(
        &mut self,
        text: &'a [u8],
        raw: &Bound<'_, PyAny>,
        source: &Bound<'_, PyAny>,
        offset: &Bound<'_, PyAny>,
        record_ns: Option<&Bound<'_, PyAny>>,
        headers: &Bound<'_, PyAny>,
    ) -> PyResult<Option<Py<PyAny>>> {
        let py = raw.py();
        let Ok(text) = std::str::from_utf8(text) else { return Ok(None) };
        if !is_unicode(text.as_bytes()) || is_deep(text.as_bytes()) {
            return Ok(None);
        }
        let Some(entry) = Entry::of(text) else { return Ok(None) };
        let Some(at_ns) = nanos(entry.timestamp) else { return Ok(None) };
        if entry.level > 100 || !entry.class.plain().is_some_and(|class| ENTRIES.contains(&class)) {
            return Ok(None);
        }
        let mut step = entry.step_key;
        let mut job = told(entry.pipeline_name);
        let mut message = entry.user_message;
        let mut kind = None;
        let mut detail = py.None();
        let mut said: Option<Py<PyAny>> = None;
        let name;
        if let Some(inner) = &entry.dagster_event {
            if inner.class.plain() != Some("DagsterEvent") {
                return Ok(None);
            }
            let known = inner.event_type_value.plain().and_then(|kind| self.known.get(kind));
            let Some(known) = known else { return Ok(None) };
            step = told(inner.step_key).or(step);
            if known.of_step && told(step).is_none() {
                return Ok(None);
            }
            name = known.name.clone_ref(py);
            let (way, reader) = (known.way, known.reader.clone_ref(py));
            if way != Way::Nothing {
                let data = inner.event_specific_data;
                detail = match self.details.read(py, &mut self.texts, way, data)? {
                    Some(detail) => detail,
                    None => self.read.call1(py, (reader, PyBytes::new(py, data.as_bytes())))?,
                };
            }
            job = job.or(told(entry.job_name)).or(told(inner.pipeline_name)).or(told(inner.job_name));
            message = told(inner.message).unwrap_or(message);
            kind = inner.step_kind_value;
        } else {
            name = self.log_name.clone_ref(py);
            let Some(text) = message.text() else { return Ok(None) };
            if entry.error_info.len() > NULL.len() || text.contains(&self.mark) {
                let (text, found): (Py<PyAny>, Py<PyAny>) =
                    self.log.call1(py, (text, PyBytes::new(py, entry.error_info.as_bytes())))?.extract(py)?;
                (said, detail) = (Some(text), found);
            }
        }
        job = if entry.run_id.is_empty() { None } else { job.or(told(entry.job_name)) };
        let text = |part: Option<Quoted<'a>>| part.map_or(Some(Cow::Borrowed("")), Quoted::text);
        let (Some(run), Some(job), Some(step), Some(kind)) = (entry.run_id.text(), text(job), text(step), text(kind))
        else {
            return Ok(None);
        };
        let said = match said {
            Some(said) => said,
            None => match message.text() {
                Some(message) => PyString::new(py, &message).into_any().unbind(),
                None => return Ok(None),
            },
        };
        let texts = &mut self.texts;
        let (run, job, step, kind) =
            (texts.get(py, &run), texts.get(py, &job), texts.get(py, &step), texts.get(py, &kind));
        let (at, level) = (at_ns.into_pyobject(py)?, entry.level.into_pyobject(py)?);
        let record = record_ns.unwrap_or(at.as_any());
        self.event
            .make(
                py,
                [
                    raw.as_ptr(),
                    name.as_ptr(),
                    run.as_ptr(),
                    at.as_ptr(),
                    level.as_ptr(),
                    job.as_ptr(),
                    step.as_ptr(),
                    said.as_ptr(),
                    kind.as_ptr(),
                    detail.as_ptr(),
                    source.as_ptr(),
                    offset.as_ptr(),
                    record.as_ptr(),
                    headers.as_ptr(),
                ],
            )
            .map(Some)
    }
}

/// The string, if it says something.
#[inline]
fn told(part: Option<Quoted<'_>>) -> Option<Quoted<'_>> {
    part.filter(|part| !part.is_empty())
}

/// Whether there may be objects in objects as deep as Python, and so Dagster, does not read: what is skipped is not bounded.
fn is_deep(json: &[u8]) -> bool {
    json.len() > 2 * DEEP && memchr2_iter(b'[', b'{', json).take(DEEP).count() == DEEP
}

/// Whether escaped surrogates come in pairs. A lone one, wherever it stands, is Python's to mend.
fn is_unicode(json: &[u8]) -> bool {
    let is_half = |at: usize, second: &[u8]| match json.get(at..at + 4) {
        Some([b'\\', b'u', b'd' | b'D', digit]) => second.contains(digit),
        _ => false,
    };
    let mut from = 0;
    while let Some(found) = memmem::find(&json[from..], br"\u") {
        let at = from + found;
        if is_half(at, b"cdefCDEF") || (is_half(at, b"89abAB") && !is_half(at + 6, b"cdefCDEF")) {
            return false;
        }
        from = at + if is_half(at, b"89abAB") { 12 } else { 2 };
    }
    true
}
