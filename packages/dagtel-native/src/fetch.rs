//! Asking for memory before it is read: a batch and the answer it lies in are larger than a core's cache.

const LINE: usize = 64; // bytes, of the cache

/// Has what lies there fetched into the cache.
#[inline]
pub fn fetch(place: *const i8) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: a prefetch of any address, null too, does nothing that could be seen.
    unsafe {
        std::arch::x86_64::_mm_prefetch::<{ std::arch::x86_64::_MM_HINT_T0 }>(place);
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = place;
}

/// The same of all these bytes.
#[inline]
pub fn fetch_all(bytes: &[u8]) {
    for line in bytes.chunks(LINE) {
        fetch(line.as_ptr().cast());
    }
}
