//! The header `grpc-timeout`.

use http::HeaderMap;

const DIGITS: usize = 8;

/// Reads the timeout in milliseconds, rounded up and at least 1; 0 if there is none.
///
/// # Errors
///
/// The header is malformed.
pub fn read(headers: &HeaderMap) -> Result<u64, &'static str> {
    const MALFORMED: &str = "grpc-timeout: malformed; use up to eight digits and one of H, M, S, m, u, n";
    let Some(value) = headers.get("grpc-timeout") else { return Ok(0) };
    let (unit, digits) = value.as_bytes().split_last().ok_or(MALFORMED)?;
    if digits.is_empty() || digits.len() > DIGITS || !digits.iter().all(u8::is_ascii_digit) {
        return Err(MALFORMED);
    }
    let number = digits.iter().fold(0, |number, digit| number * 10 + u64::from(digit - b'0'));
    let milliseconds = match unit {
        b'H' => number * 3_600_000,
        b'M' => number * 60_000,
        b'S' => number * 1_000,
        b'm' => number,
        b'u' => number.div_ceil(1_000),
        b'n' => number.div_ceil(1_000_000),
        _ => return Err(MALFORMED),
    };
    Ok(milliseconds.max(1))
}

/// Writes a timeout in milliseconds, rounded up where eight digits do not suffice.
#[must_use]
pub fn write(milliseconds: u64) -> String {
    const MOST: u64 = 10_u64.pow(8) - 1;
    for (factor, unit) in [(1, 'm'), (1_000, 'S'), (60_000, 'M'), (3_600_000, 'H')] {
        let number = milliseconds.div_ceil(factor);
        if number <= MOST {
            return format!("{number}{unit}");
        }
    }
    format!("{MOST}H")
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

    fn of(text: &'static str) -> Result<u64, &'static str> {
        let mut headers = HeaderMap::new();
        headers.insert("grpc-timeout", HeaderValue::from_static(text));
        read(&headers)
    }

    #[test]
    fn every_unit_is_read_as_milliseconds() {
        assert_eq!(of("2H"), Ok(7_200_000));
        assert_eq!(of("3M"), Ok(180_000));
        assert_eq!(of("4S"), Ok(4_000));
        assert_eq!(of("5m"), Ok(5));
        assert_eq!(of("6001u"), Ok(7));
        assert_eq!(of("99999999n"), Ok(100));
        assert_eq!(of("99999999H"), Ok(359_999_996_400_000));
    }

    #[test]
    fn a_timeout_that_has_passed_is_not_taken_for_none() {
        assert_eq!(of("0n"), Ok(1));
        assert_eq!(read(&HeaderMap::new()), Ok(0));
    }

    #[test]
    fn malformed_timeouts_are_refused() {
        for text in ["", "S", "5", "5s", "-5S", "123456789S", "5 S", "+5S"] {
            assert!(of(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_written_timeout_is_never_shorter() {
        for milliseconds in [1, 999, 99_999_999, 100_000_000, 123_456_789_012, u64::MAX] {
            let mut headers = HeaderMap::new();
            headers.insert("grpc-timeout", HeaderValue::try_from(write(milliseconds)).unwrap());
            assert!(read(&headers).unwrap() >= milliseconds.min(359_999_996_400_000), "{milliseconds}");
        }
    }
}
