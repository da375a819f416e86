//! A set of 64-bit numbers in 14 bytes each: an open table whose places are not far from where a number belongs.

use crate::huge_pages::advise;
use ahash::RandomState;
use pyo3::exceptions::PyMemoryError;
use pyo3::PyResult;

const EMPTY: u64 = 0; // the number 0 has a field of its own
const LEAST: usize = 64;
const AHEAD: usize = 16;

/// Never more than 7/8 full. `hash` differs from process to process: nobody can make numbers that collide.
pub struct IdTable {
    slots: Vec<u64>,
    count: usize,
    zero: bool,
    hash: RandomState,
}

impl IdTable {
    /// With room for `most`, and 17/16 of them without much of a search. MemoryError if there is none.
    pub fn new(most: usize) -> PyResult<Self> {
        let mut table = Self { slots: Vec::new(), count: 0, zero: false, hash: RandomState::new() };
        table.resize(most)?;
        Ok(table)
    }

    /// Makes room for so many more.
    pub fn reserve(&mut self, more: usize) -> PyResult<()> {
        let wanted = self.count.saturating_add(more);
        if wanted > self.slots.len() / 8 * 7 {
            self.resize(wanted.saturating_add(self.count / 4))?;
        }
        Ok(())
    }

    /// Adds the numbers, for which there is room, in their order until one is there already; gives how many.
    pub fn add_new(&mut self, ids: &[u64]) -> usize {
        for (place, id) in ids.iter().enumerate() {
            self.fetch(ids.get(place + AHEAD));
            if !self.insert(*id) {
                return place;
            }
        }
        ids.len()
    }

    /// Adds the numbers, for which there is room, where they are not there yet.
    pub fn add_all(&mut self, mut ids: &[u64]) {
        while !ids.is_empty() {
            ids = ids.get(self.add_new(ids) + 1..).unwrap_or_default();
        }
    }

    /// Adds one for which there is room; false if it is there.
    #[inline]
    pub fn insert(&mut self, id: u64) -> bool {
        if id == EMPTY {
            return !std::mem::replace(&mut self.zero, true);
        }
        let mut at = self.home(id);
        while self.slots[at] != EMPTY {
            if self.slots[at] == id {
                return false;
            }
            at = self.after(at);
        }
        self.slots[at] = id;
        self.count += 1;
        true
    }

    pub fn remove_all(&mut self, ids: &[u64]) {
        for (place, id) in ids.iter().enumerate() {
            self.fetch(ids.get(place + AHEAD));
            self.remove(*id);
        }
    }

    fn remove(&mut self, id: u64) {
        if id == EMPTY {
            self.zero = false;
            return;
        }
        let mut free = self.home(id);
        while self.slots[free] != id {
            if self.slots[free] == EMPTY {
                return;
            }
            free = self.after(free);
        }
        let mut at = free; // those behind it that belong further ahead move up
        loop {
            at = self.after(at);
            let next = self.slots[at];
            if next == EMPTY {
                break;
            }
            if self.distance(self.home(next), at) >= self.distance(free, at) {
                self.slots[free] = next;
                free = at;
            }
        }
        self.slots[free] = EMPTY;
        self.count -= 1;
    }

    fn resize(&mut self, most: usize) -> PyResult<()> {
        let size = most.checked_mul(7).map_or(usize::MAX, |most| most / 4).max(LEAST);
        let mut slots = Vec::new();
        slots.try_reserve_exact(size).map_err(|error| PyMemoryError::new_err(error.to_string()))?;
        advise(slots.spare_capacity_mut());
        slots.resize(size, EMPTY);
        self.count = 0;
        for id in std::mem::replace(&mut self.slots, slots) {
            if id != EMPTY {
                self.insert(id);
            }
        }
        Ok(())
    }

    #[inline]
    fn home(&self, id: u64) -> usize {
        ((u128::from(self.hash.hash_one(id)) * self.slots.len() as u128) >> 64) as usize
    }

    #[inline]
    fn after(&self, at: usize) -> usize {
        if at + 1 == self.slots.len() {
            0
        } else {
            at + 1
        }
    }

    #[inline]
    fn distance(&self, from: usize, to: usize) -> usize {
        if to >= from {
            to - from
        } else {
            to + self.slots.len() - from
        }
    }

    /// Has the place of a number fetched into the cache: a table of a million is far away.
    #[inline]
    fn fetch(&self, id: Option<&u64>) {
        #[cfg(target_arch = "x86_64")]
        if let Some(id) = id {
            let place = &raw const self.slots[self.home(*id)];
            // SAFETY: a prefetch does nothing that could be seen.
            unsafe { std::arch::x86_64::_mm_prefetch::<{ std::arch::x86_64::_MM_HINT_T0 }>(place.cast()) };
        }
    }
}
