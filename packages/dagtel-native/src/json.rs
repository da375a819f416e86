//! JSON text, byte for byte as msgspec writes it.

/// 0: as it is; 1: `\u00xx`; else the letter behind the backslash.
const ESCAPES: [u8; 256] = {
    let mut table = [0; 256];
    let mut byte = 0;
    while byte < 0x20 {
        table[byte] = 1;
        byte += 1;
    }
    table[0x08] = b'b';
    table[0x09] = b't';
    table[0x0a] = b'n';
    table[0x0c] = b'f';
    table[0x0d] = b'r';
    table[b'"' as usize] = b'"';
    table[b'\\' as usize] = b'\\';
    table
};
const DIGITS: &[u8; 16] = b"0123456789abcdef";
const WORD: usize = 8;

/// The text in quotes.
#[inline]
pub fn string(out: &mut Vec<u8>, text: &[u8]) {
    out.push(b'"');
    escaped(out, text);
    out.push(b'"');
}

/// The text as it stands between quotes.
#[inline]
pub fn escaped(out: &mut Vec<u8>, text: &[u8]) {
    escape::<false>(out, text);
}

/// The text as it stands between quotes in JSON that stands between quotes itself.
#[inline]
pub fn escaped_twice(out: &mut Vec<u8>, text: &[u8]) {
    escape::<true>(out, text);
}

#[inline]
fn escape<const TWICE: bool>(out: &mut Vec<u8>, mut text: &[u8]) {
    loop {
        let (plain, rest) = text.split_at(plain_bytes(text));
        out.extend_from_slice(plain);
        let Some((&byte, rest)) = rest.split_first() else { return };
        let escape = ESCAPES[byte as usize];
        out.extend_from_slice(if TWICE { b"\\\\" } else { b"\\" });
        if escape == 1 {
            out.extend_from_slice(&[b'u', b'0', b'0', DIGITS[(byte >> 4) as usize], DIGITS[(byte & 15) as usize]]);
        } else if TWICE && matches!(escape, b'"' | b'\\') {
            out.extend_from_slice(&[b'\\', escape]);
        } else {
            out.push(escape);
        }
        text = rest;
    }
}

/// So many of its first bytes need no escape. Eight are looked at at once.
#[inline]
fn plain_bytes(text: &[u8]) -> usize {
    let (words, rest) = text.as_chunks();
    for (place, word) in words.iter().enumerate() {
        let marks = marks(*word);
        if marks != 0 {
            return place * WORD + marks.trailing_zeros() as usize / WORD;
        }
    }
    let before = text.len() - rest.len();
    match text.last_chunk() {
        Some(word) if marks(*word) == 0 => text.len(),
        _ => before + rest.iter().position(|&byte| ESCAPES[byte as usize] != 0).unwrap_or(rest.len()),
    }
}

/// 0 where none of the bytes needs an escape, else the lowest bit that is set is the highest of the first that does.
#[inline]
fn marks(bytes: [u8; WORD]) -> u64 {
    const ONES: u64 = u64::MAX / 0xff;
    let word = u64::from_le_bytes(bytes);
    // What a subtraction borrows spoils bytes above one that is below the limit, never one before it.
    let below = |word: u64, limit: u8| word.wrapping_sub(ONES * u64::from(limit)) & !word;
    let holds = |byte: u8| below(word ^ (ONES * u64::from(byte)), 1);
    (below(word, 0x20) | holds(b'"') | holds(b'\\')) & (ONES << 7)
}

/// An integer of 64 bits.
#[inline]
pub fn integer(out: &mut Vec<u8>, value: i64) {
    // A Vec takes every byte, and an integer has no way to fail.
    let _ = serde_json::to_writer(out, &value);
}

/// A float: the fewest digits that mean it, no `+` before an exponent as serde_json has it; null for no number.
pub fn float(out: &mut Vec<u8>, value: f64) {
    if value.is_finite() {
        out.extend_from_slice(ryu::Buffer::new().format_finite(value).as_bytes());
    } else {
        out.extend_from_slice(b"null");
    }
}
