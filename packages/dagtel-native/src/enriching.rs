//! `processors.enrichment.Enrichment.process`: what is known of its run, and the asset graph, onto each event.

use crate::log_facts::text;
use crate::record_bytes::Headers;
use crate::slots::{next_few, Slots};
use ahash::AHashMap;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyModule, PyString, PyType};

/// The header of a run's latest event, and the facts that hold since.
struct Seen<'py> {
    header: Box<[u8]>,
    facts: Option<Bound<'py, PyAny>>,
}

/// The runs of a call. `last`: that of the event before; mostly the next one is of it, too, and its id the same object.
#[derive(Default)]
struct Runs<'py> {
    seen: Vec<Seen<'py>>,
    places: AHashMap<String, usize>,
    last: Option<(Bound<'py, PyAny>, usize)>,
}

impl<'py> Runs<'py> {
    #[inline]
    fn of(&mut self, id: &Bound<'py, PyAny>, name: &str) -> Option<&Seen<'py>> {
        let place = match &self.last {
            Some((last, place)) if last.is(id) => *place,
            _ => {
                let place = *self.places.get(name)?;
                self.last = Some((id.clone(), place));
                place
            }
        };
        self.seen.get(place)
    }

    fn set(&mut self, name: &str, known: Seen<'py>) {
        match self.places.get(name) {
            Some(&place) => self.seen[place] = known,
            None => {
                self.places.insert(name.to_owned(), self.seen.len());
                self.seen.push(known);
            }
        }
    }
}

/// What an event's facts depend on.
struct Asked<'py> {
    run_id: Bound<'py, PyAny>,
    headers: Option<Headers<'py>>,
    news: bool,
}

/// Sets `run` and `catalog` of events. `header`: the name of the header that tells of a run; `ends`: the types of a
/// run's last event.
#[pyclass(frozen)]
pub struct Enricher {
    asked: Slots<4>,
    told: Slots<2>,
    queued: Py<PyType>,
    header: String,
    ends: Vec<String>,
}

const CATALOG: usize = 0;
const RUN: usize = 1;

#[pymethods]
impl Enricher {
    #[new]
    fn new(kinds: &Bound<'_, PyModule>, header: String, ends: Vec<String>) -> PyResult<Self> {
        let event = kinds.getattr("Event")?.cast_into::<PyType>()?;
        Ok(Self {
            asked: Slots::new(&event, ["run_id", "headers", "type", "detail"])?,
            told: Slots::new(&event, ["catalog", "run"])?,
            queued: kinds.getattr("RunQueued")?.cast_into::<PyType>()?.unbind(),
            header,
            ends,
        })
    }

    /// How many of these events, from the first, it did; the others, from one that is odd on, are Python's.
    ///
    /// `runs.facts(event, header)` gives what is known of a run, and `runs.forgotten` changes when it forgot
    /// one that it was asked for.
    fn enrich<'py>(
        &self,
        events: &Bound<'py, PyAny>,
        catalog: &Bound<'py, PyAny>,
        runs: &Bound<'py, PyAny>,
        headers: bool,
    ) -> PyResult<usize> {
        let py = events.py();
        let mut forgotten = runs.getattr(intern!(py, "forgotten"))?;
        let mut seen = Runs::default();
        let mut events = events.try_iter()?;
        let (mut near, mut done) = (Vec::new(), 0);
        while next_few(&mut events, &mut near)? {
            near.iter().for_each(|event| self.asked.fetch(event));
            for event in &near {
                let Some(asked) = self.asked(event, headers) else { return Ok(done) };
                let Some(run_id) = text(&asked.run_id) else { return Ok(done) };
                let Some(header) = self.header(asked.headers.as_ref()) else { return Ok(done) };
                if !self.told.write(event, CATALOG, catalog) {
                    return Ok(done);
                }
                done += 1;
                if run_id.is_empty() {
                    continue;
                }
                if let Some(known) = seen.of(&asked.run_id, run_id) {
                    if !asked.news && *known.header == *header {
                        self.tell(event, known.facts.as_ref());
                        continue;
                    }
                }
                let facts = runs.call_method1(intern!(py, "facts"), (event, PyBytes::new(py, header)))?;
                let now = runs.getattr(intern!(py, "forgotten"))?;
                if now.ne(&forgotten)? {
                    seen = Runs::default();
                    forgotten = now;
                }
                let known = Seen { header: header.into(), facts: (!facts.is_none()).then_some(facts) };
                self.tell(event, known.facts.as_ref());
                seen.set(run_id, known);
            }
        }
        Ok(done)
    }
}

impl Enricher {
    /// None for an event that is not as it is typed.
    #[inline]
    fn asked<'py>(&self, event: &Bound<'py, PyAny>, headers: bool) -> Option<Asked<'py>> {
        let [run_id, carried, kind, detail] = self.asked.read(event)?;
        let headers = if headers { Some(Headers::of(&carried)?) } else { None };
        let queued = detail.get_type_ptr() == self.queued.as_ptr().cast();
        let kind = kind.cast_exact::<PyString>().ok()?;
        let news = queued || kind.to_str().is_ok_and(|kind| self.ends.iter().any(|end| end == kind));
        Some(Asked { run_id, headers, news })
    }

    /// The value of the header, empty if it is not there; None for headers that are not as they are typed.
    #[inline]
    fn header<'a>(&self, headers: Option<&'a Headers<'_>>) -> Option<&'a [u8]> {
        let Some(headers) = headers else { return Some(&[]) };
        let (mut first, mut last): (Option<&[u8]>, Option<&[u8]>) = (None, None);
        for pair in headers.pairs() {
            let (name, value) = pair?;
            last = (name == self.header).then_some(value); // where the bridge puts it
            first = first.or(last);
        }
        Some(last.or(first).unwrap_or_default())
    }

    /// Facts of a run that nothing is known of leave the event as another process found it.
    #[inline]
    fn tell(&self, event: &Bound<'_, PyAny>, facts: Option<&Bound<'_, PyAny>>) {
        if let Some(facts) = facts {
            self.told.write(event, RUN, facts);
        }
    }
}
