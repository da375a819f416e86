//! The fields of a `msgspec.Struct`, read where they lie in the object.
//!
//! A getattr costs 30 ns and an event has 20 fields. msgspec makes each field a slot, whose place its member descriptor
//! tells, as CPython's own `__slots__` do.

use crate::fetch::fetch;
use pyo3::exceptions::PyTypeError;
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyFloat, PyInt, PyIterator, PyString, PyTuple, PyType};

/// `PyMemberDescrObject` of CPython's Include/cpython/descrobject.h, which pyo3-ffi does not have.
#[repr(C)]
struct MemberDescriptor {
    base: ffi::PyObject,
    kind: *mut ffi::PyTypeObject,
    name: *mut ffi::PyObject,
    qualified_name: *mut ffi::PyObject,
    member: *mut ffi::PyMemberDef,
}

/// Where `N` fields of one class lie.
pub struct Slots<const N: usize> {
    kind: Py<PyType>,
    places: [isize; N],
}

impl<const N: usize> Slots<N> {
    /// Of the class, by the fields' names. TypeError for a class that does not keep them in slots.
    pub fn new(kind: &Bound<'_, PyType>, names: [&str; N]) -> PyResult<Self> {
        let mut places = [0; N];
        for (place, name) in places.iter_mut().zip(names) {
            let told = kind.getattr(name)?;
            // what stands before the slot knows it
            let descriptor = told.getattr_opt("slot")?.unwrap_or(told);
            // SAFETY: an object of exactly this type has this layout in CPython 3.11 and later.
            *place = unsafe {
                if ffi::Py_TYPE(descriptor.as_ptr()) != &raw mut ffi::PyMemberDescr_Type {
                    return Err(PyTypeError::new_err(format!("{name} is no slot of {kind}")));
                }
                (*(*descriptor.as_ptr().cast::<MemberDescriptor>()).member).offset
            };
        }
        Ok(Self { kind: kind.clone().unbind(), places })
    }

    /// The fields of an object of exactly this class; None for any other, or where a field is not set.
    #[inline]
    pub fn read<'py>(&self, object: &Bound<'py, PyAny>) -> Option<[Bound<'py, PyAny>; N]> {
        let py = object.py();
        if object.get_type_ptr() != self.kind.as_ptr().cast() {
            return None;
        }
        let mut found = [const { std::ptr::null_mut() }; N];
        for (field, place) in found.iter_mut().zip(self.places) {
            // SAFETY: the object is of the class whose slots these are; a slot holds an object or null.
            *field = unsafe { *object.as_ptr().byte_offset(place).cast::<*mut ffi::PyObject>() };
            if field.is_null() {
                return None;
            }
        }
        // SAFETY: not null, seen above; each is held by the object, and once more by the result.
        Some(found.map(|field| unsafe { Bound::from_borrowed_ptr(py, field) }))
    }

    /// One field of an object of exactly this class, as `read` gives it.
    #[inline]
    pub fn get<'py>(&self, object: &Bound<'py, PyAny>, field: usize) -> Option<Bound<'py, PyAny>> {
        if !self.is_of(object) {
            return None;
        }
        // SAFETY: as in `read`.
        unsafe {
            let found = *object.as_ptr().byte_offset(self.places[field]).cast::<*mut ffi::PyObject>();
            Bound::from_borrowed_ptr_or_opt(object.py(), found)
        }
    }

    /// Whether the object is of exactly this class.
    #[inline]
    pub fn is_of(&self, object: &Bound<'_, PyAny>) -> bool {
        object.get_type_ptr() == self.kind.as_ptr().cast()
    }

    /// Whether a field is this very object, without a look at what else it is; false for an object of another class.
    #[inline]
    pub fn holds(&self, field: usize, object: &Bound<'_, PyAny>, value: &Py<PyAny>) -> bool {
        // SAFETY: as in `read`.
        object.get_type_ptr() == self.kind.as_ptr().cast()
            && unsafe { *object.as_ptr().byte_offset(self.places[field]).cast::<*mut ffi::PyObject>() }
                == value.as_ptr()
    }

    /// Sets a field, as `object.field = value` does; false, and nothing is set, for an object of another class or one
    /// that the garbage collector looks at: it would have to be told. Not for a frozen class.
    #[inline]
    pub fn write(&self, object: &Bound<'_, PyAny>, field: usize, value: &Bound<'_, PyAny>) -> bool {
        // SAFETY: any object has a type.
        let tracked = unsafe { ffi::PyType_HasFeature(object.get_type_ptr(), ffi::Py_TPFLAGS_HAVE_GC) != 0 };
        !tracked && self.put(object, field, value)
    }

    /// The same for an object of any class, but only to a value of which the garbage collector need not be told: a
    /// number, a bool, a text, None, or a tuple of these.
    #[inline]
    pub fn write_plain(&self, object: &Bound<'_, PyAny>, field: usize, value: &Bound<'_, PyAny>) -> bool {
        is_plain(value) && self.put(object, field, value)
    }

    #[inline]
    fn put(&self, object: &Bound<'_, PyAny>, field: usize, value: &Bound<'_, PyAny>) -> bool {
        if !self.is_of(object) {
            return false;
        }
        // SAFETY: as in `read`. The slot takes a reference of its own, and what it held goes once the new one is there:
        // freeing it may run code that looks at the object.
        unsafe {
            let slot = object.as_ptr().byte_offset(self.places[field]).cast::<*mut ffi::PyObject>();
            let old = slot.replace(value.clone().into_ptr());
            drop(Bound::from_owned_ptr_or_opt(object.py(), old));
        }
        true
    }

    /// Has the fields of an object fetched into the cache, for `read` soon after: a batch is far away in memory.
    #[inline]
    pub fn fetch(&self, object: &Bound<'_, PyAny>) {
        if object.get_type_ptr() == self.kind.as_ptr().cast() {
            for place in self.places {
                // SAFETY: as in `read`.
                fetch(unsafe { *object.as_ptr().byte_offset(place).cast::<*const i8>() });
            }
        }
    }
}

