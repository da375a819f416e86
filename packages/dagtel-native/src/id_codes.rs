//! `processors.id_codes`: ids of a chunk as they are stored, in MessagePack.
//!
//! Source: https://github.com/msgpack/msgpack/blob/master/spec.md.

const BYTES: usize = size_of::<u64>();

/// The steps from one to the next in order, or where that is no shorter, the ids as they stand.
pub fn encoded(ids: &[u64]) -> Vec<u8> {
    let mut ordered = ids.to_vec();
    ordered.sort_unstable();
    let mut steps = Vec::with_capacity(ids.len() * 2);
    head(&mut steps, ids.len(), [(15, 0x90), (0xffff, 0xdc), (0xffff_ffff, 0xdd)]);
    let mut before = 0;
    for id in ordered {
        step(&mut steps, id - before);
        before = id;
    }
    let size = ids.len() * BYTES;
    if steps.len() < size {
        steps.shrink_to_fit();
        return steps;
    }
    let mut plain = Vec::with_capacity(size + 5);
    head(&mut plain, size, [(0xff, 0xc4), (0xffff, 0xc5), (0xffff_ffff, 0xc6)]);
    plain.extend(ids.iter().flat_map(|id| id.to_ne_bytes()));
    plain
}

/// What `encoded` was given, in some order; None for what it did not make.
pub fn decoded(stored: &[u8]) -> Option<Vec<u64>> {
    let (&kind, mut rest) = stored.split_first()?;
    let rest = &mut rest;
    let is_plain = matches!(kind, 0xc4..=0xc6);
    let count = match kind {
        0x90..=0x9f => u64::from(kind & 15),
        0xc4 => number(rest, 1)?,
        0xc5 | 0xdc => number(rest, 2)?,
        0xc6 | 0xdd => number(rest, 4)?,
        _ => return None,
    };
    if is_plain {
        let (ids, torn) = rest.as_chunks::<BYTES>();
        let whole = torn.is_empty() && rest.len() as u64 == count;
        return whole.then(|| ids.iter().map(|id| u64::from_ne_bytes(*id)).collect());
    }
    let mut ids = Vec::with_capacity(rest.len().min(count as usize));
    let mut at = 0_u64;
    for _ in 0..count {
        let step = match number(rest, 1)? {
            few @ 0..=0x7f => few,
            0xcc => number(rest, 1)?,
            0xcd => number(rest, 2)?,
            0xce => number(rest, 4)?,
            0xcf => number(rest, 8)?,
            _ => return None,
        };
        at = at.checked_add(step)?;
        ids.push(at);
    }
    rest.is_empty().then_some(ids)
}

/// How many follow, in the first of three ways in which there is room for the count.
fn head(to: &mut Vec<u8>, count: usize, ways: [(usize, u8); 3]) {
    let count_bytes = (count as u32).to_be_bytes();
    match ways {
        [(most, mark), ..] if count <= most && mark == 0x90 => to.push(mark | count as u8),
        [(most, mark), ..] if count <= most => to.extend([mark, count as u8]),
        [_, (most, mark), _] if count <= most => {
            to.push(mark);
            to.extend(&count_bytes[2..]);
        }
        [.., (_, mark)] => {
            to.push(mark);
            to.extend(count_bytes);
        }
    }
}

#[inline]
fn step(to: &mut Vec<u8>, step: u64) {
    let bytes = step.to_be_bytes();
    let (mark, from) = match step {
        0..=0x7f => return to.push(bytes[7]),
        0x80..=0xff => (0xcc, 7),
        0x100..=0xffff => (0xcd, 6),
        0x1_0000..=0xffff_ffff => (0xce, 4),
        _ => (0xcf, 0),
    };
    to.push(mark);
    to.extend(&bytes[from..]);
}

#[inline]
fn number(from: &mut &[u8], size: usize) -> Option<u64> {
    let (bytes, rest) = from.split_at_checked(size)?;
    *from = rest;
    Some(bytes.iter().fold(0, |number, byte| number << 8 | u64::from(*byte)))
}
