//! `receivers.dagster_wire.decode`: bytes of a stored EventLogEntry to an `Event`.

use crate::details::{Details, Way, NULL};
use crate::nanos::nanos;
use crate::slots::{make, Slots};
use crate::texts::Texts;
use crate::wire::{object, or_empty, Entry, Object};
use ahash::AHashMap;
use memchr::{memchr2_iter, memmem};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyList, PyString, PyTuple, PyType};
use serde_json::value::RawValue;
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
    event: Py<PyType>,
    details: Details,
    known: AHashMap<String, Known>,
    read: Py<PyAny>,
    log: Py<PyAny>,
    mark: String,
    texts: Texts,
    log_name: Py<PyString>,
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
            event: kinds.getattr("Event")?.cast_into::<PyType>()?.unbind(),
            details: Details::new(kinds, payloads.into_iter().collect(), value, frame)?,
            known: types,
            read,
            log,
            mark,
            texts: Texts::default(),
            log_name: PyString::intern(py, LOG).unbind(),
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
        decoder.event(raw, source, offset, record_ns, headers)
    }

    /// The events of many records (`receivers.kafka_records.KafkaRecord`), None in place of what Python has to look at,
    /// their number, and the bytes of the others. None for records of another class.
    fn decode_all<'py>(
        this: &Bound<'py, Self>,
        records: &Bound<'py, PyList>,
        source: &Bound<'py, PyAny>,
    ) -> PyResult<Option<(Bound<'py, PyList>, usize, usize)>> {
        let py = records.py();
        let Ok(mut decoder) = this.try_borrow_mut() else { return Ok(None) };
        let (events, mut odd, mut size) = (PyList::empty(py), 0, 0);
        for record in records {
            let Some([offset, timestamp, value, headers]) = decoder.record.read(&record) else { return Ok(None) };
            let mut event = None;
            if let (Ok(raw), Ok(at_ms), true) = (value.cast::<PyBytes>(), timestamp.extract::<i64>(), whole(&headers)) {
                let at_ns =
                    at_ms.checked_mul(MILLISECOND).filter(|ns| *ns > 0).map(|ns| ns.into_pyobject(py)).transpose()?;
                if at_ns.is_some() || at_ms <= 0 {
                    event = decoder.event(raw, source, &offset, at_ns.as_ref().map(|ns| ns.as_any()), &headers)?;
                    size += if event.is_some() { raw.as_bytes().len() } else { 0 };
                }
            }
            odd += usize::from(event.is_none());
            events.append(event)?;
        }
        Ok(Some((events, odd, size)))
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
    /// `record_ns`: the time of the record that carried it, None if it has none.
    fn event(
        &mut self,
        raw: &Bound<'_, PyBytes>,
        source: &Bound<'_, PyAny>,
        offset: &Bound<'_, PyAny>,
        record_ns: Option<&Bound<'_, PyAny>>,
        headers: &Bound<'_, PyAny>,
    ) -> PyResult<Option<Py<PyAny>>> {
        let py = raw.py();
        let Ok(text) = std::str::from_utf8(raw.as_bytes()) else { return Ok(None) };
        if !is_unicode(text.as_bytes()) || is_deep(text.as_bytes()) {
            return Ok(None);
        }
        let Ok(entry) = object::<Entry<'_>>(text) else { return Ok(None) };
        let Some(at_ns) = nanos(entry.timestamp) else { return Ok(None) };
        if entry.level > 100 || !ENTRIES.contains(&&*entry.class.0) {
            return Ok(None);
        }
        let mut step = or_empty(&entry.step_key);
        let mut job = or_empty(&entry.pipeline_name);
        let mut message: &str = &entry.user_message.0;
        let mut kind = "";
        let mut detail = py.None();
        let mut told: Option<Py<PyAny>> = None;
        let name;
        if let Some(Object(inner)) = &entry.dagster_event {
            if inner.class.0 != "DagsterEvent" {
                return Ok(None);
            }
            let Some(known) = self.known.get(&*inner.event_type_value.0) else { return Ok(None) };
            step = if or_empty(&inner.step_key).is_empty() { step } else { or_empty(&inner.step_key) };
            if step.is_empty() && known.of_step {
                return Ok(None);
            }
            name = known.name.clone_ref(py);
            let (way, reader) = (known.way, known.reader.clone_ref(py));
            if way != Way::Nothing {
                let data = inner.event_specific_data.map_or(NULL, RawValue::get);
                detail = match self.details.read(py, &mut self.texts, way, data)? {
                    Some(detail) => detail,
                    None => self.read.call1(py, (reader, PyBytes::new(py, data.as_bytes())))?,
                };
            }
            for further in [&entry.job_name, &inner.pipeline_name, &inner.job_name] {
                job = if job.is_empty() { or_empty(further) } else { job };
            }
            message = if or_empty(&inner.message).is_empty() { message } else { or_empty(&inner.message) };
            kind = or_empty(&inner.step_kind_value);
        } else {
            name = self.log_name.clone_ref(py);
            if entry.error_info.get().len() > NULL.len() || message.contains(&self.mark) {
                let (text, found): (Py<PyAny>, Py<PyAny>) =
                    self.log.call1(py, (message, PyBytes::new(py, entry.error_info.get().as_bytes())))?.extract(py)?;
                (told, detail) = (Some(text), found);
            }
        }
        let run: &str = &entry.run_id.0;
        job = if run.is_empty() {
            ""
        } else if job.is_empty() {
            or_empty(&entry.job_name)
        } else {
            job
        };
        let texts = &mut self.texts;
        let (run, job, step, kind) = (texts.get(py, run), texts.get(py, job), texts.get(py, step), texts.get(py, kind));
        let message = told.unwrap_or_else(|| PyString::new(py, message).into_any().unbind());
        let (at, level) = (at_ns.into_pyobject(py)?, entry.level.into_pyobject(py)?);
        let record = record_ns.unwrap_or(at.as_any());
        make(
            &self.event,
            py,
            [
                raw.as_ptr(),
                name.as_ptr(),
                run.as_ptr(),
                at.as_ptr(),
                level.as_ptr(),
                job.as_ptr(),
                step.as_ptr(),
                message.as_ptr(),
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
