//! `connectors.log_facts.describe` of attempts and runs that fail.

use crate::log_facts::class;
use crate::slots::Slots;
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyModule, PyString};

/// What a detail says of a failure.
pub struct Failure<'a, 'py> {
    pub of: Of,
    pub status: &'a Py<PyString>,
    pub error: Option<Told<'py>>,
}

/// Whose failure it is.
#[derive(Clone, Copy, PartialEq)]
pub enum Of {
    Step,
    Attempt,
    Run,
}

/// An error's type, message and stack. The last is None where it stands on another record already.
pub struct Told<'py>(pub Bound<'py, PyAny>, pub Bound<'py, PyAny>, pub Option<Bound<'py, PyAny>>);

/// Knows the classes of these details, and the words for what they mean.
pub struct Failures {
    step: Slots<1>,
    attempt: Slots<1>,
    run: Slots<2>,
    canceled: Slots<1>,
    error: Slots<3>,
    failure_word: Py<PyString>,
    retry_word: Py<PyString>,
    canceled_word: Py<PyString>,
}

impl Failures {
    /// From `pipeline.events`.
    pub fn new(details: &Bound<'_, PyModule>) -> PyResult<Self> {
        let word = |text| PyString::intern(details.py(), text).unbind();
        Ok(Self {
            step: Slots::new(&class(details, "StepFailed")?, ["error"])?,
            attempt: Slots::new(&class(details, "RetryScheduled")?, ["error"])?,
            run: Slots::new(&class(details, "RunFailed")?, ["error", "repeats_step"])?,
            canceled: Slots::new(&class(details, "RunCanceled")?, ["error"])?,
            error: Slots::new(&class(details, "ErrorInfo")?, ["type", "message", "stack"])?,
            failure_word: word("failure"),
            retry_word: word("retry"),
            canceled_word: word("canceled"),
        })
    }

    /// None for any other detail, and for one that Python reads.
    pub fn read<'a, 'py>(&'a self, detail: &Bound<'py, PyAny>) -> Option<Failure<'a, 'py>> {
        let mut repeated = false;
        let (of, status, error) = if let Some([error]) = self.attempt.read(detail) {
            (Of::Attempt, &self.retry_word, error)
        } else if let Some([error]) = self.step.read(detail) {
            (Of::Step, &self.failure_word, error)
        } else if let Some([error, repeats]) = self.run.read(detail) {
            repeated = repeats.cast_exact::<PyBool>().ok()?.is_true();
            (Of::Run, &self.failure_word, error)
        } else if let Some([error]) = self.canceled.read(detail) {
            (Of::Run, &self.canceled_word, error)
        } else {
            return None;
        };
        if error.is_none() {
            return Some(Failure { of, status, error: None });
        }
        let [kind, message, stack] = self.error.read(&error)?;
        let error = Some(Told(kind, message, (!repeated).then_some(stack)));
        Some(Failure { of, status, error })
    }
}
