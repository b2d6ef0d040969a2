//! Points in time as a person writes them.

/// Seconds since 1970 of `2024-05-01`, its beginning by UTC, or of `2024-05-01T12:30:00Z`, `…+02:00` (RFC 3339).
pub(crate) fn seconds(text: &str) -> Result<i64, String> {
    parse(text).ok_or_else(|| {
        "expected a date, as 2024-05-01 (from midnight, UTC), or a time, as 2024-05-01T12:30:00Z or \
         2024-05-01T12:30:00+02:00"
            .to_owned()
    })
}

fn parse(text: &str) -> Option<i64> {
    let upper = text.trim().to_ascii_uppercase();
    let (date, time) = match upper.split_once(['T', ' ']) {
        Some((date, time)) => (date, Some(time)),
        None => (upper.as_str(), None),
    };
    let [year, month, day] = numbers(date, '-', [4, 2, 2])?;
    let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let days = match month {
        2 => 28 + i64::from(leap),
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    };
    if !(1..=12).contains(&month) || !(1..=days).contains(&day) {
        return None;
    }
    let midnight = days_since_1970(year, month, day) * 86_400;
    let Some(time) = time else { return Some(midnight) };

    let at = time.find(['Z', '+', '-'])?;
    let (clock, offset) = time.split_at(at);
    // Fractions of a second are below what is kept.
    let (clock, fraction) = clock.split_once('.').unwrap_or((clock, "0"));
    if fraction.is_empty() || !fraction.bytes().all(|digit| digit.is_ascii_digit()) {
        return None;
    }
    let [hour, minute, second] = numbers(clock, ':', [2, 2, 2])?;
    if hour > 23 || minute > 59 || second > 60 {
        return None;
    }
    let east = match offset {
        "Z" => 0,
        _ => {
            let [hours, minutes] = numbers(&offset[1..], ':', [2, 2])?;
            let seconds = (hours * 60 + minutes) * 60;
            if offset.starts_with('-') { -seconds } else { seconds }
        }
    };
    Some(midnight + (hour * 60 + minute) * 60 + second - east)
}

/// As many numbers of as many digits.
fn numbers<const N: usize>(text: &str, sign: char, digits: [usize; N]) -> Option<[i64; N]> {
    let parts: Vec<&str> = text.split(sign).collect();
    let fits = |(part, digits): (&&str, &usize)| {
        part.len() == *digits && part.bytes().all(|digit| digit.is_ascii_digit())
    };
    if parts.len() != N || !parts.iter().zip(&digits).all(fits) {
        return None;
    }
    let numbers: Vec<i64> = parts.iter().filter_map(|part| part.parse().ok()).collect();
    numbers.try_into().ok()
}

/// In the calendar of today, also before it was made. By Howard Hinnant, "chrono-compatible low-level date
/// algorithms": years that begin in March, 400 of them an era.
fn days_since_1970(year: i64, month: i64, day: i64) -> i64 {
    let year = year - i64::from(month <= 2);
    let era = year.div_euclid(400);
    let of_era = year.rem_euclid(400);
    let of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_seconds_since_1970() {
        assert_eq!(seconds("1970-01-01"), Ok(0));
        assert_eq!(seconds("2000-02-29"), Ok(951_782_400));
        assert_eq!(seconds("2024-05-01T12:30:00Z"), Ok(1_714_566_600));
        assert_eq!(seconds("2024-05-01t14:30:00.25+02:00"), Ok(1_714_566_600));
        assert_eq!(seconds("2024-05-01 07:00:00-05:30"), Ok(1_714_566_600));
        assert_eq!(seconds("1969-12-31T23:59:59Z"), Ok(-1));
    }

    #[test]
    fn what_is_no_time_is_refused() {
        for text in ["", "yesterday", "2024-13-01", "2023-02-29", "2024-5-1", "2024-05-01T12:30"] {
            assert!(seconds(text).is_err(), "{text}");
        }
        assert!(seconds("2024-05-01T12:30:00").is_err(), "whose noon?");
        assert!(seconds("2024-05-01T24:00:00Z").is_err());
    }
}
