//! `receivers.kafka_records`: the records of one of Kafka's batches, as the receiver wants them.

use crate::slots::make;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyList, PyTuple, PyType};

/// `[kind(offset, timestamp, key, value, headers), …]` of what aiokafka's batch gives. Raises what it raises.
#[pyfunction]
pub fn kafka_records<'py>(kind: &Bound<'py, PyType>, batch: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyList>> {
    let py = kind.py();
    let (made, class, none) = (PyList::empty(py), kind.clone().unbind(), PyTuple::empty(py));
    for record in batch.try_iter()? {
        let record = record?;
        let offset = record.getattr(intern!(py, "offset"))?;
        let timestamp = record.getattr(intern!(py, "timestamp"))?;
        let key = record.getattr(intern!(py, "key"))?;
        let value = record.getattr(intern!(py, "value"))?;
        let headers = record.getattr(intern!(py, "headers"))?;
        let headers = match headers.cast::<PyList>() {
            Ok(pairs) if !pairs.is_empty() => pairs.to_tuple(),
            _ => none.clone(),
        };
        let fields = [offset.as_ptr(), timestamp.as_ptr(), key.as_ptr(), value.as_ptr(), headers.as_ptr()];
        made.append(make(&class, py, fields)?)?;
    }
    Ok(made)
}
