//! The grammar, by recursive descent.
//!
//! ```text
//! any  := all ("or" all)*
//! all  := one (["and"] one)*
//! one  := "not" one | "(" any ")" | "has" FACT | FIELD OP VALUE
//! ```

use std::ops::Range;

use super::value;
use super::{Bounds, Fact, Filter, InvalidFilter, NumberField, Pattern, Test, TextField};

/// Deeper nesting is refused, so that no text overflows the stack.
const DEEPEST: usize = 64;

const FIELDS: &str = "the fields are path, root, camera, lens, keyword, format, taken, width, height, \
                      megapixels, rating, near, has";
const OPERATORS: &str = "write FIELD:VALUE, or one of = != < <= > >= between them";
const FACTS: &str = "`has` takes taken, camera, lens, gps, rating, keyword";

pub(super) fn parse(text: &str) -> Result<Filter, InvalidFilter> {
    let mut parser = Parser { text, at: 0, depth: 0 };
    let filter = parser.any()?;
    match parser.peek() {
        None => Ok(filter),
        Some(_) => {
            let place = parser.at..parser.at + 1;
            Err(parser.wrong(place, "a `)` closes nothing", "take it away, or open one before"))
        }
    }
}

/// How a value is compared.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Operator {
    Is,
    IsNot,
    Below,
    AtMost,
    Above,
    AtLeast,
}

struct Parser<'a> {
    text: &'a str,
    at: usize,
    depth: usize,
}

impl<'a> Parser<'a> {
    fn wrong(
        &self,
        place: Range<usize>,
        reason: impl Into<String>,
        remedy: impl Into<String>,
    ) -> InvalidFilter {
        let text = self.text.to_owned();
        InvalidFilter { text, place, reason: reason.into(), remedy: remedy.into() }
    }

    /// The next character that is not white space.
    fn peek(&mut self) -> Option<char> {
        let rest = &self.text[self.at..];
        self.at += rest.len() - rest.trim_start().len();
        self.text[self.at..].chars().next()
    }

    /// The word that comes next: letters and underscores.
    fn word(&mut self) -> &'a str {
        self.peek();
        let rest = &self.text[self.at..];
        let end = rest.find(|c: char| !(c.is_alphanumeric() || c == '_')).unwrap_or(rest.len());
        &rest[..end]
    }

    /// Takes a keyword, if it comes next.
    fn take(&mut self, keyword: &str) -> bool {
        let word = self.word();
        let taken = word.eq_ignore_ascii_case(keyword);
        self.at += if taken { word.len() } else { 0 };
        taken
    }

    fn any(&mut self) -> Result<Filter, InvalidFilter> {
        let mut parts = vec![self.all()?];
        while self.take("or") {
            parts.push(self.all()?);
        }
        Ok(alone(parts, Filter::Any))
    }

    fn all(&mut self) -> Result<Filter, InvalidFilter> {
        let mut parts = vec![self.one()?];
        while self.take("and")
            || !matches!(self.peek(), None | Some(')')) && !self.word().eq_ignore_ascii_case("or")
        {
            parts.push(self.one()?);
        }
        Ok(alone(parts, Filter::All))
    }

    fn one(&mut self) -> Result<Filter, InvalidFilter> {
        self.depth += 1;
        if self.depth > DEEPEST {
            let remedy = "write it with fewer parentheses and `not`";
            return Err(self.wrong(self.at..self.text.len(), "nested too deeply", remedy));
        }
        let one = self.one_inside();
        self.depth -= 1;
        one
    }

    fn one_inside(&mut self) -> Result<Filter, InvalidFilter> {
        if self.take("not") {
            return Ok(Filter::Not(Box::new(self.one()?)));
        }
        if self.peek() == Some('(') {
            let open = self.at;
            self.at += 1;
            let inside = self.any()?;
            if self.peek() != Some(')') {
                return Err(self.wrong(
                    open..open + 1,
                    "a `(` that nothing closes",
                    "close it with `)`",
                ));
            }
            self.at += 1;
            return Ok(inside);
        }
        self.test()
    }

    fn test(&mut self) -> Result<Filter, InvalidFilter> {
        let field = self.word();
        let place = self.at..self.at + field.len();
        if field.is_empty() {
            return Err(match self.peek() {
                None => self.wrong(self.at..self.at, "a test is missing at the end", FIELDS),
                Some(c) => {
                    let place = self.at..self.at + c.len_utf8();
                    self.wrong(place, format!("`{c}` begins no test"), FIELDS)
                }
            });
        }
        let field_name = field.to_ascii_lowercase();
        let known = Field::of(&field_name);
        let known = known
            .ok_or_else(|| self.wrong(place.clone(), format!("`{field}` is no field"), FIELDS))?;
        self.at = place.end;
        let operator_at = self.at;
        let operator = match (self.operator(), known) {
            (Some(operator), _) => operator,
            (None, Field::Has | Field::Near) => Operator::Is,
            (None, _) => {
                let reason = format!("`{field}` is compared with nothing");
                return Err(self.wrong(place, reason, OPERATORS));
            }
        };
        let orders = !matches!(operator, Operator::Is | Operator::IsNot);
        if orders
            && matches!(
                known,
                Field::Path | Field::Root | Field::Text(_) | Field::Near | Field::Has
            )
        {
            let reason = format!("`{field}` is not ordered");
            let remedy = format!("write {field_name}:VALUE, or {field_name}!=VALUE");
            return Err(self.wrong(operator_at..self.at, reason, remedy));
        }
        let (value, place) = self.value()?;
        let test = known
            .test(&value, operator)
            .map_err(|(reason, remedy)| self.wrong(place, reason, remedy))?;
        Ok(match operator {
            Operator::IsNot => Filter::Not(Box::new(Filter::Test(test))),
            _ => Filter::Test(test),
        })
    }

    fn operator(&mut self) -> Option<Operator> {
        self.peek();
        let signs = [
            ("!=", Operator::IsNot),
            ("<=", Operator::AtMost),
            (">=", Operator::AtLeast),
            ("==", Operator::Is),
            (":", Operator::Is),
            ("=", Operator::Is),
            ("<", Operator::Below),
            (">", Operator::Above),
        ];
        let rest = &self.text[self.at..];
        let (sign, operator) = signs.into_iter().find(|(sign, _)| rest.starts_with(sign))?;
        self.at += sign.len();
        Some(operator)
    }

    /// What a test is compared with, and where it stands.
    fn value(&mut self) -> Result<(String, Range<usize>), InvalidFilter> {
        let first = self.peek();
        let rest = &self.text[self.at..];
        if let Some(quote @ ('"' | '\'')) = first {
            let Some(length) = rest[1..].find(quote) else {
                let place = self.at..self.text.len();
                return Err(self.wrong(
                    place,
                    "a quote that nothing closes",
                    format!("close it with {quote}"),
                ));
            };
            let place = self.at..self.at + length + 2;
            self.at = place.end;
            return Ok((rest[1..=length].to_owned(), place));
        }
        let end = rest.find(|c: char| c.is_whitespace() || matches!(c, '(' | ')' | '"' | '\''));
        let end = end.unwrap_or(rest.len());
        let place = self.at..self.at + end;
        if end == 0 {
            let remedy = "write a value; one with spaces or parentheses in quotes";
            return Err(self.wrong(place, "the value is missing", remedy));
        }
        self.at = place.end;
        Ok((rest[..end].to_owned(), place))
    }
}

