//! `receivers.wire_errors`: Dagster's SerializableErrorInfo as an `ErrorInfo`.

use crate::slots::Class;
use crate::texts::Texts;
use crate::wire::{Object, Text};
use ahash::AHashMap;
use pyo3::prelude::*;
use pyo3::types::{PyString, PyTuple};
use serde::de::{DeserializeSeed, Deserializer, Error, SeqAccess, Visitor};
use serde::Deserialize;
use std::fmt;
use std::sync::Arc;

/// Characters of a frame's text that are looked at, and the only ones that its parser is given.
const LONGEST: usize = 2000;
/// Frames that are kept; when they are more it begins anew.
const MOST: usize = 4096;
const JOINER: &str = "\ncaused by:\n";

/// SerializableErrorInfo, the fields that are read. serde_json bounds how deep the causes go.
#[derive(Deserialize)]
pub struct WireError<'a> {
    #[serde(borrow)]
    message: Text<'a>,
    #[serde(default)]
    stack: Stack,
    #[serde(borrow, default)]
    cls_name: Option<Text<'a>>,
    #[serde(borrow, default)]
    cause: Option<Box<Object<WireError<'a>>>>,
}

/// The texts of a stack's frames, one behind the other, and where each ends.
#[derive(Default)]
struct Stack {
    text: String,
    ends: Vec<usize>,
}

impl Stack {
    fn entries(&self) -> impl Iterator<Item = &str> {
        let mut start = 0;
        self.ends.iter().map(move |&end| &self.text[std::mem::replace(&mut start, end)..end])
    }
}

impl<'de> Deserialize<'de> for Stack {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Entries;
        impl<'de> Visitor<'de> for Entries {
            type Value = Stack;
            fn expecting(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
                to.write_str("a list of strings")
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Stack, A::Error> {
                let mut stack = Stack::default();
                while items.next_element_seed(Entry(&mut stack.text))?.is_some() {
                    stack.ends.push(stack.text.len());
                }
                Ok(stack)
            }
        }
        from.deserialize_seq(Entries)
    }
}

/// Appends the string that it reads.
struct Entry<'t>(&'t mut String);

impl<'de> DeserializeSeed<'de> for Entry<'_> {
    type Value = ();
    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<(), D::Error> {
        from.deserialize_str(self)
    }
}

impl Visitor<'_> for Entry<'_> {
    type Value = ();
    fn expecting(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        to.write_str("a string")
    }
    fn visit_str<E: Error>(self, text: &str) -> Result<(), E> {
        self.0.push_str(text);
        Ok(())
    }
}

impl WireError<'_> {
    fn class(&self) -> &str {
        self.cls_name.as_ref().map_or("", |name| &name.0)
    }

    /// The message without "module.Class: " before it.
    fn without_class(&self) -> &str {
        let message = self.message.0.trim_end_matches('\n');
        let (head, rest) = message.split_once(": ").unwrap_or((message, ""));
        let name = self.class();
        let is_class = head.strip_suffix(name).is_some_and(|module| module.is_empty() || module.ends_with('.'));
        if !name.is_empty() && is_class {
            rest
        } else {
            message
        }
    }
}

/// A frame as `receivers.wire_errors.frame` tells it, and its name in `ErrorInfo.frames`.
struct Frame {
    file: Py<PyString>,
    line: Py<PyAny>,
    function: Py<PyString>,
    of_user: bool,
    name: Py<PyString>,
}

/// Makes `ErrorInfo` of errors.
pub struct Errors {
    kind: Class,
    frame: Py<PyAny>,
    frames: AHashMap<Box<str>, Option<Arc<Frame>>>,
}

impl Errors {
    /// `kind`: the class `ErrorInfo`. `frame`: a stack's entry, cut off → `(file, line, function, of_user)` or None.
    pub fn new(kind: Class, frame: Py<PyAny>) -> Self {
        Self { kind, frame, frames: AHashMap::new() }
    }

