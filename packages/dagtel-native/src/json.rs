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
    let mut start = 0;
    for (at, &byte) in text.iter().enumerate() {
        let escape = ESCAPES[byte as usize];
        if escape != 0 {
            out.extend_from_slice(&text[start..at]);
            start = at + 1;
            if escape == 1 {
                let digits = [DIGITS[(byte >> 4) as usize], DIGITS[(byte & 15) as usize]];
                out.extend_from_slice(b"\\u00");
                out.extend_from_slice(&digits);
            } else {
                out.extend_from_slice(&[b'\\', escape]);
            }
        }
    }
    out.extend_from_slice(&text[start..]);
}

/// An integer of 64 bits.
#[inline]
pub fn integer(out: &mut Vec<u8>, value: i64) {
    // A Vec takes every byte, and an integer has no way to fail.
    let _ = serde_json::to_writer(out, &value);
}

/// A finite float: the fewest digits that mean it, and no `+` before an exponent as serde_json has it.
pub fn float(out: &mut Vec<u8>, value: f64) {
    out.extend_from_slice(ryu::Buffer::new().format_finite(value).as_bytes());
}
