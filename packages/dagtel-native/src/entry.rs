//! The envelope of an event: `receivers.dagster_wire._Entry` and `_DagsterEvent`, as far as they are read.

use crate::details::NULL;
use crate::scan::{Quoted, Scanner};

pub struct DagsterEvent<'a> {
    pub class: Quoted<'a>,
    pub event_type_value: Quoted<'a>,
    pub event_specific_data: &'a str,
    pub message: Option<Quoted<'a>>,
    pub pipeline_name: Option<Quoted<'a>>,
    pub job_name: Option<Quoted<'a>>,
    pub step_key: Option<Quoted<'a>>,
    pub step_kind_value: Option<Quoted<'a>>,
}

pub struct Entry<'a> {
    pub class: Quoted<'a>,
    pub error_info: &'a str,
    pub level: u8,
    pub user_message: Quoted<'a>,
    pub run_id: Quoted<'a>,
    pub timestamp: f64,
    pub step_key: Option<Quoted<'a>>,
    pub pipeline_name: Option<Quoted<'a>>,
    pub job_name: Option<Quoted<'a>>,
    pub dagster_event: Option<DagsterEvent<'a>>,
}

/// A field that stands there once at most.
struct Field<T>(Option<T>);

impl<T> Field<T> {
    #[inline]
    fn set(&mut self, value: Option<T>) -> Option<()> {
        if self.0.is_some() {
            return None;
        }
        self.0 = Some(value?);
        Some(())
    }
}

impl<'a> Entry<'a> {
    /// None for anything but JSON of an entry with all that every version wrote, and for a field that stands there twice.
    pub fn of(text: &'a str) -> Option<Self> {
        let (mut class, mut error_info, mut level, mut user_message) =
            (Field(None), Field(None), Field(None), Field(None));
        let (mut run_id, mut timestamp, mut step_key) = (Field(None), Field(None), Field(None));
        let (mut pipeline_name, mut job_name, mut dagster_event) = (Field(None), Field(None), Field(None));
        let mut scanner = Scanner::new(text);
        scanner.object(|name, at| match name {
            "__class__" => class.set(at.string()),
            "dagster_event" => dagster_event.set(DagsterEvent::or_null(at)),
            "error_info" => error_info.set(at.value()),
            "job_name" => job_name.set(at.string_or_null()),
            "level" => level.set(at.number().and_then(|number| number.parse().ok())),
            "pipeline_name" => pipeline_name.set(at.string_or_null()),
            "run_id" => run_id.set(at.string()),
            "step_key" => step_key.set(at.string_or_null()),
            "timestamp" => timestamp.set(at.number().and_then(|number| number.parse().ok())),
            "user_message" => user_message.set(at.string()),
            "" => None, // it may be one of these, with escapes
            _ => at.skip(),
        })?;
        scanner.is_at_end().then_some(())?;
        Some(Self {
            class: class.0?,
            error_info: error_info.0?,
            level: level.0?,
            user_message: user_message.0?,
            run_id: run_id.0?,
            timestamp: timestamp.0?,
            step_key: step_key.0.flatten(),
            pipeline_name: pipeline_name.0.flatten(),
            job_name: job_name.0.flatten(),
            dagster_event: dagster_event.0.flatten(),
        })
    }
}

impl<'a> DagsterEvent<'a> {
    fn or_null(at: &mut Scanner<'a>) -> Option<Option<Self>> {
        if at.peek()? == b'n' {
            return at.skip().map(|()| None);
        }
        let (mut class, mut event_type_value, mut event_specific_data) = (Field(None), Field(None), Field(None));
        let (mut message, mut pipeline_name, mut job_name) = (Field(None), Field(None), Field(None));
        let (mut step_key, mut step_kind_value) = (Field(None), Field(None));
        at.object(|name, at| match name {
            "__class__" => class.set(at.string()),
            "event_specific_data" => event_specific_data.set(at.value()),
            "event_type_value" => event_type_value.set(at.string()),
            "job_name" => job_name.set(at.string_or_null()),
            "message" => message.set(at.string_or_null()),
            "pipeline_name" => pipeline_name.set(at.string_or_null()),
            "step_key" => step_key.set(at.string_or_null()),
            "step_kind_value" => step_kind_value.set(at.string_or_null()),
            "" => None,
            _ => at.skip(),
        })?;
        Some(Some(Self {
            class: class.0?,
            event_type_value: event_type_value.0?,
            event_specific_data: event_specific_data.0.unwrap_or(NULL),
            message: message.0.flatten(),
            pipeline_name: pipeline_name.0.flatten(),
            job_name: job_name.0.flatten(),
            step_key: step_key.0.flatten(),
            step_kind_value: step_kind_value.0.flatten(),
        }))
    }
}
