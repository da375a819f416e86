//! The envelope of an event: `receivers.dagster_wire._Entry` and `_DagsterEvent`, as far as they are read.

use crate::details::NULL;
use crate::scan::{Quoted, Scanner};
use crate::shapes::Field;

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

impl<'a> Entry<'a> {
    /// None for anything but JSON of an entry with all that every version wrote, and for a field that stands there twice.
    pub fn of(text: &'a str) -> Option<Self> {
        let (mut class, mut error_info, mut level, mut user_message) =
            (Field::new(), Field::new(), Field::new(), Field::new());
        let (mut run_id, mut timestamp, mut step_key) = (Field::new(), Field::new(), Field::new());
        let (mut pipeline_name, mut job_name, mut dagster_event) = (Field::new(), Field::new(), Field::new());
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
            class: class.get()?,
            error_info: error_info.get()?,
            level: level.get()?,
            user_message: user_message.get()?,
            run_id: run_id.get()?,
            timestamp: timestamp.get()?,
            step_key: step_key.given(),
            pipeline_name: pipeline_name.given(),
            job_name: job_name.given(),
            dagster_event: dagster_event.given(),
        })
    }
}

impl<'a> DagsterEvent<'a> {
    fn or_null(at: &mut Scanner<'a>) -> Option<Option<Self>> {
        if at.peek()? == b'n' {
            return at.skip().map(|()| None);
        }
        let (mut class, mut event_type_value, mut event_specific_data) = (Field::new(), Field::new(), Field::new());
        let (mut message, mut pipeline_name, mut job_name) = (Field::new(), Field::new(), Field::new());
        let (mut step_key, mut step_kind_value) = (Field::new(), Field::new());
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
            class: class.get()?,
            event_type_value: event_type_value.get()?,
            event_specific_data: event_specific_data.get().unwrap_or(NULL),
            message: message.given(),
            pipeline_name: pipeline_name.given(),
            job_name: job_name.given(),
            step_key: step_key.given(),
            step_kind_value: step_kind_value.given(),
        }))
    }
}
