//! The own parts of the events that there are most of, read in one pass. What is rare is in `wire.rs`.
//!
//! Each is None for what Python has to look at: another shape, a field that stands there twice.

use crate::scan::{Quoted, Scanner};
use std::borrow::Cow;

/// What an object's fields are read into, each once at most.
pub struct Field<T>(Option<T>);

impl<T> Field<T> {
    pub const fn new() -> Self {
        Self(None)
    }

    #[inline]
    pub fn set(&mut self, value: Option<T>) -> Option<()> {
        if self.0.is_some() {
            return None;
        }
        self.0 = Some(value?);
        Some(())
    }

    /// None where it does not stand there.
    #[inline]
    pub fn get(self) -> Option<T> {
        self.0
    }
}

impl<T> Field<Option<T>> {
    /// None also where it is null.
    #[inline]
    pub fn given(self) -> Option<T> {
        self.0.flatten()
    }
}

pub struct Planned<'a> {
    pub asset: Cow<'a, str>,
    pub partition: Option<Quoted<'a>>,
}

pub struct CheckPlanned<'a> {
    pub asset: Cow<'a, str>,
    pub check: Quoted<'a>,
}

/// `error` as it is written.
pub struct Engine<'a> {
    pub error: Option<&'a str>,
    pub start: Option<Quoted<'a>>,
    pub end: Option<Quoted<'a>>,
}

/// Labels and values as they are written.
pub type Entries<'a> = Vec<(Quoted<'a>, &'a str)>;

pub struct AssetEvent<'a> {
    pub asset: Cow<'a, str>,
    pub partition: Option<Quoted<'a>>,
    pub description: Option<Quoted<'a>>,
    pub metadata: Entries<'a>,
    pub tags: Vec<(Quoted<'a>, Quoted<'a>)>,
}

pub struct Check<'a> {
    pub asset: Cow<'a, str>,
    pub check: Quoted<'a>,
    pub passed: bool,
    pub severity: Quoted<'a>,
    pub blocking: bool,
    pub partition: Option<Quoted<'a>>,
    pub description: Option<Quoted<'a>>,
    pub metadata: Entries<'a>,
}

/// The one value of a text.
fn whole<'a, T>(text: &'a str, read: impl FnOnce(&mut Scanner<'a>) -> Option<T>) -> Option<T> {
    let mut scanner = Scanner::new(text);
    read(&mut scanner).filter(|_| scanner.is_at_end())
}

impl<'a> Planned<'a> {
    pub fn of(text: &'a str) -> Option<Self> {
        let (mut asset, mut partition) = (Field::new(), Field::new());
        whole(text, |at| {
            at.object(|name, at| match name {
                "asset_key" => asset.set(key(at)),
                "partition" => partition.set(at.string_or_null()),
                "" => None, // it may be one of these, with escapes
                _ => at.skip(),
            })
        })?;
        Some(Self { asset: asset.get()?, partition: partition.given() })
    }
}

impl<'a> CheckPlanned<'a> {
    pub fn of(text: &'a str) -> Option<Self> {
        let (mut asset, mut check) = (Field::new(), Field::new());
        whole(text, |at| {
            at.object(|name, at| match name {
                "asset_key" => asset.set(key(at)),
                "check_name" => check.set(at.string()),
                "" => None,
                _ => at.skip(),
            })
        })?;
        Some(Self { asset: asset.get()?, check: check.get()? })
    }
}

/// `StepSuccessData.duration_ms`.
pub fn duration_ms(text: &str) -> Option<f64> {
    let mut found = Field::new();
    whole(text, |at| {
        at.object(|name, at| match name {
            "duration_ms" => found.set(at.number().and_then(|number| number.parse().ok())),
            "" => None,
            _ => at.skip(),
        })
    })?;
    found.get().filter(|ms: &f64| ms.is_finite())
}

impl<'a> Engine<'a> {
    /// Of null nothing is there.
    pub fn of(text: &'a str) -> Option<Self> {
        let (mut error, mut start, mut end) = (Field::new(), Field::new(), Field::new());
        whole(text, |at| {
            if at.peek()? == b'n' {
                return at.skip();
            }
            at.object(|name, at| match name {
                "error" => error.set(at.value()),
                "marker_start" => start.set(at.string_or_null()),
                "marker_end" => end.set(at.string_or_null()),
                "" => None,
                _ => at.skip(),
            })
        })?;
        Some(Self { error: error.get(), start: start.given(), end: end.given() })
    }
}

impl<'a> AssetEvent<'a> {
    /// What stands under `field`.
    pub fn of(text: &'a str, field: &str) -> Option<Self> {
        let mut found = Field::new();
        whole(text, |at| {
            at.object(|name, at| match name {
                "" => None,
                name if name == field => found.set(Self::read(at)),
                _ => at.skip(),
            })
        })?;
        found.get()
    }

