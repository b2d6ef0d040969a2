//! A filter in Milvus's own words.

use super::near::Places;
use super::row::ID;
use crate::filter::{Bounds, Fact, Filter, NumberField, Pattern, Test, TextField};
use crate::record::ImageId;

/// What a server understands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Dialect {
    /// Before 2.4: texts are compared whole or by how they begin.
    Prefixes,
    /// `%` and `_` anywhere, `\` before what stands for itself.
    Patterns,
}

impl Dialect {
    /// By what the server says of itself, as `v2.3.5` or `milvus_lite-3.2.2`.
    pub(super) fn of(version: &str) -> Self {
        let digits = version.trim_start_matches(|c: char| !c.is_ascii_digit());
        let mut numbers = digits.split(|c: char| !c.is_ascii_digit()).map(str::parse::<u32>);
        match (numbers.next(), numbers.next()) {
            (Some(Ok(2)), Some(Ok(minor))) if minor < 4 => Dialect::Prefixes,
            (Some(Ok(0 | 1)), _) => Dialect::Prefixes,
            _ => Dialect::Patterns,
        }
    }
}

/// What a server cannot be asked, for a person: lower case, no full stop.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Untranslatable(pub(super) String);

type Translated = Result<String, Untranslatable>;

/// The expression that is true of the same photos, of each its first file looked at only. `places` holds what lies
/// within its circles.
///
/// # Errors
/// [`Untranslatable`] for patterns that `dialect` has no words for, and for keywords with a `*` or `?` inside.
pub(super) fn expression(filter: &Filter, dialect: Dialect, places: &Places) -> Translated {
    // Neither server takes `true`.
    let joined = |parts: &[Filter], none: &str, word: &str| {
        let parts: Vec<String> =
            parts.iter().map(|part| expression(part, dialect, places)).collect::<Result<_, _>>()?;
        Ok(if parts.is_empty() { none.to_owned() } else { format!("({})", parts.join(word)) })
    };
    match filter {
        Filter::All(parts) => joined(parts, ALL, " and "),
        Filter::Any(parts) => joined(parts, NONE, " or "),
        Filter::Not(inside) => Ok(format!("(not {})", expression(inside, dialect, places)?)),
        Filter::Test(test) => Ok(format!("({})", tested(test, dialect, places)?)),
    }
}

/// True of every row.
const ALL: &str = "id >= 0";
const NONE: &str = "id < 0";

/// Rows by their numbers.
pub(super) fn among(ids: &[ImageId]) -> String {
    if ids.is_empty() {
        return NONE.to_owned();
    }
    let ids: Vec<String> = ids.iter().map(ImageId::to_string).collect();
    format!("{ID} in [{}]", ids.join(","))
}

/// A text, in quotes; control characters but line ends and tabs stand for themselves.
pub(super) fn quoted(text: &str) -> String {
    let mut quoted = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => quoted.extend(['\\', c]),
            '\n' => quoted.push_str("\\n"),
            '\r' => quoted.push_str("\\r"),
            '\t' => quoted.push_str("\\t"),
            c => quoted.push(c),
        }
    }
    quoted.push('"');
    quoted
}

