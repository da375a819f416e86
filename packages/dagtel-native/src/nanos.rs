//! Times.

/// Unix seconds as nanoseconds, for the years 2004 to 2038: `receivers.wire_repair.nanos`, which says why.
pub fn nanos(seconds: f64) -> Option<i64> {
    if !(1_073_741_824.0..2_147_483_648.0).contains(&seconds) {
        return None;
    }
    let whole = seconds.trunc();
    let mut tenths = ((seconds - whole) * 1e7).round_ties_even() as i64;
    if matches!(tenths % 10, 1 | 9) {
        let micros = (tenths + 5) / 10;
        if whole + micros as f64 / 1e6 == seconds {
            tenths = micros * 10;
        }
    }
    Some(whole as i64 * 1_000_000_000 + tenths * 100)
}