    fn read(at: &mut Scanner<'a>) -> Option<Self> {
        let (mut asset, mut partition, mut description) = (Field::new(), Field::new(), Field::new());
        let (mut listed, mut named, mut tags) = (Field::new(), Field::new(), Field::new());
        at.object(|name, at| match name {
            "asset_key" => asset.set(key(at)),
            "partition" => partition.set(at.string_or_null()),
            "description" => description.set(at.string_or_null()),
            "metadata_entries" => listed.set(entries(at)),
            "metadata" => named.set(entries(at)),
            "tags" => tags.set(pairs(at)),
            "" => None,
            _ => at.skip(),
        })?;
        Some(Self {
            asset: asset.get()?,
            partition: partition.given(),
            description: description.given(),
            metadata: listed.given().or(named.given()).unwrap_or_default(),
            tags: tags.given().unwrap_or_default(),
        })
    }
}

impl<'a> Check<'a> {
    pub fn of(text: &'a str) -> Option<Self> {
        let (mut asset, mut check, mut severity) = (Field::new(), Field::new(), Field::new());
        let (mut success, mut passed, mut blocking) = (Field::new(), Field::new(), Field::new());
        let (mut partition, mut description) = (Field::new(), Field::new());
        let (mut named, mut listed) = (Field::new(), Field::new());
        whole(text, |at| {
            at.object(|name, at| match name {
                "asset_key" => asset.set(key(at)),
                "check_name" => check.set(at.string()),
                "severity" => severity.set(member(at)),
                "success" => success.set(truth(at)),
                "passed" => passed.set(truth(at)),
                "blocking" => blocking.set(truth(at)),
                "partition" => partition.set(at.string_or_null()),
                "description" => description.set(at.string_or_null()),
                "metadata" => named.set(entries(at)),
                "metadata_entries" => listed.set(entries(at)),
                "" => None,
                _ => at.skip(),
            })
        })?;
        Some(Self {
            asset: asset.get()?,
            check: check.get()?,
            passed: success.given().or(passed.given())?,
            severity: severity.get()?,
            blocking: blocking.given().unwrap_or(false),
            partition: partition.given(),
            description: description.given(),
            metadata: named.given().or(listed.given()).unwrap_or_default(),
        })
    }
}

/// The parts of an AssetKey joined by "/".
fn key<'a>(at: &mut Scanner<'a>) -> Option<Cow<'a, str>> {
    let mut joined: Field<Cow<'a, str>> = Field::new();
    at.object(|name, at| match name {
        "path" => joined.set({
            let mut key: Option<Cow<'a, str>> = None;
            at.array(|at| {
                let part = at.string()?.text()?;
                key = Some(match key.take() {
                    None => part,
                    Some(before) => Cow::Owned([&*before, "/", &*part].concat()),
                });
                Some(())
            })
            .map(|()| key.unwrap_or_default())
        }),
        "" => None,
        _ => at.skip(),
    })?;
    joined.get()
}

/// The name of an enum's member.
fn member<'a>(at: &mut Scanner<'a>) -> Option<Quoted<'a>> {
    let mut found = Field::new();
    at.object(|name, at| match name {
        "__enum__" => found.set(at.string()),
        "" => None,
        _ => at.skip(),
    })?;
    found.get()
}

/// A bool or null.
fn truth(at: &mut Scanner<'_>) -> Option<Option<bool>> {
    match at.value()? {
        "true" => Some(Some(true)),
        "false" => Some(Some(false)),
        "null" => Some(None),
        _ => None,
    }
}

/// Metadata: a list of labelled entries, an object by label, or null.
fn entries<'a>(at: &mut Scanner<'a>) -> Option<Option<Entries<'a>>> {
    let mut found = Vec::new();
    match at.peek()? {
        b'n' => return at.skip().map(|()| None),
        b'[' => at.array(|at| {
            let (mut label, mut data) = (Field::new(), Field::new());
            at.object(|name, at| match name {
                "label" => label.set(at.string()),
                "entry_data" => data.set(at.value()),
                "" => None,
                _ => at.skip(),
            })?;
            found.push((label.get()?, data.get()?));
            Some(())
        })?,
        _ => at.object_of(|label, at| {
            let data = at.value()?;
            if label.plain() != Some("__class__") {
                found.push((label, data));
            }
            Some(())
        })?,
    }
    Some(Some(found))
}

/// An object of texts, or null.
#[allow(clippy::type_complexity)]
fn pairs<'a>(at: &mut Scanner<'a>) -> Option<Option<Vec<(Quoted<'a>, Quoted<'a>)>>> {
    if at.peek()? == b'n' {
        return at.skip().map(|()| None);
    }
    let mut found = Vec::new();
    at.object_of(|name, at| {
        found.push((name, at.string()?));
        Some(())
    })?;
    Some(Some(found))
}
