//! Values of metadata as `receivers.wire_metadata` makes them plain: without Dagster's wrappers.

use crate::scan::Scanner;
use crate::texts::Texts;
use crate::wire::{object, ColumnLineage, Object, Text};
use ahash::AHashMap;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyFloat, PyList, PyString};
use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use std::fmt;

/// What is nested more deeply is Python's to cut.
const DEEPEST: usize = 48;
/// Integers of more than 64 bits come as floats, too: from here on Python says which it is.
const LARGEST: f64 = 9.0e15;

/// One value under its class; None for what Python has to look at.
pub fn value<'py>(
    py: Python<'py>,
    texts: &mut Texts,
    payloads: &AHashMap<String, String>,
    json: &str,
) -> Option<Bound<'py, PyAny>> {
    let (mut class, mut fields) = (None, Vec::with_capacity(4));
    Scanner::new(json).object(|name, at| match name {
        "" => None, // it may have escapes
        "__class__" => {
            class = Some(at.string()?);
            Some(())
        }
        _ => {
            fields.push((name, at.value()?));
            Some(())
        }
    })?;
    let field = |name: &str| fields.iter().rev().find(|(key, _)| *key == name).map(|(_, value)| *value);
    let class = class?.plain()?;
    if let Some(payload) = payloads.get(class) {
        return plain(py, texts, field(payload)?);
    }
    if class == "TableColumnLineageMetadataValue" {
        return lineage(py, texts, field("column_lineage")?);
    }
    None
}

/// A JSON text as a Python object, Dagster's wrappers taken off.
fn plain<'py>(py: Python<'py>, texts: &mut Texts, json: &str) -> Option<Bound<'py, PyAny>> {
    if json.starts_with('"') {
        let text = Scanner::new(json).string()?.text()?;
        return Some(texts.get(py, &text).into_bound(py).into_any());
    }
    let mut from = serde_json::Deserializer::from_str(json);
    Plain { py, texts, depth: 0 }.deserialize(&mut from).ok()
}

/// Column → the columns that it is made of.
fn lineage<'py>(py: Python<'py>, texts: &mut Texts, json: &str) -> Option<Bound<'py, PyAny>> {
    let (asset_key, column_name) = (texts.get(py, "asset_key"), texts.get(py, "column_name"));
    let found = PyDict::new(py);
    for (column, deps) in &object::<ColumnLineage<'_>>(json).ok()?.deps_by_column.0 {
        let told = PyList::empty(py);
        for Object(dep) in deps {
            let each = PyDict::new(py);
            each.set_item(&asset_key, texts.get(py, &dep.asset_key.0.joined())).ok()?;
            each.set_item(&column_name, texts.get(py, &dep.column_name.0)).ok()?;
            told.append(each).ok()?;
        }
        found.set_item(texts.get(py, &column.0), told).ok()?;
    }
    Some(found.into_any())
}

/// Makes Python objects while it reads; an error means that Python has to look.
struct Plain<'t, 'py> {
    py: Python<'py>,
    texts: &'t mut Texts,
    depth: usize,
}

impl<'py> Plain<'_, 'py> {
    fn deeper(&mut self) -> Plain<'_, 'py> {
        Plain { py: self.py, texts: self.texts, depth: self.depth + 1 }
    }
}

impl<'de, 'py> DeserializeSeed<'de> for Plain<'_, 'py> {
    type Value = Bound<'py, PyAny>;
    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<Self::Value, D::Error> {
        if self.depth > DEEPEST {
            return Err(D::Error::custom("too deep"));
        }
        from.deserialize_any(self)
    }
}

impl<'de, 'py> Visitor<'de> for Plain<'_, 'py> {
    type Value = Bound<'py, PyAny>;

    fn expecting(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        to.write_str("a value")
    }
    fn visit_unit<E>(self) -> Result<Self::Value, E> {
        Ok(self.py.None().into_bound(self.py))
    }
    fn visit_bool<E: Error>(self, value: bool) -> Result<Self::Value, E> {
        Ok(value.into_pyobject(self.py).map_err(E::custom)?.to_owned().into_any())
    }
    fn visit_i64<E: Error>(self, value: i64) -> Result<Self::Value, E> {
        Ok(value.into_pyobject(self.py).map_err(E::custom)?.into_any())
    }
    fn visit_u64<E: Error>(self, value: u64) -> Result<Self::Value, E> {
        Ok(value.into_pyobject(self.py).map_err(E::custom)?.into_any())
    }
    fn visit_f64<E: Error>(self, value: f64) -> Result<Self::Value, E> {
        if value == 0.0 && value.is_sign_negative() || value.abs() >= LARGEST {
            return Err(E::custom("-0 and large integers come as floats, too"));
        }
        Ok(PyFloat::new(self.py, value).into_any())
    }
    fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
        Ok(self.texts.get(self.py, text).into_bound(self.py).into_any())
    }
    fn visit_seq<A: SeqAccess<'de>>(mut self, mut items: A) -> Result<Self::Value, A::Error> {
        let list = PyList::empty(self.py);
        while let Some(item) = items.next_element_seed(self.deeper())? {
            list.append(item).map_err(A::Error::custom)?;
        }
        Ok(list.into_any())
    }
    fn visit_map<A: MapAccess<'de>>(mut self, mut map: A) -> Result<Self::Value, A::Error> {
        let found = PyDict::new(self.py);
        let (mut class, mut is_wrapper) = (None, false);
        while let Some(key) = map.next_key::<Text<'de>>()? {
            if key.0 == "__class__" {
                class = Some(map.next_value::<Text<'de>>()?);
                continue;
            }
            is_wrapper |= matches!(&*key.0, "__enum__" | "__set__" | "__frozenset__");
            let value = map.next_value_seed(self.deeper())?;
            found.set_item(self.texts.get(self.py, &key.0), value).map_err(A::Error::custom)?;
        }
        let is_key = class.as_ref().is_some_and(|class| class.0 == "AssetKey");
        let unwrapped = match (is_key, is_wrapper) {
            (false, false) => return Ok(found.into_any()),
            (true, false) => joined(&found),
            (false, true) if class.is_none() => unwrapped(&found),
            _ => None,
        };
        unwrapped.ok_or_else(|| A::Error::custom("wrapped in another way"))
    }
}

/// The one item of an object, and its name.
fn only<'py>(object: &Bound<'py, PyDict>) -> Option<(Bound<'py, PyAny>, Bound<'py, PyAny>)> {
    (object.len() == 1).then(|| object.iter().next()).flatten()
}

fn text<'a>(value: &'a Bound<'_, PyAny>) -> Option<&'a str> {
    value.cast::<PyString>().ok()?.to_str().ok()
}

/// The key of an asset, its parts joined by "/".
fn joined<'py>(key: &Bound<'py, PyDict>) -> Option<Bound<'py, PyAny>> {
    let (name, value) = only(key)?;
    let path = value.cast::<PyList>().ok()?;
    let parts: Option<Vec<String>> = path.iter().map(|part| text(&part).map(str::to_owned)).collect();
    (text(&name)? == "path").then_some(PyString::new(key.py(), &parts?.join("/")).into_any())
}

/// What is in an enum's or a set's wrapper, where it is as Dagster writes it: alone.
fn unwrapped<'py>(wrapper: &Bound<'py, PyDict>) -> Option<Bound<'py, PyAny>> {
    let (name, value) = only(wrapper)?;
    if text(&name)? != "__enum__" {
        return Some(value);
    }
    let member = text(&value)?.rsplit('.').next()?;
    Some(PyString::new(wrapper.py(), member).into_any())
}
