//! For `pipeline.runtime.allocator`: memory in pages of 2 MiB, of which the processor keeps more in its table than of
//! pages of 4 KiB. A batch and what is remembered beside it are some 60 MiB, and each is looked at again by each stage.

use pyo3::prelude::*;

/// Has the interpreter take the memory of its objects in huge pages from now on; False where there are none.
#[pyfunction]
pub fn arenas_in_huge_pages() -> bool {
    imp::install()
}

/// Says that these numbers are better off in huge pages, before they are first touched. Where there are none: nothing.
pub fn advise<T>(room: &[std::mem::MaybeUninit<T>]) {
    imp::advise(room.as_ptr() as usize, std::mem::size_of_val(room));
}

#[cfg(target_os = "linux")]
mod imp {
    use pyo3::ffi::{PyObjectArenaAllocator, PyObject_GetArenaAllocator, PyObject_SetArenaAllocator};
    use std::ffi::c_void;
    use std::ptr::null_mut;
    use std::sync::{Mutex, MutexGuard, PoisonError};

    const HUGE: usize = 2 << 20;
    const KEPT: usize = 2 << 20; // bytes of pages nobody uses that are not given back

    /// Where nothing of ours has room, as the interpreter took it before.
    struct Before(PyObjectArenaAllocator);

    // SAFETY: what the pointers of the interpreter's own allocator stand for is there as long as the process.
    unsafe impl Send for Before {}

    /// Pages cut into arenas of equal size, which is a power of two and at most a page's.
    struct Arenas {
        before: Option<Before>,
        size: usize,
        free: Vec<usize>,
        pages: Vec<usize>, // of ours, sorted
    }

    static ARENAS: Mutex<Arenas> = Mutex::new(Arenas { before: None, size: 0, free: Vec::new(), pages: Vec::new() });

    fn arenas() -> MutexGuard<'static, Arenas> {
        ARENAS.lock().unwrap_or_else(PoisonError::into_inner)
    }

    impl Arenas {
        fn take(&mut self) -> Option<usize> {
            if self.free.is_empty() {
                let page = new_page()?;
                let place = self.pages.partition_point(|other| *other < page);
                self.pages.insert(place, page);
                self.free.extend((page..page + HUGE).step_by(self.size).rev());
            }
            self.free.pop()
        }

        /// Whether it was ours.
        fn give(&mut self, arena: usize) -> bool {
            let page = arena & !(HUGE - 1);
            let Ok(place) = self.pages.binary_search(&page) else {
                return false;
            };
            self.free.push(arena);
            if self.free.len() * self.size > KEPT {
                let others = self.free.iter().filter(|other| **other & !(HUGE - 1) == page).count();
                if others * self.size == HUGE {
                    self.free.retain(|other| other & !(HUGE - 1) != page);
                    self.pages.remove(place);
                    unmap(page, HUGE);
                }
            }
            true
        }
    }

    pub fn install() -> bool {
        let mut arenas = arenas();
        if arenas.before.is_some() {
            return true;
        }
        let Some(page) = new_page() else { return false };
        unmap(page, HUGE);
        let mut before = PyObjectArenaAllocator { ctx: null_mut(), alloc: None, free: None };
        let mut ours = PyObjectArenaAllocator { ctx: null_mut(), alloc: Some(alloc), free: Some(free) };
        // SAFETY: called with the interpreter's lock; `free` hands back what was taken before to who gave it.
        unsafe {
            PyObject_GetArenaAllocator(&raw mut before);
            arenas.before = Some(Before(before));
            PyObject_SetArenaAllocator(&raw mut ours);
        }
        true
    }

    extern "C" fn alloc(_: *mut c_void, size: usize) -> *mut c_void {
        let mut arenas = arenas();
        if arenas.size == 0 && size.is_power_of_two() && size <= HUGE {
            arenas.size = size; // all are alike
        }
        let taken = if size == arenas.size { arenas.take() } else { None };
        match (taken, &arenas.before) {
            (Some(arena), _) => arena as *mut c_void,
            (None, Some(Before(PyObjectArenaAllocator { ctx, alloc: Some(alloc), .. }))) => alloc(*ctx, size),
            _ => null_mut(),
        }
    }

    extern "C" fn free(_: *mut c_void, arena: *mut c_void, size: usize) {
        let mut arenas = arenas();
        if arenas.give(arena as usize) {
            return;
        }
        if let Some(Before(PyObjectArenaAllocator { ctx, free: Some(free), .. })) = &arenas.before {
            free(*ctx, arena, size);
        }
    }

    /// Of HUGE bytes, where such a page may lie; None if there is no room or no such page.
    fn new_page() -> Option<usize> {
        let (protection, kind) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS);
        // SAFETY: a new mapping, which touches no other.
        let start = unsafe { libc::mmap(null_mut(), 2 * HUGE, protection, kind, -1, 0) };
        if start == libc::MAP_FAILED {
            return None;
        }
        let (start, page) = (start as usize, (start as usize).next_multiple_of(HUGE));
        unmap(start, page - start);
        unmap(page + HUGE, start + HUGE - page);
        if advise(page, HUGE) {
            return Some(page);
        }
        unmap(page, HUGE);
        None
    }

    pub fn advise(start: usize, size: usize) -> bool {
        let (first, end) = (start.next_multiple_of(HUGE), (start + size) & !(HUGE - 1));
        // SAFETY: advice changes nothing that could be seen.
        first < end && unsafe { libc::madvise(first as *mut c_void, end - first, libc::MADV_HUGEPAGE) } == 0
    }

    fn unmap(start: usize, size: usize) {
        if size > 0 {
            // SAFETY: of a mapping of ours, in which nothing lies.
            unsafe { libc::munmap(start as *mut c_void, size) };
        }
    }
}

#[cfg(not(target_os = "linux"))]
mod imp {
    pub fn install() -> bool {
        false
    }

    pub fn advise(_: usize, _: usize) {}
}