fn tested(test: &Test, dialect: Dialect, places: &Places) -> Translated {
    match test {
        Test::Path(pattern) => below("path_lower", pattern, dialect),
        Test::Root(pattern) => below("root_lower", pattern, dialect),
        Test::Text(TextField::Format, pattern) => like("format", pattern.as_str(), dialect),
        Test::Text(TextField::Keyword, pattern) => keyword(pattern, dialect),
        Test::Text(field @ (TextField::Camera | TextField::Lens), pattern) => {
            let column = if *field == TextField::Camera { "camera_lower" } else { "lens_lower" };
            let like = like(column, pattern.as_str(), dialect)?;
            Ok(format!("{column} != \"\" and {like}"))
        }
        Test::Taken(bounds) => {
            let within = within("taken_at", bounds, |text| quoted(text));
            Ok(std::iter::once("taken_at != \"\"".to_owned())
                .chain(within)
                .collect::<Vec<_>>()
                .join(" and "))
        }
        Test::Number(field, bounds) => {
            // Whole numbers are compared with whole numbers: 2.3 takes no others.
            let whole = |number: &f64| format!("{}", number.ceil() as i64);
            let parts: Vec<String> = match field {
                NumberField::Width => within("width", bounds, whole).collect(),
                NumberField::Height => within("height", bounds, whole).collect(),
                NumberField::Rating => within("rating", bounds, whole).collect(),
                NumberField::Megapixels => {
                    within("megapixels", bounds, |number| format!("{number:?}")).collect()
                }
            };
            Ok(if parts.is_empty() { ALL.to_owned() } else { parts.join(" and ") })
        }
        Test::Near { .. } => Ok(among(places.of(test))),
        Test::Has(fact) => Ok(match fact {
            Fact::Taken => "taken_at != \"\"",
            Fact::Camera => "camera != \"\"",
            Fact::Lens => "lens != \"\"",
            Fact::Gps => "has_gps == true",
            Fact::Rating => "rating != 0",
            Fact::Keyword => "keywords_lower != \"\"",
        }
        .to_owned()),
    }
}

fn within<T>(
    column: &str,
    bounds: &Bounds<T>,
    value: impl Fn(&T) -> String,
) -> impl Iterator<Item = String> {
    let from = bounds.from.as_ref().map(|from| format!("{column} >= {}", value(from)));
    let below = bounds.below.as_ref().map(|below| format!("{column} < {}", value(below)));
    from.into_iter().chain(below)
}

/// A file or folder and all below it, as [`Pattern::matches_path`].
fn below(column: &str, pattern: &Pattern, dialect: Dialect) -> Translated {
    let glob = pattern.as_str().trim_end_matches('/');
    let anywhere = if glob.starts_with(['/', '*']) { "" } else { "*/" };
    let itself = like(column, &format!("{anywhere}{glob}"), dialect)?;
    let below = like(column, &format!("{anywhere}{glob}/*"), dialect)?;
    Ok(format!("{itself} or {below}"))
}

/// One of several words between semicolons.
fn keyword(pattern: &Pattern, dialect: Dialect) -> Translated {
    let glob = pattern.as_str();
    let word = glob.trim_matches('*');
    if word.is_empty() {
        return Ok("keywords_lower != \"\"".to_owned());
    }
    if word.contains(['*', '?']) {
        // It could reach from one keyword into the next.
        return Err(Untranslatable(format!("the keyword `{glob}`: `*` and `?` inside of it")));
    }
    let begins = if glob.starts_with('*') { "" } else { ";" };
    let ends = if glob.ends_with('*') { "" } else { ";" };
    let glob = format!("*{begins}{}{ends}*", word.replace(';', ","));
    like("keywords_lower", &glob, dialect)
}

