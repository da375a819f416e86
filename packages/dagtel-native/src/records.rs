//! `receivers.kafka_records`: the records of one of Kafka's batches, as the receiver wants them.
//!
//! Source: Kafka's record batches, version 2, https://kafka.apache.org/documentation/#recordbatch.

use crate::fetch::fetch_all;
use crate::record_bytes::{made, RecordBytes};
use crate::slots::make;
use pyo3::exceptions::PyIndexError;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyList, PyType};
use std::ops::Range;

const LENGTH: Range<usize> = 8..12; // of what follows it
const MAGIC: usize = 16;
const CRC: Range<usize> = 17..21; // of all that follows it
const ATTRIBUTES: Range<usize> = 21..23;
const FIRST_TIMESTAMP: Range<usize> = 27..35;
const COUNT: Range<usize> = 57..61;
const RECORDS: usize = 61;
const COMPRESSED: u16 = 7;
const APPEND_TIME: u16 = 8;
const SMALLEST: usize = 7; // bytes of a record
const MOST_HEADERS: i64 = 16;

/// Reads batches that lie in an answer's bytes. `kind`: the class of the records, `kind(offset, timestamp, key, value,
/// headers)`.
#[pyclass(frozen)]
pub struct RecordReader {
    kind: Py<PyType>,
}

/// Records as they lie in the bytes of an answer: a sequence, of which each is made when it is asked for.
#[pyclass(frozen)]
pub struct Records {
    kind: Py<PyType>,
    answer: Py<PyBytes>,
    found: Vec<Record>,
}

/// One of them. Places are those in the answer; None for null.
#[derive(Clone)]
pub struct Record {
    pub offset: i64,
    pub at_ms: i64,
    key: Option<Range<usize>>,
    value: Option<Range<usize>>,
    headers: Range<usize>,
    /// Each header has a value.
    pub is_whole: bool,
}

#[pymethods]
impl RecordReader {
    #[new]
    fn new(kind: Py<PyType>) -> Self {
        Self { kind }
    }

    /// Whether the checksum of the batch that begins at `start` is right; None for another version's.
    fn is_whole(&self, answer: &[u8], start: usize) -> Option<bool> {
        let batch = batch(answer, start)?;
        let said = u32::from_be_bytes(batch[CRC].try_into().ok()?);
        Some(crc32c::crc32c(&batch[CRC.end..]) == said)
    }

    /// Its records; None for one that is compressed, of another version, or has another time than its records.
    fn records(&self, py: Python<'_>, answer: Bound<'_, PyBytes>, start: usize) -> PyResult<Option<Records>> {
        let bytes = answer.as_bytes();
        let Some(batch) = batch(bytes, start) else { return Ok(None) };
        if u16::from_be_bytes([batch[ATTRIBUTES.start], batch[ATTRIBUTES.start + 1]]) & (COMPRESSED | APPEND_TIME) != 0
        {
            return Ok(None);
        }
        let (Some(first), Some(first_ms)) = (integer(batch, 0..8), integer(batch, FIRST_TIMESTAMP)) else {
            return Ok(None);
        };
        let Some(count) = batch.get(COUNT).and_then(|four| four.try_into().ok()).map(u32::from_be_bytes) else {
            return Ok(None);
        };
        let mut rest = &batch[RECORDS..];
        let mut found = Vec::with_capacity((count as usize).min(rest.len() / SMALLEST));
        for _ in 0..count {
            match record(bytes, &mut rest, first, first_ms) {
                Some(record) => found.push(record),
                None => return Ok(None),
            }
        }
        let kind = self.kind.clone_ref(py);
        Ok(rest.is_empty().then(|| Records { kind, answer: answer.unbind(), found }))
    }
}

#[pymethods]
impl Records {
    fn __len__(&self) -> usize {
        self.found.len()
    }

    fn __getitem__(&self, py: Python<'_>, at: isize) -> PyResult<Py<PyAny>> {
        let at = if at < 0 { at.saturating_add_unsigned(self.found.len()) } else { at };
        let record = usize::try_from(at).ok().and_then(|at| self.found.get(at));
        let record = record.ok_or_else(|| PyIndexError::new_err("no such record"))?;
        let (offset, at_ms) = (record.offset.into_pyobject(py)?, record.at_ms.into_pyobject(py)?);
        let bytes = |place: &Option<Range<usize>>| self.bytes(py, place).into_pyobject(py);
        let (key, value) = (bytes(&record.key)?, bytes(&record.value)?);
        let headers = made(py, &self.answer.as_bytes(py)[record.headers.clone()])?;
        let fields = [offset.as_ptr(), at_ms.as_ptr(), key.as_ptr(), value.as_ptr(), headers.as_ptr()];
        make(&self.kind, py, fields)
    }

    /// The offset of the first and of the last; None where there are none.
    fn ends(&self) -> Option<(i64, i64)> {
        self.found.first().zip(self.found.last()).map(|(first, last)| (first.offset, last.offset))
    }

