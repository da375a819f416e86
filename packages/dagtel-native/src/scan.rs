//! One pass over a JSON text that says where values stand, and that all of it is JSON.
//!
//! An event is a kilobyte of which a few fields are read, so most of reading one is finding the ends of strings. Source:
//! RFC 8259. What is nested deeper than `DEEPEST` is refused.

use std::borrow::Cow;

pub const DEEPEST: usize = 1024;

/// Stands somewhere in the text. Each step gives None for what is no JSON.
pub struct Scanner<'a> {
    text: &'a str,
    at: usize,
}

/// A string as it stands between its quotes.
#[derive(Clone, Copy)]
pub struct Quoted<'a> {
    inner: &'a str,
    escaped: bool,
}

impl<'a> Quoted<'a> {
    /// What it says. None for half of a surrogate pair.
    #[inline]
    pub fn text(self) -> Option<Cow<'a, str>> {
        if self.escaped {
            unescaped(self.inner).map(Cow::Owned)
        } else {
            Some(Cow::Borrowed(self.inner))
        }
    }

    /// The same of a string without escapes; None for one with some.
    #[inline]
    pub fn plain(self) -> Option<&'a str> {
        (!self.escaped).then_some(self.inner)
    }

    /// Whether it says nothing.
    #[inline]
    pub fn is_empty(self) -> bool {
        self.inner.is_empty()
    }
}

impl<'a> Scanner<'a> {
    pub fn new(text: &'a str) -> Self {
        Self { text, at: 0 }
    }

    #[inline]
    fn bytes(&self) -> &'a [u8] {
        self.text.as_bytes()
    }

    /// The next byte that is no white space, and stands before it.
    #[inline]
    pub fn peek(&mut self) -> Option<u8> {
        loop {
            let byte = *self.bytes().get(self.at)?;
            if !matches!(byte, b' ' | b'\n' | b'\t' | b'\r') {
                return Some(byte);
            }
            self.at += 1;
        }
    }

    #[inline]
    fn take(&mut self, byte: u8) -> Option<()> {
        (self.peek()? == byte).then(|| self.at += 1)
    }

    /// Nothing but white space is left.
    pub fn is_at_end(&mut self) -> bool {
        self.peek().is_none()
    }

    /// The fields of an object: `each(name, scanner)` goes past a field's value. A name with escapes is "".
    #[inline]
    pub fn object(&mut self, mut each: impl FnMut(&'a str, &mut Self) -> Option<()>) -> Option<()> {
        self.object_of(|name, at| each(name.plain().unwrap_or(""), at))
    }

    /// The same with names as they are written.
    #[inline]
    pub fn object_of(&mut self, mut each: impl FnMut(Quoted<'a>, &mut Self) -> Option<()>) -> Option<()> {
        self.items(b'{', b'}', |at| {
            let name = at.string()?;
            at.take(b':')?;
            each(name, at)
        })
    }

    /// The items of an array: `each(scanner)` goes past one.
    #[inline]
    pub fn array(&mut self, each: impl FnMut(&mut Self) -> Option<()>) -> Option<()> {
        self.items(b'[', b']', each)
    }

    #[inline]
    fn items(&mut self, open: u8, close: u8, mut each: impl FnMut(&mut Self) -> Option<()>) -> Option<()> {
        self.take(open)?;
        if self.peek()? == close {
            self.at += 1;
            return Some(());
        }
        loop {
            each(self)?;
            let byte = self.peek()?;
            self.at += 1;
            if byte == close {
                return Some(());
            }
            if byte != b',' {
                return None;
            }
        }
    }

    /// A string.
    #[inline]
    pub fn string(&mut self) -> Option<Quoted<'a>> {
        self.take(b'"')?;
        let (start, bytes) = (self.at, self.bytes());
        let mut escaped = false;
        loop {
            self.at = special(bytes, self.at)?;
            match bytes[self.at] {
                b'"' => break,
                b'\\' => {
                    escaped = true;
                    self.at += escape(&bytes[self.at..])?;
                }
                _ => return None, // a control character
            }
        }
        let inner = self.text.get(start..self.at)?;
        self.at += 1;
        Some(Quoted { inner, escaped })
    }

    /// A string or null.
    #[inline]
    pub fn string_or_null(&mut self) -> Option<Option<Quoted<'a>>> {
        if self.peek()? == b'n' {
            self.word(b"null")?;
            return Some(None);
        }
        self.string().map(Some)
    }

    /// A number, as it is written.
    pub fn number(&mut self) -> Option<&'a str> {
        self.peek()?;
        let start = self.at;
        self.skip_number()?;
        self.text.get(start..self.at)
    }

    /// Any value, as it is written.
    #[inline]
    pub fn value(&mut self) -> Option<&'a str> {
        self.peek()?;
        let start = self.at;
        self.skip()?;
        self.text.get(start..self.at)
    }

    /// Goes past any value.
    pub fn skip(&mut self) -> Option<()> {
        let mut nested = Nested::default();
        loop {
            match self.peek()? {
                b'"' => {
                    self.string()?;
                }
                b'{' => {
                    self.at += 1;
                    if self.peek()? != b'}' {
                        nested.enter(true)?;
                        self.name()?;
                        continue;
                    }
                    self.at += 1;
                }
                b'[' => {
                    self.at += 1;
                    if self.peek()? != b']' {
                        nested.enter(false)?;
                        continue;
                    }
                    self.at += 1;
                }
                b't' => self.word(b"true")?,
                b'f' => self.word(b"false")?,
                b'n' => self.word(b"null")?,
                _ => self.skip_number()?,
            }
            loop {
                if nested.depth == 0 {
                    return Some(());
                }
                let (is_object, byte) = (nested.is_object(), self.peek()?);
                self.at += 1;
                match byte {
                    b',' => {
                        if is_object {
                            self.name()?;
                        }
                        break;
                    }
                    b'}' if is_object => nested.depth -= 1,
                    b']' if !is_object => nested.depth -= 1,
                    _ => return None,
                }
            }
        }
    }

    #[inline]
    fn name(&mut self) -> Option<()> {
        self.string()?;
        self.take(b':')
    }

    #[inline]
    fn word(&mut self, word: &[u8]) -> Option<()> {
        self.bytes()[self.at..].starts_with(word).then(|| self.at += word.len())
    }

    fn skip_number(&mut self) -> Option<()> {
        let bytes = self.bytes();
        let digits = |from: usize| from + bytes[from..].iter().take_while(|byte| byte.is_ascii_digit()).count();
        let some = |from: usize| Some(digits(from)).filter(|&end| end > from);
        let mut at = self.at + usize::from(bytes[self.at] == b'-');
        at = if bytes.get(at) == Some(&b'0') { at + 1 } else { some(at)? };
        if bytes.get(at) == Some(&b'.') {
            at = some(at + 1)?;
        }
        if matches!(bytes.get(at), Some(b'e' | b'E')) {
            at = some(at + 1 + usize::from(matches!(bytes.get(at + 1), Some(b'+' | b'-'))))?;
        }
        self.at = at;
        Some(())
    }
}

