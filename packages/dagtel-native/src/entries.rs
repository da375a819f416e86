//! Stored entries as far as they are read without Python: beside the loop, while it has other work.

use crate::nanos::nanos;
use crate::slots::Slots;
use crate::wire::{object, Entry};
use memchr::{memchr2_iter, memmem};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyList, PyType};

const ENTRIES: [&str; 4] = ["EventLogEntry", "DagsterEventRecord", "LogMessageRecord", "EventRecord"];
const DEEP: usize = 900;

/// An entry, and when it was.
pub struct Read<'a> {
    pub entry: Entry<'a>,
    pub at_ns: i64,
}

/// What the bytes hold; None for what `receivers.dagster_wire.decode` has to look at.
pub fn read(raw: &[u8]) -> Option<Read<'_>> {
    let text = std::str::from_utf8(raw).ok()?;
    if !is_unicode(raw) || is_deep(raw) {
        return None;
    }
    let entry = object::<Entry<'_>>(text).ok()?;
    let at_ns = nanos(entry.timestamp)?;
    (entry.level <= 100 && ENTRIES.contains(&&*entry.class.0)).then_some(Read { entry, at_ns })
}

/// What was read of some records' values, for `EventDecoder.decode_all`.
#[pyclass(frozen)]
pub struct Entries {
    read: Vec<Option<Read<'static>>>, // of bytes that `values` keeps; dropped before them
    values: Vec<Py<PyBytes>>,
}

impl Entries {
    /// What was read of the value in that place; None if it is another one.
    #[inline]
    pub fn of<'a>(&'a self, place: usize, value: &Bound<'_, PyBytes>) -> Option<&'a Option<Read<'a>>> {
        self.values.get(place)?.is(value).then(|| &self.read[place])
    }
}

/// Reads the values of records (`receivers.kafka_records.KafkaRecord`), `record` their class.
#[pyclass(frozen)]
pub struct EntryReader {
    value: Slots<1>,
}

#[pymethods]
impl EntryReader {
    #[new]
    fn new(record: &Bound<'_, PyType>) -> PyResult<Self> {
        Ok(Self { value: Slots::new(record, ["value"])? })
    }

    /// What is read of their values, on any thread and without the interpreter's lock. None where one has no value, or
    /// is of another class.
    fn read(&self, py: Python<'_>, records: &Bound<'_, PyList>) -> Option<Entries> {
        let mut values = Vec::with_capacity(records.len());
        let mut texts = Vec::with_capacity(records.len());
        for record in records {
            let [value] = self.value.read(&record)?;
            let value = value.cast_into_exact::<PyBytes>().ok()?;
            // SAFETY: bytes never change nor move, and `values` keeps them for as long as what is read of them.
            texts.push(unsafe { std::mem::transmute::<&[u8], &'static [u8]>(value.as_bytes()) });
            values.push(value.unbind());
        }
        let read = py.detach(move || texts.into_iter().map(read).collect());
        Some(Entries { read, values })
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