    /// The records of all of them, in pieces of `most`; None where they do not lie in one answer.
    #[staticmethod]
    fn pieces<'py>(py: Python<'py>, all: Vec<Bound<'py, Self>>, most: usize) -> PyResult<Option<Bound<'py, PyList>>> {
        let Some(first) = all.first().map(|records| records.get()) else { return Ok(None) };
        if most == 0 || all.iter().any(|records| !records.get().answer.is(&first.answer)) {
            return Ok(None);
        }
        let pieces = PyList::empty(py);
        let mut records = all.iter().flat_map(|records| &records.get().found).peekable();
        while records.peek().is_some() {
            let found = records.by_ref().take(most).cloned().collect();
            pieces.append(Self { kind: first.kind.clone_ref(py), answer: first.answer.clone_ref(py), found })?;
        }
        Ok(Some(pieces))
    }
}

impl Records {
    /// Those there are, in order.
    pub fn all(&self) -> &[Record] {
        &self.found
    }

    /// Has the value of the record there fetched into the cache, if there is one: it is read next.
    pub fn fetch(&self, py: Python<'_>, at: usize) {
        if let Some(place) = self.found.get(at).and_then(|record| record.value.clone()) {
            fetch_all(&self.answer.as_bytes(py)[place]);
        }
    }

    /// The value of one of them, and what stands for it, and for its headers, as long as nobody asks.
    pub fn value<'a>(&'a self, py: Python<'a>, record: &Record) -> Option<(&'a [u8], RecordBytes)> {
        let place = record.value.clone()?;
        Some((
            &self.answer.as_bytes(py)[place.clone()],
            RecordBytes::of(self.answer.clone_ref(py), place, record.headers.clone()),
        ))
    }

    fn bytes<'py>(&self, py: Python<'py>, place: &Option<Range<usize>>) -> Option<Bound<'py, PyBytes>> {
        place.as_ref().map(|place| PyBytes::new(py, &self.answer.as_bytes(py)[place.clone()]))
    }
}

/// The record that begins there; None for one that is not as it has to be, or has many headers.
fn record(answer: &[u8], from: &mut &[u8], first: i64, first_ms: i64) -> Option<Record> {
    let parts = parts(from)?;
    let (at_ms, offset) = (first_ms.checked_add(parts.later_ms)?, first.checked_add(parts.further)?);
    let (mut rest, mut is_whole) = (parts.headers, true);
    if !(0..=MOST_HEADERS).contains(&parts.header_count) {
        return None;
    }
    for _ in 0..parts.header_count {
        is_whole &= header(&mut rest)?.1.is_some();
    }
    let place = |part: &[u8]| {
        let start = part.as_ptr().addr() - answer.as_ptr().addr();
        start..start + part.len()
    };
    let (key, value, headers) = (parts.key.map(place), parts.value.map(place), place(parts.headers));
    rest.is_empty().then_some(Record { offset, at_ms, key, value, headers, is_whole })
}

/// A record as it lies there.
struct Parts<'a> {
    later_ms: i64,
    further: i64,
    key: Option<&'a [u8]>,
    value: Option<&'a [u8]>,
    header_count: i64,
    headers: &'a [u8],
}

/// The batch of version 2 that begins there, all of it.
fn batch(answer: &[u8], start: usize) -> Option<&[u8]> {
    let length = u32::from_be_bytes(answer.get(start..)?.get(LENGTH)?.try_into().ok()?);
    let batch = answer[start..].get(..LENGTH.end + length as usize)?;
    (batch.len() >= RECORDS && batch[MAGIC] == 2).then_some(batch)
}

fn parts<'a>(from: &mut &'a [u8]) -> Option<Parts<'a>> {
    let length = usize::try_from(varint(from)?).ok()?;
    let (record, rest) = from.split_at_checked(length)?;
    *from = rest;
    let (&attributes, mut rest) = record.split_first()?; // of which none is in use
    if attributes >= 0x80 {
        return None; // aiokafka takes them for a varint
    }
    let (later_ms, further) = (varint(&mut rest)?, varint(&mut rest)?);
    let (key, value) = (bytes(&mut rest)?, bytes(&mut rest)?);
    let header_count = varint(&mut rest)?;
    Some(Parts { later_ms, further, key, value, header_count, headers: rest })
}

/// The header that begins there, its value None for null; None for none, and for a name that is no UTF-8.
#[inline]
pub fn header<'a>(from: &mut &'a [u8]) -> Option<(&'a str, Option<&'a [u8]>)> {
    let name = std::str::from_utf8(bytes(from)??).ok()?;
    Some((name, bytes(from)?))
}

fn integer(from: &[u8], at: Range<usize>) -> Option<i64> {
    Some(i64::from_be_bytes(from.get(at)?.try_into().ok()?))
}

/// Bytes behind their length; Some(None) for null.
fn bytes<'a>(from: &mut &'a [u8]) -> Option<Option<&'a [u8]>> {
    let length = varint(from)?;
    if length < 0 {
        return Some(None);
    }
    let (found, rest) = from.split_at_checked(usize::try_from(length).ok()?)?;
    *from = rest;
    Some(Some(found))
}

/// A signed integer of 64 bits at most, zigzag, as protobuf writes it.
fn varint(from: &mut &[u8]) -> Option<i64> {
    let mut found = 0_u64;
    for at in 0..10 {
        let (&byte, rest) = from.split_first()?;
        *from = rest;
        found |= u64::from(byte & 0x7f) << (7 * at);
        if byte < 0x80 {
            return Some((found >> 1) as i64 ^ -((found & 1) as i64));
        }
    }
    None
}
