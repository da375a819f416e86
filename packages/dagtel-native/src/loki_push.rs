//! `exporters.loki.Loki.build`: log records as bodies of Loki's push API.

use crate::json;
use crate::log_lines::{text, Fields, Lines, AT, FIELDS};
use ahash::AHashMap;
use pyo3::exceptions::{PyException, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyInt, PyType};
use std::io::Write;
use std::ops::Range;

const HOUR: i64 = 3_600_000_000_000; // ns
const ENTRY_ROOM: usize = 64; // exporters.loki._ENTRY_ROOM
const BEGIN: &[u8] = b"{\"streams\":[";
const STREAM: &[u8] = b"{\"stream\":";
const VALUES: &[u8] = b",\"values\":[";
const END: &[u8] = b"]}"; // of a stream, and of all of them
const USUAL: usize = 512; // bytes of an entry
const NONE: usize = usize::MAX;

/// Builds pushes. `record` is the class of the records, `labels` and `metadata` are the fields that become labels and
/// structured metadata; `max_line` and `max_body` are bytes.
#[pyclass(frozen)]
pub struct LokiPush {
    lines: Lines<true>,
    labels: Vec<usize>,
    metadata: Vec<usize>,
    max_line: usize,
    max_body: usize,
}

/// An entry as it goes out, and the line in it, as places in the text of all.
struct Entry {
    at_ns: i64,
    stream: usize,
    all: Range<usize>,
    line: Range<usize>,
}

/// What is written: entries, and the beginning of each stream.
#[derive(Default)]
struct Written {
    text: Vec<u8>,
    entries: Vec<Entry>,
    streams: Vec<Vec<u8>>,
    known: AHashMap<Vec<u8>, usize>,
}

#[pymethods]
impl LokiPush {
    #[new]
    fn new(
        record: &Bound<'_, PyType>,
        labels: Vec<String>,
        metadata: Vec<String>,
        max_line: &Bound<'_, PyAny>,
        max_body: &Bound<'_, PyAny>,
    ) -> PyResult<Self> {
        Ok(Self {
            lines: Lines::new(record)?,
            labels: places(&labels)?,
            metadata: places(&metadata)?,
            max_line: max_line.extract().unwrap_or(usize::MAX),
            max_body: max_body.extract().unwrap_or(usize::MAX),
        })
    }

    /// Bodies and how many records each has, or None for `exporters.loki.Loki.build` to do it all.
    ///
    /// `line`: the line of a record that is rare or too long. `head`: a record and whether it is late → the labels of
    /// its stream, as JSON; once a stream.
    fn build<'py>(
        &self,
        records: &Bound<'py, PyAny>,
        late_ns: &Bound<'py, PyAny>,
        line: &Bound<'py, PyAny>,
        head: &Bound<'py, PyAny>,
    ) -> PyResult<Option<Vec<(Bound<'py, PyBytes>, usize)>>> {
        let Ok(late_ns) = late_ns.extract::<i64>() else { return Ok(None) };
        let count = records.len().unwrap_or_default();
        let mut written = Written::default();
        written.text.reserve(count * USUAL);
        written.entries.reserve(count);
        let mut key = Vec::new();
        for record in records.try_iter()? {
            let record = record?;
            let Some(fields) = self.lines.read(&record) else { return Ok(None) };
            let Some(at_ns) = integer(&fields[AT]) else { return Ok(None) };
            let late = at_ns < late_ns;
            if !self.key(&mut key, &fields, late.then(|| at_ns.div_euclid(HOUR))) {
                return Ok(None);
            }
            let stream = match written.known.get(&key) {
                Some(&stream) => stream,
                None => {
                    let labels = head.call1((&record, late));
                    let Some(labels) = unless_refused(record.py(), labels)? else { return Ok(None) };
                    let Ok(labels) = labels.cast::<PyBytes>() else { return Ok(None) };
                    written.stream(&key, labels.as_bytes())
                }
            };
            if !self.entry(&mut written, at_ns, stream, &record, &fields, line)? {
                return Ok(None);
            }
        }
        if !written.entries.is_sorted_by_key(|entry| entry.at_ns) {
            written.entries.sort_by_key(|entry| entry.at_ns);
        }
        let mut bodies = Vec::new();
        if !written.entries.is_empty() {
            let mut groups = vec![NONE; written.streams.len()];
            self.split(records.py(), &written, &written.entries, &mut groups, &mut bodies)?;
        }
        Ok(Some(bodies))
    }
}

impl LokiPush {
    /// What tells streams apart; false for a label that is no text.
    #[inline]
    fn key(&self, key: &mut Vec<u8>, fields: &Fields<'_>, hour: Option<i64>) -> bool {
        key.clear();
        for &place in &self.labels {
            let Some(label) = text(&fields[place]) else { return false };
            key.extend_from_slice(&label.len().to_ne_bytes());
            key.extend_from_slice(label.as_bytes());
        }
        if let Some(hour) = hour {
            key.extend_from_slice(&hour.to_ne_bytes());
        }
        true
    }

    /// Writes `["<time>","<line>"]`, with the metadata where there is some; false for metadata that is no text.
    #[inline]
    fn entry(
        &self,
        written: &mut Written,
        at_ns: i64,
        stream: usize,
        record: &Bound<'_, PyAny>,
        fields: &Fields<'_>,
        python: &Bound<'_, PyAny>,
    ) -> PyResult<bool> {
        let out = &mut written.text;
        let begin = out.len();
        out.extend_from_slice(b"[\"");
        json::integer(out, at_ns.max(0));
        out.extend_from_slice(b"\",\"");
        let start = out.len();
        if !self.lines.write(out, fields) || self.too_long(&out[start..]) {
            out.truncate(start);
            let Some(said) = unless_refused(record.py(), python.call1((record,)))? else { return Ok(false) };
            let Some(said) = text(&said) else { return Ok(false) };
            json::escaped(out, said.as_bytes());
        }
        let line = start..out.len();
        out.push(b'"');
        if !self.metadata.is_empty() && !self.metadata(out, fields) {
            return Ok(false);
        }
        out.push(b']');
        written.entries.push(Entry { at_ns, stream, all: begin..out.len(), line });
        Ok(true)
    }

