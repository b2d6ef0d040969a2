//! A filter in SQL. Its text depends on the filter's form only; all that somebody wrote is bound.

use tokio_postgres::types::{ToSql, Type};

use super::row::text;
use crate::filter::{Bounds, EARTH, Fact, Filter, NumberField, Pattern, Test, TextField};

/// A condition over the columns of a table, and the values that it is about.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Condition {
    /// True or false, never NULL, so that `not` finds what does not say.
    pub(super) sql: String,
    values: Vec<Value>,
}

#[derive(Debug, Clone, PartialEq)]
enum Value {
    Text(String),
    Number(f64),
}

impl Condition {
    /// The condition that holds for the photos that pass, of each its first file looked at only. Its values are
    /// numbered from `first` on. Without a filter it always holds.
    pub(super) fn of(filter: Option<&Filter>, first: usize) -> Self {
        let mut writer = Writer { first, values: Vec::new() };
        let sql = filter.map_or_else(|| "true".to_owned(), |filter| writer.condition(filter));
        Self { sql, values: writer.values }
    }

    /// The values with their types, as statements take them.
    pub(super) fn parameters(&self) -> impl Iterator<Item = (&(dyn ToSql + Sync), Type)> {
        self.values.iter().map(|value| match value {
            Value::Text(text) => (text as &(dyn ToSql + Sync), Type::TEXT),
            Value::Number(number) => (number as &(dyn ToSql + Sync), Type::FLOAT8),
        })
    }
}

struct Writer {
    first: usize,
    values: Vec<Value>,
}

impl Writer {
    fn bound(&mut self, value: Value) -> String {
        self.values.push(value);
        format!("${}", self.first + self.values.len() - 1)
    }

    fn condition(&mut self, filter: &Filter) -> String {
        match filter {
            Filter::All(parts) => self.joined(parts, "true", " AND "),
            Filter::Any(parts) => self.joined(parts, "false", " OR "),
            Filter::Not(inside) => format!("(NOT {})", self.condition(inside)),
            Filter::Test(test) => format!("(({}) IS TRUE)", self.tested(test)),
        }
    }

    fn joined(&mut self, parts: &[Filter], none: &str, word: &str) -> String {
        if parts.is_empty() {
            return none.to_owned();
        }
        let parts: Vec<String> = parts.iter().map(|part| self.condition(part)).collect();
        format!("({})", parts.join(word))
    }

    fn tested(&mut self, test: &Test) -> String {
        match test {
            Test::Path(pattern) => self.below("path_lower", pattern),
            Test::Root(pattern) => self.below("root_lower", pattern),
            Test::Text(TextField::Keyword, pattern) => {
                let like = self.like("word", pattern.as_str());
                format!("EXISTS (SELECT 1 FROM unnest(keywords_lower) AS word WHERE {like})")
            }
            Test::Text(field, pattern) => {
                let column = match field {
                    TextField::Camera => "camera_lower",
                    TextField::Lens => "lens_lower",
                    TextField::Format | TextField::Keyword => "format",
                };
                self.like(column, pattern.as_str())
            }
            Test::Taken(bounds) => self.within("taken_at", bounds, |at| Value::Text(text(at))),
            Test::Number(field, bounds) => {
                let column = match field {
                    NumberField::Width => "width",
                    NumberField::Height => "height",
                    NumberField::Megapixels => "(width::float8 * height / 1e6::float8)",
                    NumberField::Rating => "coalesce(rating, 0)",
                };
                self.within(column, bounds, |number| Value::Number(*number))
            }
            Test::Near { latitude, longitude, metres } => {
                let [latitude, longitude, metres] =
                    [latitude, longitude, metres].map(|number| self.bound(Value::Number(*number)));
                // The haversine formula, as the library has it.
                format!(
                    "{} * asin(least(1, sqrt(power(sin(radians(latitude - {latitude}) / 2), 2) + \
                     cos(radians({latitude})) * cos(radians(latitude)) * \
                     power(sin(radians(longitude - {longitude}) / 2), 2)))) <= {metres}",
                    2.0 * EARTH
                )
            }
            Test::Has(fact) => match fact {
                Fact::Taken => "taken_at IS NOT NULL",
                Fact::Camera => "camera IS NOT NULL",
                Fact::Lens => "lens IS NOT NULL",
                Fact::Gps => "latitude IS NOT NULL AND longitude IS NOT NULL",
                Fact::Rating => "rating <> 0",
                Fact::Keyword => "keywords IS NOT NULL",
            }
            .to_owned(),
        }
    }

    fn within<T>(&mut self, column: &str, bounds: &Bounds<T>, value: fn(&T) -> Value) -> String {
        let mut parts = Vec::new();
        for (end, sign) in [(&bounds.from, ">="), (&bounds.below, "<")] {
            if let Some(end) = end {
                parts.push(format!("{column} {sign} {}", self.bound(value(end))));
            }
        }
        // Without ends it holds for what says anything.
        if parts.is_empty() { format!("{column} IS NOT NULL") } else { parts.join(" AND ") }
    }

    /// A file or folder and all below it, as [`Pattern::matches_path`].
    fn below(&mut self, column: &str, pattern: &Pattern) -> String {
        let glob = pattern.as_str().trim_end_matches('/');
        let anywhere = if glob.starts_with(['/', '*']) { "" } else { "*/" };
        let itself = self.like(column, &format!("{anywhere}{glob}"));
        let below = self.like(column, &format!("{anywhere}{glob}/*"));
        format!("{itself} OR {below}")
    }

    /// A whole text against a glob; `\` stands before what stands for itself.
    fn like(&mut self, column: &str, glob: &str) -> String {
        let mut pattern = String::new();
        for c in text(glob).chars() {
            match c {
                '*' => pattern.push('%'),
                '?' => pattern.push('_'),
                '%' | '_' | '\\' => pattern.extend(['\\', c]),
                c => pattern.push(c),
            }
        }
        let pattern = self.bound(Value::Text(pattern));
        format!("{column} LIKE {pattern}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_somebody_wrote_is_bound() {
        let filter: Filter =
            "camera:\"' OR 1=1 --\" and not path:'100%_x' or mp>=2".parse().unwrap();
        let condition = Condition::of(Some(&filter), 2);
        assert_eq!(
            condition.sql,
            "((((camera_lower LIKE $2) IS TRUE) AND (NOT ((path_lower LIKE $3 OR path_lower LIKE $4) IS TRUE))) \
             OR (((width::float8 * height / 1e6::float8) >= $5) IS TRUE))"
        );
        let text = |text: &str| Value::Text(text.to_owned());
        let [camera, path, below, Value::Number(megapixels)] = &condition.values[..] else {
            panic!("{condition:?}")
        };
        assert_eq!((camera, path), (&text("%' or 1=1 --%"), &text(r"%/100\%\_x")));
        assert_eq!(below, &text(r"%/100\%\_x/%"));
        assert!((1.0..=2.0).contains(megapixels));
    }

    #[test]
    fn nothing_and_everything_are_said_plainly() {
        assert_eq!(Condition::of(None, 2).sql, "true");
        assert_eq!(Condition::of(Some(&Filter::All(vec![])), 2).sql, "true");
        assert_eq!(Condition::of(Some(&Filter::Any(vec![])), 2).sql, "false");
    }
}
