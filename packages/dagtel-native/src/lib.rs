//! Compiled twins of dagtel's hottest functions.
//!
//! Each does what is common and says `None` to all else: what is rare, odd or wrong is done by the Python function whose
//! twin it is, which alone says what is right. Tests hold the two against each other.

mod alert_selection;
mod details;
mod encoded_rows;
mod enriching;
mod entry;
mod errors;
mod event_ids;
mod events;
mod fetch;
mod filling;
mod huge_pages;
mod id_chunks;
mod id_codes;
mod id_table;
mod ids;
mod json;
mod ledger;
mod ledger_assets;
mod ledger_book;
mod ledger_ends;
mod ledger_failures;
mod ledger_orders;
mod ledger_parts;
mod ledger_steps;
mod levels;
mod log_facts;
mod log_failures;
mod log_lines;
mod log_records;
mod loki_push;
mod metric_sums;
mod metric_tally;
mod nanos;
mod needles;
mod otlp_spans;
mod plain;
mod record_bytes;
mod records;
mod scan;
mod shapes;
mod slots;
mod slow;
mod span_roots;
mod span_shapes;
mod spans;
mod stamps;
mod table_rows;
mod texts;
mod wire;

use pyo3::prelude::*;

#[pymodule]
fn dagtel_native(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add("VERSION", env!("CARGO_PKG_VERSION"))?;
    module.add_function(wrap_pyfunction!(huge_pages::arenas_in_huge_pages, module)?)?;
    module.add_class::<filling::Filling>()?;
    module.add_class::<record_bytes::RecordBytes>()?;
    module.add_class::<record_bytes::KeptBytes>()?;
    module.add_class::<records::RecordReader>()?;
    module.add_class::<records::Records>()?;
    module.add_class::<levels::LevelCounter>()?;
    module.add_class::<otlp_spans::OtlpSpans>()?;
    module.add_class::<spans::SpanMaker>()?;
    module.add_class::<loki_push::LokiPush>()?;
    module.add_class::<needles::Needles>()?;
    module.add_class::<log_records::LogRecords>()?;
    module.add_class::<event_ids::EventIds>()?;
    module.add_class::<enriching::Enricher>()?;
    module.add_class::<alert_selection::AlertSelection>()?;
    module.add_class::<metric_tally::MetricTally>()?;
    module.add_class::<ledger::LedgerTwin>()?;
    module.add_class::<slow::SlowTwin>()?;
    module.add_class::<id_chunks::IdChunks>()?;
    module.add_class::<stamps::Stamps>()?;
    module.add_class::<table_rows::TableRows>()?;
    module.add_class::<events::EventDecoder>()
}
