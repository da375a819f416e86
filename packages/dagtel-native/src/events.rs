//! `receivers.dagster_wire.decode`: bytes of a stored EventLogEntry to an `Event`.

use crate::details::{Details, Way, NULL};
use crate::entries::{read, Entries, Read};
use crate::slots::{make, Slots};
use crate::texts::Texts;
use crate::wire::{or_empty, Object};
use ahash::AHashMap;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyList, PyString, PyTuple, PyType};
use serde_json::value::RawValue;
use std::collections::HashMap;

const LOG: &str = "LOG";
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
        let Some(entry) = read(raw.as_bytes()) else { return Ok(None) };
        decoder.event(raw, &entry, source, offset, record_ns, headers)
    }

    /// The events of many records (`receivers.kafka_records.KafkaRecord`), None in place of what Python has to look at,
    /// their number, and the bytes of the others. None for records of another class. `entries`: what was read of these
    /// records before (`EntryReader`), or None.
    #[pyo3(signature = (records, source, entries=None))]
    fn decode_all<'py>(
        this: &Bound<'py, Self>,
        records: &Bound<'py, PyList>,
        source: &Bound<'py, PyAny>,
        entries: Option<&Bound<'py, Entries>>,
    ) -> PyResult<Option<(Bound<'py, PyList>, usize, usize)>> {
        let py = records.py();
        let Ok(mut decoder) = this.try_borrow_mut() else { return Ok(None) };
        let (events, mut odd, mut size) = (PyList::empty(py), 0, 0);
        for (place, record) in records.iter().enumerate() {
            let Some([offset, timestamp, value, headers]) = decoder.record.read(&record) else { return Ok(None) };
            let mut event = None;
            if let (Ok(raw), Ok(at_ms), true) = (value.cast::<PyBytes>(), timestamp.extract::<i64>(), whole(&headers)) {
                let at_ns =
                    at_ms.checked_mul(MILLISECOND).filter(|ns| *ns > 0).map(|ns| ns.into_pyobject(py)).transpose()?;
                if at_ns.is_some() || at_ms <= 0 {
                    let own;
                    let entry = match entries.and_then(|entries| entries.get().of(place, raw)) {
                        Some(entry) => entry.as_ref(),
                        None => {
                            own = read(raw.as_bytes());
                            own.as_ref()
                        }
                    };
                    if let Some(entry) = entry {
                        let at_ns = at_ns.as_ref().map(|ns| ns.as_any());
                        event = decoder.event(raw, entry, source, &offset, at_ns, &headers)?;
                    }
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
    /// `entry`: what was read in `raw`. `record_ns`: the time of the record that carried it, None if it has none.
    fn event(
        &mut self,
        raw: &Bound<'_, PyBytes>,
        entry: &Read<'_>,
        source: &Bound<'_, PyAny>,
        offset: &Bound<'_, PyAny>,
        record_ns: Option<&Bound<'_, PyAny>>,
        headers: &Bound<'_, PyAny>,
    ) -> PyResult<Option<Py<PyAny>>> {
        let py = raw.py();
        let Read { entry, at_ns } = entry;
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
        let (at, level) = ((*at_ns).into_pyobject(py)?, entry.level.into_pyobject(py)?);
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