    /// The `ErrorInfo`, Python's None where there is no error.
    pub fn told(
        &mut self,
        py: Python<'_>,
        texts: &mut Texts,
        outer: &Option<Object<WireError<'_>>>,
    ) -> PyResult<Py<PyAny>> {
        let Some(Object(outer)) = outer else { return Ok(py.None()) };
        let mut chain = vec![outer];
        let mut inner = outer;
        while let Some(cause) = &inner.cause {
            inner = &cause.0;
            chain.push(inner);
        }
        let (of_user, at) = self.frames(py, &chain)?;
        let class = texts.get(py, inner.class());
        let message = texts.get(py, inner.without_class());
        let nothing = texts.get(py, "");
        let zero = 0i64.into_pyobject(py)?;
        let (file, line, function) = match &at {
            Some(at) => (at.file.as_ptr(), at.line.as_ptr(), at.function.as_ptr()),
            None => (nothing.as_ptr(), zero.as_ptr(), nothing.as_ptr()),
        };
        let frames = PyTuple::new(py, of_user.iter().map(|frame| &frame.name))?;
        let classes: Vec<_> = chain.iter().map(|error| texts.get(py, error.class())).collect();
        let classes = PyTuple::new(py, classes)?;
        let stack = PyString::new(py, &stack_of(&chain));
        self.kind.make(
            py,
            [class.as_ptr(), message.as_ptr(), file, line, function, frames.as_ptr(), classes.as_ptr(), stack.as_ptr()],
        )
    }

    /// The user's frames of the innermost error that has any; and the last of them, else the last frame of the
    /// innermost error that has any at all.
    fn frames(&mut self, py: Python<'_>, chain: &[&WireError<'_>]) -> PyResult<(Vec<Arc<Frame>>, Option<Arc<Frame>>)> {
        let (mut of_user, mut last) = (Vec::new(), None);
        for error in chain.iter().rev() {
            let mut here = None;
            for entry in error.stack.entries() {
                let Some(frame) = self.frame(py, cut(entry))? else { continue };
                if frame.of_user {
                    of_user.push(frame.clone());
                }
                here = Some(frame);
            }
            if let Some(frame) = of_user.last() {
                last = Some(frame.clone());
                break;
            }
            last = last.or(here);
        }
        Ok((of_user, last))
    }

    /// Nearly all frames of a stack are the framework's, the same in every stack.
    fn frame(&mut self, py: Python<'_>, entry: &str) -> PyResult<Option<Arc<Frame>>> {
        if let Some(found) = self.frames.get(entry) {
            return Ok(found.clone());
        }
        let parsed: Option<(Py<PyString>, Py<PyAny>, Py<PyString>, bool)> =
            self.frame.bind(py).call1((entry,))?.extract()?;
        let frame = match parsed {
            Some((file, line, function, of_user)) => {
                let name = PyString::new(py, &format!("{}:{}", file.to_str(py)?, function.to_str(py)?)).unbind();
                Some(Arc::new(Frame { file, line, function, of_user, name }))
            }
            None => None,
        };
        if self.frames.len() >= MOST {
            self.frames.clear();
        }
        self.frames.insert(entry.into(), frame.clone());
        Ok(frame)
    }
}

/// The first `LONGEST` characters.
fn cut(entry: &str) -> &str {
    if entry.len() <= LONGEST {
        return entry;
    }
    entry.char_indices().nth(LONGEST).map_or(entry, |(at, _)| &entry[..at])
}

/// The whole text of all errors, the outermost first.
fn stack_of(chain: &[&WireError<'_>]) -> String {
    let size = |error: &&WireError<'_>| error.message.0.len() + error.stack.text.len() + JOINER.len() + 1;
    let mut told = String::with_capacity(chain.iter().map(size).sum());
    for (at, error) in chain.iter().enumerate() {
        if at > 0 {
            told.push_str(JOINER);
        }
        told.push_str(&error.message.0);
        if !error.message.0.ends_with('\n') {
            told.push('\n');
        }
        told.push_str(&error.stack.text);
    }
    told
}
