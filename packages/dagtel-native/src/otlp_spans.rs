//! `exporters.otlp_json.trace_request`: spans to an ExportTraceServiceRequest as JSON.

use crate::json;
use crate::slots::Slots;
use ahash::AHashMap;
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyBytes, PyDict, PyFloat, PyInt, PyList, PyString, PyTuple, PyType};

/// Writes requests as `exporters.otlp_json.trace_request` does, byte for byte.
///
/// `kinds`: the module `pipeline.signals`. `scope`: the name of the instrumentation scope.
#[pyclass(frozen)]
pub struct OtlpSpans {
    span: Slots<13>,
    event: Slots<3>,
    link: Slots<3>,
    /// What stands between a resource and its spans.
    scope: Vec<u8>,
}

#[pymethods]
impl OtlpSpans {
    #[new]
    fn new(kinds: &Bound<'_, PyModule>, scope: &str) -> PyResult<Self> {
        let kind = |name: &str| -> PyResult<Bound<'_, PyType>> { Ok(kinds.getattr(name)?.cast_into::<PyType>()?) };
        let fields = [
            "trace_id",
            "span_id",
            "parent_id",
            "name",
            "start_ns",
            "end_ns",
            "attributes",
            "resource",
            "kind",
            "events",
            "links",
            "error",
            "ok",
        ];
        let mut between = b"]},\"scopeSpans\":[{\"scope\":{\"name\":".to_vec();
        json::string(&mut between, scope.as_bytes());
        between.extend_from_slice(b"},\"spans\":[");
        Ok(Self {
            span: Slots::new(&kind("Span")?, fields)?,
            event: Slots::new(&kind("SpanEvent")?, ["name", "at_ns", "attributes"])?,
            link: Slots::new(&kind("SpanLink")?, ["trace_id", "span_id", "attributes"])?,
            scope: between,
        })
    }

    /// The request, or None where any of it is not as plain as it mostly is.
    fn request<'py>(&self, spans: &Bound<'py, PyAny>) -> Option<Bound<'py, PyBytes>> {
        let mut groups = Groups::default();
        for span in spans.cast_exact::<PyList>().ok()? {
            self.span(&span, &mut groups)?;
        }
        Some(PyBytes::new(spans.py(), &groups.joined()?))
    }
}

impl OtlpSpans {
    fn span(&self, span: &Bound<'_, PyAny>, groups: &mut Groups) -> Option<()> {
        let [trace, id, parent, name, start, end, attributes, resource, kind, events, links, error, ok] =
            self.span.read(span)?;
        let out = groups.of(&resource, &self.scope)?;
        put(out, b"{\"traceId\":", &trace)?;
        put(out, b",\"spanId\":", &id)?;
        put(out, b",\"name\":", &name)?;
        out.extend_from_slice(b",\"kind\":");
        json::integer(out, int(&kind)?);
        put_time(out, b",\"startTimeUnixNano\":\"", &start)?;
        put_time(out, b",\"endTimeUnixNano\":\"", &end)?;
        put_attributes(out, &attributes)?;
        if !text(&parent)?.is_empty() {
            put(out, b",\"parentSpanId\":", &parent)?;
        }
        put_list(out, b",\"events\":[", &events, |out, event| {
            let [name, at, attributes] = self.event.read(event)?;
            put_time(out, b"{\"timeUnixNano\":\"", &at)?;
            put(out, b",\"name\":", &name)?;
            put_attributes(out, &attributes)?;
            out.push(b'}');
            Some(())
        })?;
        put_list(out, b",\"links\":[", &links, |out, link| {
            let [trace, id, attributes] = self.link.read(link)?;
            put(out, b"{\"traceId\":", &trace)?;
            put(out, b",\"spanId\":", &id)?;
            put_attributes(out, &attributes)?;
            out.push(b'}');
            Some(())
        })?;
        let ok = ok.cast_exact::<PyBool>().ok()?.is_true();
        if !error.is_none() {
            out.extend_from_slice(b",\"status\":{\"code\":2");
            if !text(&error)?.is_empty() {
                put(out, b",\"message\":", &error)?;
            }
            out.push(b'}');
        } else if ok {
            out.extend_from_slice(b",\"status\":{\"code\":1}");
        }
        out.extend_from_slice(b"},");
        Some(())
    }
}

/// Spans as they are written, by their resource, in the order in which the resources came.
#[derive(Default)]
struct Groups {
    /// Each is a ResourceSpans without its end; a comma stands behind its last span. The first begins the request.
    written: Vec<Vec<u8>>,
    /// The resource's object → its place: one object is shared by many spans, which hold it.
    by_object: AHashMap<usize, usize>,
    /// The resource as it is written → its place: equal resources can be several objects.
    by_content: AHashMap<Vec<u8>, usize>,
    last: (usize, usize),
}

impl Groups {
    /// Where a span of this resource is to be written.
    #[inline]
    fn of(&mut self, resource: &Bound<'_, PyAny>, scope: &[u8]) -> Option<&mut Vec<u8>> {
        let object = resource.as_ptr() as usize;
        if self.last.0 != object {
            let place = match self.by_object.get(&object) {
                Some(place) => *place,
                None => self.place(resource, scope)?,
            };
            self.by_object.insert(object, place);
            self.last = (object, place);
        }
        self.written.get_mut(self.last.1)
    }

