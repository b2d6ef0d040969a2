//! What a test compares with. A date or a number stands for all that it may mean: `2024-05` for the whole
//! month, `12` megapixels for what is rounded to 12; so each is an interval, and `>` begins behind it.

use super::Bounds;
use super::parse::Operator;

/// What is wrong, and what would be right.
pub(super) type Wrong = (String, String);

/// The first value that is meant, and the first behind it.
type Interval<T> = (T, T);

/// The bounds that an operator makes of a value, or of a range `A..B` with both ends included.
pub(super) fn bounds<T>(
    value: &str,
    operator: Operator,
    read: fn(&str) -> Result<Interval<T>, Wrong>,
) -> Result<Bounds<T>, Wrong> {
    if let Some((first, last)) = value.split_once("..") {
        if !matches!(operator, Operator::Is | Operator::IsNot) {
            let reason = format!("the range `{value}` cannot be below or above");
            return Err((reason, "compare with one value, or write `:` before the range".into()));
        }
        let end = |text: &str| match text {
            "" => Ok(None),
            text => read(text).map(Some),
        };
        let (first, last) = (end(first)?, end(last)?);
        if first.is_none() && last.is_none() {
            return Err(("a range needs an end".into(), "write A..B, A.. or ..B".into()));
        }
        return Ok(Bounds { from: first.map(|i| i.0), below: last.map(|i| i.1) });
    }
    let (start, behind) = read(value)?;
    Ok(match operator {
        Operator::Is | Operator::IsNot => Bounds { from: Some(start), below: Some(behind) },
        Operator::Below => Bounds { from: None, below: Some(start) },
        Operator::AtMost => Bounds { from: None, below: Some(behind) },
        Operator::Above => Bounds { from: Some(behind), below: None },
        Operator::AtLeast => Bounds { from: Some(start), below: None },
    })
}

/// `2024`, `2024-05`, `2024-05-03`, `2024-05-03T14`, `…T14:30`, `…T14:30:15`; a space may stand for the T.
///
/// The catalog's times are ISO 8601 texts, which sort as time does; all that begins with the value lies
/// between it and itself with a `~`, which follows all of their characters.
pub(super) fn date(text: &str) -> Result<Interval<String>, Wrong> {
    let wrong = || {
        let remedy =
            "write 2024, 2024-05, 2024-05-03, 2024-05-03T14:30, or a range of them with `..`";
        (format!("`{text}` is no date"), remedy.to_owned())
    };
    let iso = text.replacen(' ', "T", 1).to_ascii_uppercase();
    let (day, time) = iso.split_once('T').map_or((&*iso, None), |(day, time)| (day, Some(time)));
    let numbers = |text: &str, sign: char, widths: &[usize]| -> Option<Vec<u32>> {
        let parts: Vec<&str> = text.split(sign).collect();
        let fits = |(part, width): (&&str, &usize)| {
            part.len() == *width && part.bytes().all(|b| b.is_ascii_digit())
        };
        let all = parts.len() <= widths.len() && parts.iter().zip(widths).all(fits);
        all.then(|| parts.iter().filter_map(|part| part.parse().ok()).collect())
    };
    let day = numbers(day, '-', &[4, 2, 2]).ok_or_else(wrong)?;
    let clock = time.map(|time| numbers(time, ':', &[2, 2, 2]).ok_or_else(wrong)).transpose()?;
    let (year, month) = (day[0], day.get(1).copied().unwrap_or(1));
    let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let days = match month {
        2 => 28 + u32::from(leap),
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    };
    let exists = (1..=12).contains(&month) && (1..=days).contains(day.get(2).unwrap_or(&1));
    let ticks = clock.iter().flatten().zip([24, 60, 61]).all(|(value, limit)| *value < limit);
    if !exists || !ticks || (clock.is_some() && day.len() < 3) {
        return Err(wrong());
    }
    let behind = format!("{iso}~");
    Ok((iso, behind))
}

/// A whole number.
pub(super) fn whole(text: &str) -> Result<Interval<f64>, Wrong> {
    let number: Option<i32> = text.trim_end_matches("px").parse().ok();
    let number = number.map(f64::from);
    let wrong =
        || (format!("`{text}` is no whole number"), "write one, or a range with `..`".into());
    number.map(|n| (n, n + 1.0)).ok_or_else(wrong)
}

/// A number, with all that is rounded to it when written with as many digits.
pub(super) fn rounded(text: &str) -> Result<Interval<f64>, Wrong> {
    let number = text.to_ascii_lowercase();
    let number = number.trim_end_matches("mp");
    let digits = number.bytes().all(|b| b.is_ascii_digit() || b == b'.');
    let value: Option<f64> = number.parse().ok().filter(|_| digits);
    let decimals = number.split_once('.').map_or(0, |(_, decimals)| decimals.len());
    let half = 0.5 / 10f64.powi(i32::try_from(decimals).unwrap_or(0));
    let wrong = || {
        (format!("`{text}` is no number"), "write one as 12 or 12.2, or a range with `..`".into())
    };
    value.map(|v| (v - half, v + half)).ok_or_else(wrong)
}

/// `48.137,11.575,10km`: latitude and longitude in degrees, and the radius, which is given in metres.
pub(super) fn circle(text: &str) -> Result<(f64, f64, f64), Wrong> {
    let wrong = |reason: String| {
        (reason, "write LATITUDE,LONGITUDE,RADIUS as 48.137,11.575,10km (or m, mi)".to_owned())
    };
    let parts: Vec<&str> = text.split(',').map(str::trim).collect();
    let [latitude, longitude, radius] = parts[..] else {
        return Err(wrong(format!("`{text}` is no circle on the globe")));
    };
    let degrees = |text: &str, limit: f64| {
        let degrees: Option<f64> = text.parse().ok().filter(|d: &f64| d.abs() <= limit);
        degrees.ok_or_else(|| wrong(format!("`{text}` is not within {limit} degrees")))
    };
    let (latitude, longitude) = (degrees(latitude, 90.0)?, degrees(longitude, 180.0)?);
    let radius_lower = radius.to_ascii_lowercase();
    let metres =
        [("km", 1000.0), ("mi", 1609.344), ("m", 1.0)].into_iter().find_map(|(unit, metres)| {
            let number: f64 = radius_lower.strip_suffix(unit)?.trim().parse().ok()?;
            (number.is_finite() && number >= 0.0).then_some(number * metres)
        });
    let metres = metres.ok_or_else(|| wrong(format!("`{radius}` is no radius")))?;
    Ok((latitude, longitude, metres))
}
