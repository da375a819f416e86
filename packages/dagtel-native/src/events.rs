//! `receivers.dagster_wire.decode`: bytes of a stored EventLogEntry to an `Event`.

use crate::plain;
use crate::slots::{make, Slots};
use crate::texts::Texts;
use crate::wire::{
    object, or_empty, AssetEvent, Check, CheckPlanned, Engine, Entry, Labelled, Materialization, Object, Pairs,
    Planned, Success, Text,
};
use ahash::AHashMap;
use memchr::memmem;
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyBytes, PyDict, PyFloat, PyList, PyString, PyTuple, PyType};
use serde_json::from_str;
use serde_json::value::RawValue;
use std::collections::HashMap;

const ENTRIES: [&str; 4] = ["EventLogEntry", "DagsterEventRecord", "LogMessageRecord", "EventRecord"];
const LOG: &str = "LOG";
const NULL: &str = "null";
const MILLISECOND: i64 = 1_000_000;

/// How the part of an event that is its type's own is read.
#[derive(Clone, Copy, PartialEq)]
enum Way {
    Nothing,
    Planned,
    CheckPlanned,
    Succeeded,
    Marker,
    Materialized,
    Check,
    Python,
}

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
/// other class, as JSON → the plain one.
#[pyclass]
pub struct EventDecoder {
    record: Slots<4>,
    event: Py<PyType>,
    planned: Py<PyType>,
    check_planned: Py<PyType>,
    succeeded: Py<PyType>,
    marker: Py<PyType>,
    materialized: Py<PyType>,
    check: Py<PyType>,
    known: AHashMap<String, Known>,
    payloads: AHashMap<String, String>,
    read: Py<PyAny>,
    log: Py<PyAny>,
    value: Py<PyAny>,
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
        mark: String,
    ) -> PyResult<Self> {
        let kind = |name: &str| -> PyResult<Py<PyType>> { Ok(kinds.getattr(name)?.cast_into::<PyType>()?.unbind()) };
        let mut types = AHashMap::new();
        for (wire, (name, of_step, way, reader)) in known {
            let way = way_of(&way, reader.is_none(py))?;
            types.insert(wire, Known { name, of_step, way, reader });
        }
        Ok(Self {
            record: Slots::new(record, ["offset", "timestamp", "value", "headers"])?,
            event: kind("Event")?,
            planned: kind("MaterializationPlanned")?,
            check_planned: kind("CheckPlanned")?,
            succeeded: kind("StepSucceeded")?,
            marker: kind("Marker")?,
            materialized: kind("Materialized")?,
            check: kind("CheckResult")?,
            known: types,
            payloads: payloads.into_iter().collect(),
            read,
            log,
            value,
            mark,
            texts: Texts::default(),
            log_name: PyString::intern(py, LOG).unbind(),
        })
    }

    /// The event, or None for `receivers.dagster_wire.decode` to look at. Never raises for what the bytes hold.
    fn decode(
        &mut self,
        raw: &Bound<'_, PyBytes>,
        source: &Bound<'_, PyAny>,
        offset: &Bound<'_, PyAny>,
        record_ns: &Bound<'_, PyAny>,
        headers: &Bound<'_, PyAny>,
    ) -> PyResult<Option<Py<PyAny>>> {
        let record_ns = record_ns.is_truthy()?.then_some(record_ns);
        self.event(raw, source, offset, record_ns, headers)
    }

    /// The events of many records (`receivers.kafka_records.KafkaRecord`), None in place of what Python has to look at,
    /// their number, and the bytes of the others. None for records of another class.
    fn decode_all<'py>(
        &mut self,
        records: &Bound<'py, PyList>,
        source: &Bound<'py, PyAny>,
    ) -> PyResult<Option<(Bound<'py, PyList>, usize, usize)>> {
        let py = records.py();
        let (events, mut odd, mut size) = (PyList::empty(py), 0, 0);
        for record in records {
            let Some([offset, timestamp, value, headers]) = self.record.read(&record) else { return Ok(None) };
            let mut event = None;
            if let (Ok(raw), Ok(at_ms), true) = (value.cast::<PyBytes>(), timestamp.extract::<i64>(), whole(&headers)) {
                let at_ns =
                    at_ms.checked_mul(MILLISECOND).filter(|ns| *ns > 0).map(|ns| ns.into_pyobject(py)).transpose()?;
                if at_ns.is_some() || at_ms <= 0 {
                    event = self.event(raw, source, &offset, at_ns.as_ref().map(|ns| ns.as_any()), &headers)?;
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
        if !is_unicode(text.as_bytes()) {
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
                detail = match self.detail(py, way, data)? {
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

    /// What the type's own part says; None where it is not as plain as it mostly is.
    fn detail(&mut self, py: Python<'_>, way: Way, data: &str) -> PyResult<Option<Py<PyAny>>> {
        match way {
            Way::Nothing | Way::Python => Ok(None),
            Way::Planned => {
                let Ok(found) = object::<Planned<'_>>(data) else { return Ok(None) };
                let asset = self.texts.get(py, &found.asset_key.0.joined());
                let partition = self.optional(py, &found.partition);
                make(&self.planned, py, [asset.as_ptr(), partition.as_ptr()]).map(Some)
            }
            Way::CheckPlanned => {
                let Ok(found) = object::<CheckPlanned<'_>>(data) else { return Ok(None) };
                let asset = self.texts.get(py, &found.asset_key.0.joined());
                let check = self.texts.get(py, &found.check_name.0);
                make(&self.check_planned, py, [asset.as_ptr(), check.as_ptr()]).map(Some)
            }
            Way::Succeeded => {
                let Ok(found) = object::<Success>(data) else { return Ok(None) };
                let took = PyFloat::new(py, found.duration_ms);
                make(&self.succeeded, py, [took.as_ptr()]).map(Some)
            }
            Way::Marker => {
                let Ok(found) = object::<Engine<'_>>(data) else { return Ok(None) };
                if found.error.is_some_and(|error| error.get() != NULL) {
                    return Ok(None);
                }
                let start = self.texts.get(py, or_empty(&found.marker_start));
                let end = self.texts.get(py, or_empty(&found.marker_end));
                make(&self.marker, py, [start.as_ptr(), end.as_ptr(), py.None().as_ptr()]).map(Some)
            }
            Way::Materialized => {
                let Ok(found) = object::<Materialization<'_>>(data) else { return Ok(None) };
                self.made(py, &found.materialization.0)
            }
            Way::Check => {
                let Ok(found) = object::<Check<'_>>(data) else { return Ok(None) };
                self.checked(py, &found)
            }
        }
    }

    fn made(&mut self, py: Python<'_>, found: &AssetEvent<'_>) -> PyResult<Option<Py<PyAny>>> {
        let Some(metadata) = self.metadata(py, given(found.metadata_entries).or(found.metadata))? else {
            return Ok(None);
        };
        let tags = PyDict::new(py);
        for (name, value) in found.tags.iter().flat_map(|tags| &tags.0) {
            tags.set_item(self.texts.get(py, &name.0), self.texts.get(py, &value.0))?;
        }
        let asset = self.texts.get(py, &found.asset_key.0.joined());
        let partition = self.optional(py, &found.partition);
        let description = self.optional(py, &found.description);
        let fields = [asset.as_ptr(), partition.as_ptr(), metadata.as_ptr(), tags.as_ptr(), description.as_ptr()];
        make(&self.materialized, py, fields).map(Some)
    }

    fn checked(&mut self, py: Python<'_>, found: &Check<'_>) -> PyResult<Option<Py<PyAny>>> {
        let Some(passed) = found.success.or(found.passed) else { return Ok(None) };
        let severity = found.severity.0.name.0.rsplit('.').next().unwrap_or_default();
        if severity.is_empty() {
            return Ok(None);
        }
        let Some(metadata) = self.metadata(py, given(found.metadata).or(found.metadata_entries))? else {
            return Ok(None);
        };
        let asset = self.texts.get(py, &found.asset_key.0.joined());
        let check = self.texts.get(py, &found.check_name.0);
        let severity = self.texts.get(py, severity);
        let partition = self.optional(py, &found.partition);
        let description = self.optional(py, &found.description);
        let fields = [
            asset.as_ptr(),
            check.as_ptr(),
            PyBool::new(py, passed).as_ptr(),
            severity.as_ptr(),
            PyBool::new(py, found.blocking.unwrap_or(false)).as_ptr(),
            partition.as_ptr(),
            description.as_ptr(),
            metadata.as_ptr(),
        ];
        make(&self.check, py, fields).map(Some)
    }

    /// Metadata as `receivers.wire_metadata.metadata` gives it; None where it is not as Dagster writes it.
    fn metadata<'py>(&mut self, py: Python<'py>, raw: Option<&RawValue>) -> PyResult<Option<Bound<'py, PyDict>>> {
        let found = PyDict::new(py);
        let text = raw.map_or(NULL, RawValue::get);
        if text.len() <= NULL.len() {
            return Ok(Some(found));
        }
        if text.starts_with('[') {
            let Ok(entries) = from_str::<Vec<Object<Labelled<'_>>>>(text) else { return Ok(None) };
            for entry in &entries {
                let value = self.value(py, entry.0.entry_data.get())?;
                found.set_item(self.texts.get(py, &entry.0.label.0), value)?;
            }
        } else {
            let Ok(values) = from_str::<Pairs<Text<'_>, &RawValue>>(text) else { return Ok(None) };
            for (label, data) in &values.0 {
                if label.0 != "__class__" {
                    found.set_item(self.texts.get(py, &label.0), self.value(py, data.get())?)?;
                }
            }
        }
        Ok(Some(found))
    }

    fn value(&mut self, py: Python<'_>, json: &str) -> PyResult<Py<PyAny>> {
        match plain::value(py, &mut self.texts, &self.payloads, json) {
            Some(value) => Ok(value.unbind()),
            None => self.value.call1(py, (PyBytes::new(py, json.as_bytes()),)),
        }
    }

    fn optional(&mut self, py: Python<'_>, text: &Option<Text<'_>>) -> Py<PyAny> {
        text.as_ref().map_or_else(|| py.None(), |text| self.texts.get(py, &text.0).into_any())
    }
}

/// What is there and not null.
fn given(raw: Option<&RawValue>) -> Option<&RawValue> {
    raw.filter(|raw| raw.get() != NULL)
}

fn way_of(name: &str, nobody: bool) -> PyResult<Way> {
    Ok(match name {
        "" if nobody => Way::Nothing,
        "" => Way::Python,
        "planned" => Way::Planned,
        "check_planned" => Way::CheckPlanned,
        "step_succeeded" => Way::Succeeded,
        "marker" => Way::Marker,
        "materialized" => Way::Materialized,
        "check_result" => Way::Check,
        other => return Err(PyValueError::new_err(format!("no such way: {other}"))),
    })
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

/// Unix seconds as nanoseconds, for the years 2004 to 2038: `receivers.wire_repair.nanos`, which says why.
fn nanos(seconds: f64) -> Option<i64> {
    if !(1_073_741_824.0..2_147_483_648.0).contains(&seconds) {
        return None;
    }
    let whole = seconds.trunc();
    let mut tenths = ((seconds - whole) * 1e7).round_ties_even() as i64;
    if matches!(tenths % 10, 1 | 9) {
        let micros = (tenths + 5) / 10;
        if whole + micros as f64 / 1e6 == seconds {
            tenths = micros * 10;
        }
    }
    Some(whole as i64 * 1_000_000_000 + tenths * 100)
}