    fn place(&mut self, resource: &Bound<'_, PyAny>, scope: &[u8]) -> Option<usize> {
        let mut head = b"{\"resource\":{\"attributes\":[".to_vec();
        let labels = resource.cast_exact::<PyTuple>().ok()?;
        for label in labels.iter_borrowed() {
            let label = label.cast_exact::<PyTuple>().ok()?;
            if label.len() != 2 {
                return None;
            }
            put_key(&mut head, &label.get_item(0).ok()?)?;
            put_text(&mut head, &label.get_item(1).ok()?)?;
            head.extend_from_slice(b"},");
        }
        if !labels.is_empty() {
            head.pop();
        }
        head.extend_from_slice(scope);
        let next = self.written.len();
        let place = *self.by_content.entry(head).or_insert_with_key(|head| {
            let start: &[u8] = if next == 0 { b"{\"resourceSpans\":[" } else { b"" };
            self.written.push([start, head].concat());
            next
        });
        Some(place)
    }

    /// The whole request; None for one of no spans.
    fn joined(mut self) -> Option<Vec<u8>> {
        let (request, others) = self.written.split_first_mut()?;
        close(request, b']');
        for group in others {
            request.extend_from_slice(b"}]},");
            request.extend_from_slice(group);
            close(request, b']');
        }
        request.extend_from_slice(b"}]}]}");
        Some(std::mem::take(request))
    }
}

fn put_attributes(out: &mut Vec<u8>, attributes: &Bound<'_, PyAny>) -> Option<()> {
    let attributes = attributes.cast_exact::<PyDict>().ok()?;
    if attributes.is_empty() {
        return Some(());
    }
    out.extend_from_slice(b",\"attributes\":[");
    for (key, value) in attributes {
        put_key(out, &key)?;
        put_value(out, &value)?;
        out.extend_from_slice(b"},");
    }
    close(out, b']');
    Some(())
}

#[inline]
fn put_key(out: &mut Vec<u8>, key: &Bound<'_, PyAny>) -> Option<()> {
    put(out, b"{\"key\":", key)?;
    out.extend_from_slice(b",\"value\":");
    Some(())
}

#[inline]
fn put_value(out: &mut Vec<u8>, value: &Bound<'_, PyAny>) -> Option<()> {
    if value.is_exact_instance_of::<PyString>() {
        return put_text(out, value);
    }
    if let Ok(value) = value.cast_exact::<PyBool>() {
        let written: &[u8] = if value.is_true() { b"{\"boolValue\":true}" } else { b"{\"boolValue\":false}" };
        out.extend_from_slice(written);
    } else if value.is_exact_instance_of::<PyInt>() {
        out.extend_from_slice(b"{\"intValue\":\"");
        json::integer(out, int(value)?);
        out.extend_from_slice(b"\"}");
    } else if let Ok(value) = value.cast_exact::<PyFloat>() {
        put_float(out, value.value());
    } else {
        let items = value.cast_exact::<PyTuple>().ok()?;
        out.extend_from_slice(b"{\"arrayValue\":{\"values\":[");
        for item in items.iter_borrowed() {
            put_text(out, &item)?;
            out.push(b',');
        }
        if !items.is_empty() {
            out.pop();
        }
        out.extend_from_slice(b"]}}");
    }
    Some(())
}

#[inline]
fn put_text(out: &mut Vec<u8>, value: &Bound<'_, PyAny>) -> Option<()> {
    put(out, b"{\"stringValue\":", value)?;
    out.push(b'}');
    Some(())
}

/// What is no number as proto3's JSON mapping writes it.
fn put_float(out: &mut Vec<u8>, value: f64) {
    out.extend_from_slice(b"{\"doubleValue\":");
    if value.is_finite() {
        json::float(out, value);
    } else if value.is_nan() {
        out.extend_from_slice(b"\"NaN\"");
    } else {
        out.extend_from_slice(if value > 0.0 { b"\"Infinity\"" } else { b"\"-Infinity\"" });
    }
    out.push(b'}');
}

/// A list that is left out where it is empty.
#[inline]
fn put_list<'py>(
    out: &mut Vec<u8>,
    name: &[u8],
    items: &Bound<'py, PyAny>,
    put_item: impl Fn(&mut Vec<u8>, &Bound<'py, PyAny>) -> Option<()>,
) -> Option<()> {
    let items = items.cast_exact::<PyTuple>().ok()?;
    if items.is_empty() {
        return Some(());
    }
    out.extend_from_slice(name);
    for item in items.iter_borrowed() {
        put_item(out, &item)?;
        out.push(b',');
    }
    close(out, b']');
    Some(())
}

#[inline]
fn put<const N: usize>(out: &mut Vec<u8>, before: &[u8; N], value: &Bound<'_, PyAny>) -> Option<()> {
    out.extend_from_slice(before);
    json::string(out, text(value)?.as_bytes());
    Some(())
}

/// A time as fixed64 holds it, in quotes: what was before 1970 is 0.
#[inline]
fn put_time<const N: usize>(out: &mut Vec<u8>, before: &[u8; N], at_ns: &Bound<'_, PyAny>) -> Option<()> {
    out.extend_from_slice(before);
    json::integer(out, int(at_ns)?.max(0));
    out.push(b'"');
    Some(())
}

/// The end of a list in place of the last comma.
#[inline]
fn close(out: &mut [u8], end: u8) {
    if let Some(comma) = out.last_mut() {
        *comma = end;
    }
}

/// The text, where it is Unicode.
#[inline]
fn text<'a>(value: &'a Bound<'_, PyAny>) -> Option<&'a str> {
    value.cast_exact::<PyString>().ok()?.to_str().ok()
}

/// The figure, where 64 bits hold it.
#[inline]
fn int(value: &Bound<'_, PyAny>) -> Option<i64> {
    value.cast_exact::<PyInt>().ok()?.extract().ok()
}