    fn metadata(&self, out: &mut Vec<u8>, fields: &Fields<'_>) -> bool {
        out.extend_from_slice(b",{");
        let mut first = true;
        for &place in &self.metadata {
            if fields[place].is_none() {
                continue;
            }
            let Some(value) = text(&fields[place]) else { return false };
            if !value.is_empty() {
                if !first {
                    out.push(b',');
                }
                first = false;
                json::string(out, FIELDS[place].as_bytes());
                out.push(b':');
                json::string(out, value.as_bytes());
            }
        }
        out.push(b'}');
        true
    }

    fn too_long(&self, line: &[u8]) -> bool {
        line.len() > self.max_line && unescaped(line).0 > self.max_line
    }

    /// Bodies of at most `max_body` bytes, halved as Python halves them.
    fn split<'py>(
        &self,
        py: Python<'py>,
        written: &Written,
        entries: &[Entry],
        groups: &mut [usize],
        bodies: &mut Vec<(Bound<'py, PyBytes>, usize)>,
    ) -> PyResult<()> {
        let count = entries.len();
        if count == 1 || self.may_fit(written, entries) {
            let most = if count == 1 { usize::MAX } else { self.max_body };
            if let Some(body) = written.body(py, entries, groups, most)? {
                bodies.push((body, count));
                return Ok(());
            }
        }
        let (first, rest) = entries.split_at(count / 2);
        self.split(py, written, first, groups, bodies)?;
        self.split(py, written, rest, groups, bodies)
    }

    /// Whether the lines' characters leave room for what stands around them.
    fn may_fit(&self, written: &Written, entries: &[Entry]) -> bool {
        let Some(room) = self.max_body.checked_sub(ENTRY_ROOM * entries.len()) else { return false };
        let most: usize = entries.iter().map(|entry| entry.line.len()).sum();
        most <= room
            || entries.iter().map(|entry| unescaped(&written.text[entry.line.clone()]).1).sum::<usize>() <= room
    }
}

impl Written {
    fn stream(&mut self, key: &[u8], labels: &[u8]) -> usize {
        self.known.insert(key.to_vec(), self.streams.len());
        self.streams.push([STREAM, labels, VALUES].concat());
        self.streams.len() - 1
    }

    /// The push of these entries, by streams in order of their first; None where it is above `most` bytes.
    ///
    /// `groups` has a `NONE` for each stream, and has it again thereafter.
    fn body<'py>(
        &self,
        py: Python<'py>,
        entries: &[Entry],
        groups: &mut [usize],
        most: usize,
    ) -> PyResult<Option<Bound<'py, PyBytes>>> {
        let mut grouped: Vec<(usize, Vec<&Entry>)> = Vec::new();
        let mut size = BEGIN.len() + END.len() - 1; // a comma less than streams
        for entry in entries {
            if groups[entry.stream] == NONE {
                groups[entry.stream] = grouped.len();
                grouped.push((entry.stream, Vec::new()));
                size += self.streams[entry.stream].len() + END.len(); // and one less than entries, one for the stream
            }
            grouped[groups[entry.stream]].1.push(entry);
            size += entry.all.len() + 1;
        }
        for (stream, _) in &grouped {
            groups[*stream] = NONE;
        }
        if size > most {
            return Ok(None);
        }
        let write = |mut out: &mut [u8]| -> PyResult<()> {
            let mut before: &[u8] = BEGIN;
            for (stream, entries) in &grouped {
                out.write_all(before)?;
                out.write_all(&self.streams[*stream])?;
                for (at, entry) in entries.iter().enumerate() {
                    out.write_all(if at == 0 { b"" } else { b"," })?;
                    out.write_all(&self.text[entry.all.clone()])?;
                }
                out.write_all(END)?;
                before = b",";
            }
            Ok(out.write_all(END)?)
        };
        PyBytes::new_with(py, size, write).map(Some)
    }
}

/// Bytes and characters of a text that stands here escaped, and has no control characters.
fn unescaped(text: &[u8]) -> (usize, usize) {
    // `\\` or `\"` are one: half as many as there are backslashes and quotes
    let marks = text.iter().filter(|&&byte| byte == b'\\' || byte == b'"').count();
    let bytes = text.len() - marks / 2;
    (bytes, bytes - text.iter().filter(|&&byte| byte & 0xc0 == 0x80).count())
}

/// What Python said. None where it raised: it may think otherwise of the batch than of the record alone.
fn unless_refused<T>(py: Python<'_>, said: PyResult<T>) -> PyResult<Option<T>> {
    match said {
        Err(error) if error.is_instance_of::<PyException>(py) => Ok(None),
        other => other.map(Some),
    }
}

fn integer(value: &Bound<'_, PyAny>) -> Option<i64> {
    value.cast_exact::<PyInt>().ok()?.extract().ok()
}

/// Of each name its place among the fields, once.
fn places(names: &[String]) -> PyResult<Vec<usize>> {
    let mut found = Vec::new();
    for name in names {
        let place = FIELDS.iter().position(|field| field == name);
        let place = place.ok_or_else(|| PyValueError::new_err(format!("no field of a log record: {name}")))?;
        if !found.contains(&place) {
            found.push(place);
        }
    }
    Ok(found)
}