/// A whole text against a glob.
fn like(column: &str, glob: &str, dialect: Dialect) -> Translated {
    if !glob.contains(['*', '?']) {
        return Ok(format!("{column} == {}", quoted(glob)));
    }
    if glob.chars().all(|c| c == '*') {
        return Ok(ALL.to_owned());
    }
    if dialect == Dialect::Prefixes {
        let prefix = glob.trim_end_matches('*');
        if prefix.contains(['*', '?', '%', '\\']) {
            return Err(Untranslatable(format!(
                "`{glob}`: a Milvus before 2.4 compares texts whole or by how they begin"
            )));
        }
        return Ok(format!("{column} like {}", quoted(&format!("{prefix}%"))));
    }
    if glob.contains('\\') {
        // The servers do not agree on what it stands for.
        return Err(Untranslatable(format!("`{glob}`: a `\\` beside `*` or `?`")));
    }
    let mut pattern = String::new();
    for c in glob.chars() {
        match c {
            '*' => pattern.push('%'),
            '?' => pattern.push('_'),
            '%' | '_' => pattern.extend(['\\', c]),
            c => pattern.push(c),
        }
    }
    Ok(format!("{column} like {}", quoted(&pattern)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn translated(text: &str, dialect: Dialect) -> Translated {
        expression(
            &text.parse().unwrap_or_else(|error| panic!("{error}")),
            dialect,
            &Places::default(),
        )
    }

    #[test]
    fn a_filter_is_said_in_the_words_of_milvus() {
        for (text, expected) in [
            ("camera:canon", r#"(camera_lower != "" and camera_lower like "%canon%")"#),
            ("camera:'100%_x'", r#"(camera_lower != "" and camera_lower like "%100\\%\\_x%")"#),
            ("path:/a/b", r#"(path_lower == "/a/b" or path_lower like "/a/b/%")"#),
            ("path:*.JPG", r#"(path_lower like "%.jpg" or path_lower like "%.jpg/%")"#),
            ("root:photos", r#"(root_lower like "%/photos" or root_lower like "%/photos/%")"#),
            ("path:'/a/\"q\"'", r#"(path_lower == "/a/\"q\"" or path_lower like "/a/\"q\"/%")"#),
            ("format:jpg", r#"(format == "jpeg")"#),
            ("keyword:sea", r#"(keywords_lower like "%sea%")"#),
            ("keyword:'sea*'", r#"(keywords_lower like "%;sea%")"#),
            ("taken:2024", r#"(taken_at != "" and taken_at >= "2024" and taken_at < "2024~")"#),
            ("rating>=4", "(rating >= 4)"),
            ("width:100..", "(width >= 100)"),
            ("mp:12", "(megapixels >= 11.5 and megapixels < 12.5)"),
            ("has:gps and not has:lens", r#"((has_gps == true) and (not (lens != "")))"#),
        ] {
            assert_eq!(translated(text, Dialect::Patterns).as_deref(), Ok(expected), "{text}");
        }
        let none = Places::default();
        assert_eq!(expression(&Filter::All(vec![]), Dialect::Patterns, &none).unwrap(), ALL);
        assert_eq!(expression(&Filter::Any(vec![]), Dialect::Patterns, &none).unwrap(), NONE);
    }

    #[test]
    fn places_are_said_by_numbers() {
        let near = "near:48,11,10km";
        let filter: Filter = format!("not {near} and rating>=4").parse().unwrap();
        for (ids, expected) in [
            (vec![3, 17], "((not (id in [3,17])) and (rating >= 4))"),
            (vec![], "((not (id < 0)) and (rating >= 4))"),
        ] {
            let Ok(Filter::Test(test)) = near.parse() else { panic!("one test") };
            let places = Places::made(test, ids.into_iter().map(ImageId).collect());
            assert_eq!(expression(&filter, Dialect::Patterns, &places).unwrap(), expected);
        }
    }

    #[test]
    fn what_a_server_cannot_be_asked_is_named() {
        for (text, dialect, part) in [
            ("keyword:'s*a'", Dialect::Patterns, "`s*a`"),
            ("camera:'a\\b'", Dialect::Patterns, "`\\`"),
            ("camera:canon", Dialect::Prefixes, "before 2.4"),
            ("path:holiday", Dialect::Prefixes, "before 2.4"),
            ("path:'/a%'", Dialect::Prefixes, "before 2.4"),
        ] {
            let Err(Untranslatable(reason)) = translated(text, dialect) else { panic!("{text}") };
            assert!(reason.contains(part), "{text}: {reason}");
        }
        let prefix = translated("path:/a_b", Dialect::Prefixes).unwrap();
        assert_eq!(prefix, r#"(path_lower == "/a_b" or path_lower like "/a_b/%")"#);
    }

    #[test]
    fn a_version_tells_the_dialect() {
        for (version, dialect) in [
            ("v2.3.5-lite", Dialect::Prefixes),
            ("2.2.16", Dialect::Prefixes),
            ("v2.4.0-rc.1", Dialect::Patterns),
            ("2.10.1", Dialect::Patterns),
            ("milvus_lite-3.2.2", Dialect::Patterns),
            ("", Dialect::Patterns),
        ] {
            assert_eq!(Dialect::of(version), dialect, "{version}");
        }
    }
}
