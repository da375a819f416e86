//! `exporters.log_lines.json_lines`: a log record as a line of JSON.

use crate::json;
use crate::slots::Slots;
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyDict, PyFloat, PyInt, PyList, PyString, PyTuple, PyType};

/// The fields of `pipeline.signals.LogRecord`, in its order.
pub const FIELDS: [&str; 22] = [
    "at_ns",
    "level",
    "event",
    "message",
    "event_id",
    "run_id",
    "job_name",
    "step_key",
    "asset_name",
    "partition",
    "status",
    "duration_ms",
    "slow",
    "error_type",
    "error_message",
    "error_stack",
    "trace_id",
    "span_id",
    "dagster_level",
    "derived",
    "code_location",
    "extra",
];
/// The place of the time.
pub const AT: usize = 0;
const LINE: std::ops::Range<usize> = 1..20; // what belongs to a line
const CODE_LOCATION: usize = 20;
const EXTRA: usize = 21;
const NAME: usize = 32;
const TIME: &str = "time"; // no field of the record, but of the file's lines
const DEEPEST: usize = 16;

pub type Fields<'py> = [Bound<'py, PyAny>; 22];

/// Writes lines; `TWICE`: as they stand between quotes in other JSON.
pub struct Lines<const TWICE: bool> {
    slots: Slots<22>,
    defaults: Vec<Option<Py<PyAny>>>,
    names: Vec<Name>,
}

/// What stands before a field's text: `,"name":"`. Of one length, so that it is copied without a call.
struct Name {
    bytes: [u8; NAME],
    length: usize,
}

impl<const TWICE: bool> Lines<TWICE> {
    /// Of records of this class. ValueError for one that has other fields than are known here.
    pub fn new(kind: &Bound<'_, PyType>) -> PyResult<Self> {
        let fields: Vec<String> = kind.getattr("__struct_fields__")?.extract()?;
        if fields != FIELDS {
            return Err(PyValueError::new_err(format!("not the fields of a log record: {fields:?}")));
        }
        let given: Vec<Py<PyAny>> = kind.getattr("__struct_defaults__")?.extract()?;
        let mut defaults: Vec<_> = (given.len()..FIELDS.len()).map(|_| None).collect();
        defaults.extend(given.into_iter().map(Some));
        if defaults[LINE.start].is_some() {
            return Err(PyValueError::new_err("a log record's first field may be left out"));
        }
        let names = FIELDS.iter().enumerate().map(|(place, name)| Name::new::<TWICE>(place == LINE.start, name));
        Ok(Self { slots: Slots::new(kind, FIELDS)?, defaults, names: names.collect() })
    }

    /// What stands in the record; None for anything but a record.
    #[inline]
    pub fn read<'py>(&self, record: &Bound<'py, PyAny>) -> Option<Fields<'py>> {
        self.slots.read(record)
    }

    /// Its line. Or false, with something of it written: Python knows what it is.
    #[inline]
    pub fn write(&self, out: &mut Vec<u8>, fields: &Fields<'_>) -> bool {
        let Ok(extra) = fields[EXTRA].cast_exact::<PyDict>() else { return false };
        // Python cuts it off the line, and only where it is a text
        if !self.is_default(CODE_LOCATION, &fields[CODE_LOCATION])
            && text(&fields[CODE_LOCATION]).is_none_or(str::is_empty)
        {
            return false;
        }
        for place in LINE {
            let field = &fields[place];
            if self.is_default(place, field) {
                continue;
            }
            let name = &self.names[place];
            out.extend_from_slice(&name.bytes);
            out.truncate(out.len() - NAME + name.length);
            if let Ok(found) = field.cast_exact::<PyString>() {
                let Ok(text) = found.to_str() else { return false };
                escaped::<TWICE>(out, text);
                out.extend_from_slice(quote::<TWICE>());
            } else {
                out.truncate(out.len() - quote::<TWICE>().len());
                if !other::<TWICE>(out, field, DEEPEST) {
                    return false;
                }
            }
        }
        if !extra.is_empty() {
            for (key, inner) in extra.iter() {
                let Some(name) = text(&key) else { return false };
                if name == TIME || FIELDS.contains(&name) {
                    if !value::<TWICE>(&mut Vec::new(), &inner, DEEPEST) {
                        return false;
                    }
                    continue;
                }
                out.push(b',');
                quoted::<TWICE>(out, name);
                out.push(b':');
                if !value::<TWICE>(out, &inner, DEEPEST) {
                    return false;
                }
            }
        }
        out.push(b'}');
        true
    }

    /// msgspec leaves out what is the default itself, not what equals it.
    #[inline]
    fn is_default(&self, place: usize, field: &Bound<'_, PyAny>) -> bool {
        self.defaults[place].as_ref().is_some_and(|default| default.as_ptr() == field.as_ptr())
    }
}

