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

/// So many of its first bytes need no escape.
#[inline]
fn plain_bytes(text: &[u8]) -> usize {
    let (mut plain, mut rest) = (0, text);
    while let Some((step, further)) = rest.split_first_chunk::<16>() {
        if !all_plain(step) {
            return plain + plain_one_by_one(step);
        }
        (plain, rest) = (plain + 16, further);
    }
    // what is left is seen with what stands before it, too
    let left = if rest.is_empty() {
        true
    } else if let Some(last) = text.last_chunk::<16>() {
        all_plain(last)
    } else if let (Some(first), Some(last)) = (text.first_chunk::<8>(), text.last_chunk::<8>()) {
        all_plain(first) && all_plain(last)
    } else {
        false
    };
    if left {
        text.len()
    } else {
        plain + plain_one_by_one(rest)
    }
}

/// Compares them at once.
#[inline]
fn all_plain<const N: usize>(bytes: &[u8; N]) -> bool {
    bytes.iter().fold(0, |any, &byte| any | u8::from(byte < 0x20) | u8::from(byte == b'"') | u8::from(byte == b'\\'))
        == 0
}

#[inline]
fn plain_one_by_one(text: &[u8]) -> usize {
    text.iter().position(|&byte| ESCAPES[byte as usize] != 0).unwrap_or(text.len())
}

/// The integer.
#[inline]
pub fn integer(out: &mut Vec<u8>, number: i64) -> bool {
    serde_json::to_writer(out, &number).is_ok()
}

/// The float, with the fewest digits that say it; null for one that is no number.
#[inline]
pub fn float(out: &mut Vec<u8>, number: f64) -> bool {
    let start = out.len();
    let written = serde_json::to_writer(&mut *out, &number).is_ok();
    if let Some(plus) = out[start..].iter().position(|&byte| byte == b'+') {
        out.remove(start + plus); // msgspec has 1e16 where serde_json has 1e+16
    }
    written
}