fn alone(mut parts: Vec<Filter>, together: fn(Vec<Filter>) -> Filter) -> Filter {
    match parts.len() {
        1 => parts.remove(0),
        _ => together(parts),
    }
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Field {
    Path,
    Root,
    Text(TextField),
    Taken,
    Number(NumberField),
    Near,
    Has,
}

impl Field {
    fn of(name: &str) -> Option<Self> {
        Some(match name {
            "path" | "file" | "folder" => Field::Path,
            "root" => Field::Root,
            "camera" => Field::Text(TextField::Camera),
            "lens" => Field::Text(TextField::Lens),
            "format" => Field::Text(TextField::Format),
            "keyword" | "keywords" => Field::Text(TextField::Keyword),
            "taken" | "date" => Field::Taken,
            "width" => Field::Number(NumberField::Width),
            "height" => Field::Number(NumberField::Height),
            "megapixels" | "mp" => Field::Number(NumberField::Megapixels),
            "rating" | "stars" => Field::Number(NumberField::Rating),
            "near" => Field::Near,
            "has" => Field::Has,
            _ => return None,
        })
    }

    fn test(self, value: &str, operator: Operator) -> Result<Test, value::Wrong> {
        let wild = value.contains(['*', '?']);
        Ok(match self {
            Field::Path => Test::Path(Pattern::new(value)),
            Field::Root => Test::Root(Pattern::new(value)),
            Field::Text(TextField::Format) => {
                // The names that files have.
                let name = match value.to_ascii_lowercase().as_str() {
                    "jpg" => "jpeg",
                    "tif" => "tiff",
                    "heif" => "heic",
                    _ => value,
                };
                Test::Text(TextField::Format, Pattern::new(name))
            }
            Field::Text(field) if wild => Test::Text(field, Pattern::new(value)),
            Field::Text(field) => Test::Text(field, Pattern::new(&format!("*{value}*"))),
            Field::Taken => Test::Taken(value::bounds(value, operator, value::date)?),
            Field::Number(NumberField::Megapixels) => Test::Number(
                NumberField::Megapixels,
                value::bounds(value, operator, value::rounded)?,
            ),
            Field::Number(field) => {
                let bounds: Bounds<f64> = value::bounds(value, operator, value::whole)?;
                Test::Number(field, bounds)
            }
            Field::Near => {
                let (latitude, longitude, metres) = value::circle(value)?;
                Test::Near { latitude, longitude, metres }
            }
            Field::Has => Test::Has(match value.to_ascii_lowercase().as_str() {
                "taken" | "date" => Fact::Taken,
                "camera" => Fact::Camera,
                "lens" => Fact::Lens,
                "gps" | "near" => Fact::Gps,
                "rating" | "stars" => Fact::Rating,
                "keyword" | "keywords" => Fact::Keyword,
                _ => return Err((format!("`{value}` is nothing a photo has"), FACTS.to_owned())),
            }),
        })
    }
}