/// Whether nothing can refer back from the value, so that it is in no cycle.
#[inline]
fn is_plain(value: &Bound<'_, PyAny>) -> bool {
    is_leaf(value) || value.cast_exact::<PyTuple>().is_ok_and(|items| items.as_slice().iter().all(is_leaf))
}

#[inline]
fn is_leaf(value: &Bound<'_, PyAny>) -> bool {
    value.is_none()
        || value.is_exact_instance_of::<PyInt>()
        || value.is_exact_instance_of::<PyString>()
        || value.is_exact_instance_of::<PyBool>()
        || value.is_exact_instance_of::<PyFloat>()
}

/// Objects that are fetched together: those of a batch are far away in memory, and waited for one by one otherwise.
const NEAR: usize = 16;

/// Takes the next few objects, in place of those before; false at the end.
#[inline]
pub fn next_few<'py>(all: &mut Bound<'py, PyIterator>, few: &mut Vec<Bound<'py, PyAny>>) -> PyResult<bool> {
    few.clear();
    for object in all.take(NEAR) {
        few.push(object?);
    }
    Ok(!few.is_empty())
}

/// A class whose objects are made of their first fields, and of defaults for the others.
///
/// msgspec looks at each argument and at what its class may ask for beside; for a class that asks for none of it, an
/// object is memory with references in it.
pub struct Class {
    kind: Py<PyType>,
    places: Vec<isize>,
    defaults: Vec<Py<PyAny>>, // of the last fields
    least: usize,             // fields that have to be given, for a default of theirs is made anew each time
    in_sight: bool,           // of the garbage collector, where a field is
}

impl Class {
    /// TypeError for a class whose fields are not in slots.
    pub fn new(kind: &Bound<'_, PyType>) -> PyResult<Self> {
        let names: Vec<String> = kind.getattr("__struct_fields__")?.extract()?;
        let defaults: Vec<Py<PyAny>> = kind.getattr("__struct_defaults__")?.extract()?;
        let places = names.iter().map(|name| Ok(Slots::<1>::new(kind, [name])?.places[0]));
        let places: Vec<isize> = places.collect::<PyResult<_>>()?;
        // SAFETY: any class has flags.
        let tracked = unsafe { ffi::PyType_HasFeature(kind.as_type_ptr(), ffi::Py_TPFLAGS_HAVE_GC) != 0 };
        let plain = defaults.iter().rev().take_while(|value| is_plain(value.bind(kind.py()))).count();
        let least = if kind.hasattr("__post_init__")? { usize::MAX } else { places.len() - plain };
        Ok(Self { kind: kind.clone().unbind(), places, defaults, least, in_sight: tracked })
    }

    /// `Class(*fields)`.
    #[inline]
    pub fn make<const N: usize>(&self, py: Python<'_>, fields: [*mut ffi::PyObject; N]) -> PyResult<Py<PyAny>> {
        if N < self.least || N > self.places.len() {
            return make(&self.kind, py, fields);
        }
        let defaults = &self.defaults[N + self.defaults.len() - self.places.len()..];
        // SAFETY: the memory is of the class's size, and zeros, which slots may be; the places are those of its slots;
        // the pointers are of live objects that the caller holds, and each slot gets a reference of its own.
        unsafe {
            let made = ffi::PyType_GenericAlloc(self.kind.as_ptr().cast(), 0);
            let made = Bound::from_owned_ptr_or_err(py, made)?;
            let slot = |place: isize| made.as_ptr().byte_offset(place).cast::<*mut ffi::PyObject>();
            for (field, &place) in fields.into_iter().zip(&self.places) {
                ffi::Py_INCREF(field);
                slot(place).write(field);
            }
            for (value, &place) in defaults.iter().zip(&self.places[N..]) {
                slot(place).write(value.clone_ref(py).into_ptr());
            }
            let mut all = fields.into_iter().chain(defaults.iter().map(Py::as_ptr));
            if self.in_sight && !all.any(|field| is_in_sight(field)) {
                ffi::PyObject_GC_UnTrack(made.as_ptr().cast());
            }
            Ok(made.unbind())
        }
    }
}

/// Whether msgspec has the garbage collector look at an object for this field.
///
/// # Safety
/// The pointer is of a live object.
unsafe fn is_in_sight(field: *mut ffi::PyObject) -> bool {
    ffi::PyObject_IS_GC(field) != 0 && (ffi::PyTuple_CheckExact(field) == 0 || ffi::PyObject_GC_IsTracked(field) != 0)
}

/// An object of a class from its fields in their order: `Class(*fields)` without a tuple.
#[inline]
pub fn make<const N: usize>(kind: &Py<PyType>, py: Python<'_>, fields: [*mut ffi::PyObject; N]) -> PyResult<Py<PyAny>> {
    // SAFETY: the pointers are of live objects that the caller holds.
    unsafe {
        let made = ffi::PyObject_Vectorcall(kind.as_ptr(), fields.as_ptr(), N, std::ptr::null_mut());
        Bound::from_owned_ptr_or_err(py, made).map(Bound::unbind)
    }
}