/// Whether what we are in are objects or arrays, a bit each.
#[derive(Default)]
struct Nested {
    bits: [u64; DEEPEST / 64],
    depth: usize,
}

impl Nested {
    #[inline]
    fn enter(&mut self, is_object: bool) -> Option<()> {
        let bits = self.bits.get_mut(self.depth / 64)?;
        let bit = 1 << (self.depth % 64);
        *bits = if is_object { *bits | bit } else { *bits & !bit };
        self.depth += 1;
        Some(())
    }

    /// Of the innermost; there has to be one.
    #[inline]
    fn is_object(&self) -> bool {
        let place = self.depth - 1;
        self.bits[place / 64] & (1 << (place % 64)) != 0
    }
}

/// The next place of a quote, a backslash or a control character.
#[inline]
fn special(bytes: &[u8], from: usize) -> Option<usize> {
    let mut at = from;
    #[cfg(target_arch = "x86_64")]
    while let Some(block) = bytes.get(at..at + 16) {
        use std::arch::x86_64::*;
        // SAFETY: of the target's baseline, SSE2; `block` holds 16 bytes, which need not be aligned.
        let found = unsafe {
            let block = _mm_loadu_si128(block.as_ptr().cast());
            let quotes = _mm_cmpeq_epi8(block, _mm_set1_epi8(b'"' as i8));
            let escapes = _mm_cmpeq_epi8(block, _mm_set1_epi8(b'\\' as i8));
            let last = _mm_set1_epi8(0x1f);
            let controls = _mm_cmpeq_epi8(_mm_max_epu8(block, last), last);
            _mm_movemask_epi8(_mm_or_si128(_mm_or_si128(quotes, escapes), controls))
        };
        if found != 0 {
            return Some(at + found.trailing_zeros() as usize);
        }
        at += 16;
    }
    bytes[at..].iter().position(|byte| matches!(byte, b'"' | b'\\' | 0..=0x1f)).map(|further| at + further)
}

/// How long the escape is that the text begins with.
#[inline]
fn escape(text: &[u8]) -> Option<usize> {
    match text.get(1)? {
        b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't' => Some(2),
        b'u' => text.get(2..6)?.iter().all(u8::is_ascii_hexdigit).then_some(6),
        _ => None,
    }
}

/// A checked string without its escapes.
fn unescaped(inner: &str) -> Option<String> {
    let mut text = String::with_capacity(inner.len());
    let mut rest = inner;
    while let Some(at) = memchr::memchr(b'\\', rest.as_bytes()) {
        text.push_str(&rest[..at]);
        let mut length = 2;
        text.push(match rest.as_bytes().get(at + 1)? {
            b'b' => '\x08',
            b'f' => '\x0c',
            b'n' => '\n',
            b'r' => '\r',
            b't' => '\t',
            b'u' => {
                let unit = |from: usize| u32::from_str_radix(rest.get(from..from + 4)?, 16).ok();
                let first = unit(at + 2)?;
                length = 6;
                if matches!(first, 0xd800..=0xdbff) && rest.get(at + 6..at + 8)? == "\\u" {
                    let second = unit(at + 8).filter(|unit| matches!(unit, 0xdc00..=0xdfff))?;
                    length = 12;
                    char::from_u32(0x10000 + ((first - 0xd800) << 10) + (second - 0xdc00))?
                } else {
                    char::from_u32(first)?
                }
            }
            &same => same.into(),
        });
        rest = &rest[at + length..];
    }
    text.push_str(rest);
    Some(text)
}