/// A text that is nothing but that, and Unicode.
#[inline]
pub fn text<'a>(value: &'a Bound<'_, PyAny>) -> Option<&'a str> {
    value.cast_exact::<PyString>().ok()?.to_str().ok()
}

impl Name {
    fn new<const TWICE: bool>(first: bool, name: &str) -> Self {
        let mut out = vec![if first { b'{' } else { b',' }];
        quoted::<TWICE>(&mut out, name);
        out.push(b':');
        out.extend_from_slice(quote::<TWICE>());
        let mut bytes = [0; NAME];
        bytes[..out.len()].copy_from_slice(&out);
        Self { bytes, length: out.len() }
    }
}

#[inline]
fn quoted<const TWICE: bool>(out: &mut Vec<u8>, text: &str) {
    out.extend_from_slice(quote::<TWICE>());
    escaped::<TWICE>(out, text);
    out.extend_from_slice(quote::<TWICE>());
}

#[inline]
fn quote<const TWICE: bool>() -> &'static [u8] {
    if TWICE {
        b"\\\""
    } else {
        b"\""
    }
}

#[inline]
fn escaped<const TWICE: bool>(out: &mut Vec<u8>, text: &str) {
    if TWICE {
        json::escaped_twice(out, text.as_bytes());
    } else {
        json::escaped(out, text.as_bytes());
    }
}

/// The value, `depth` levels of lists and dicts at most; false where it is of another type, or too large.
#[inline]
fn value<const TWICE: bool>(out: &mut Vec<u8>, value: &Bound<'_, PyAny>, depth: usize) -> bool {
    if let Ok(found) = value.cast_exact::<PyString>() {
        let Ok(text) = found.to_str() else { return false };
        quoted::<TWICE>(out, text);
        return true;
    }
    other::<TWICE>(out, value, depth)
}

fn other<const TWICE: bool>(out: &mut Vec<u8>, value: &Bound<'_, PyAny>, depth: usize) -> bool {
    if value.is_none() {
        out.extend_from_slice(b"null");
        true
    } else if let Ok(found) = value.cast_exact::<PyBool>() {
        out.extend_from_slice(if found.is_true() { b"true" } else { b"false" });
        true
    } else if value.is_exact_instance_of::<PyInt>() {
        let Ok(number) = value.extract() else { return false };
        json::integer(out, number);
        true
    } else if let Ok(found) = value.cast_exact::<PyFloat>() {
        json::float(out, found.value());
        true
    } else if depth == 0 {
        false
    } else if let Ok(found) = value.cast_exact::<PyDict>() {
        object::<TWICE>(out, found, depth - 1)
    } else if let Ok(found) = value.cast_exact::<PyList>() {
        array::<TWICE>(out, found.iter(), depth - 1)
    } else if let Ok(found) = value.cast_exact::<PyTuple>() {
        array::<TWICE>(out, found.iter(), depth - 1)
    } else {
        false
    }
}

fn object<const TWICE: bool>(out: &mut Vec<u8>, pairs: &Bound<'_, PyDict>, depth: usize) -> bool {
    out.push(b'{');
    for (at, (key, inner)) in pairs.iter().enumerate() {
        if at > 0 {
            out.push(b',');
        }
        let Some(name) = text(&key) else { return false };
        quoted::<TWICE>(out, name);
        out.push(b':');
        if !value::<TWICE>(out, &inner, depth) {
            return false;
        }
    }
    out.push(b'}');
    true
}

fn array<'py, const TWICE: bool>(
    out: &mut Vec<u8>,
    items: impl Iterator<Item = Bound<'py, PyAny>>,
    depth: usize,
) -> bool {
    out.push(b'[');
    for (at, item) in items.enumerate() {
        if at > 0 {
            out.push(b',');
        }
        if !value::<TWICE>(out, &item, depth) {
            return false;
        }
    }
    out.push(b']');
    true
}
