//! `near`: which rows lie within a circle on the globe, as Milvus cannot measure that.
//!
//! The server says what lies in the box of degrees around the circle, and where; what of that lies within the circle
//! is measured here, and named by its numbers from there on. So `not` and `or` around it mean what they mean.

use super::super::MAX_HITS;
use super::client::Client;
use super::read::{doubles, whole};
use super::row::ID;
use crate::error::{Error, Result};
use crate::filter::{EARTH, Filter, Test, metres_between};
use crate::progress::Watch;
use crate::record::ImageId;

/// Degrees that a box is larger by on each side, for what is lost in computing: a hundredth of a metre.
const SLACK: f64 = 1e-7;

/// What lies within the circles of a filter.
#[derive(Debug, Default)]
pub(super) struct Places(Vec<(Test, Vec<ImageId>)>);

impl Places {
    /// The rows that pass a test of which they were made.
    pub(super) fn of(&self, near: &Test) -> &[ImageId] {
        let known = self.0.iter().find(|(test, _)| test == near);
        known.map(|(_, ids)| ids.as_slice()).expect("every circle of the filter was asked for")
    }

    #[cfg(test)]
    pub(super) fn made(near: Test, ids: Vec<ImageId>) -> Self {
        Self(vec![(near, ids)])
    }
}

impl Client {
    /// Asks what lies within each circle of a filter.
    ///
    /// # Errors
    /// [`Error::RemoteFilter`] where that is more than the server can be told by numbers.
    pub(super) fn places(&self, filter: &Filter, watch: &Watch<'_>) -> Result<Places> {
        const ACTION: &str = "look for places";
        let mut places = Vec::new();
        for test in circles(filter) {
            let Test::Near { latitude, longitude, metres } = *test else { continue };
            let around = around(latitude, longitude, metres);
            let fields = self.query(ACTION, around, &[ID, "latitude", "longitude"], watch)?;
            let ids = whole(&fields, ID).unwrap_or_default();
            let norths = doubles(&fields, "latitude").unwrap_or_default();
            let easts = doubles(&fields, "longitude").unwrap_or_default();
            if norths.len() != ids.len() || easts.len() != ids.len() {
                return Err(self.odd(ACTION));
            }
            let within = ids.iter().zip(norths.iter().zip(easts));
            let within = within.filter(|(_, (north, east))| {
                metres_between((latitude, longitude), (**north, **east)) <= metres
            });
            let within: Vec<ImageId> = within.map(|(id, _)| ImageId(*id)).collect();
            if within.len() > MAX_HITS {
                return Err(too_many(within.len()));
            }
            places.push((test.clone(), within));
        }
        Ok(Places(places))
    }
}

fn too_many(count: usize) -> Error {
    let what = format!(
        "`near`: {count} photos lie there, and it is told of {MAX_HITS} at most; take a smaller radius"
    );
    Error::RemoteFilter { what }
}

fn circles(filter: &Filter) -> Vec<&Test> {
    match filter {
        Filter::All(parts) | Filter::Any(parts) => parts.iter().flat_map(circles).collect(),
        Filter::Not(inside) => circles(inside),
        Filter::Test(test @ Test::Near { .. }) => vec![test],
        Filter::Test(_) => Vec::new(),
    }
}

/// The expression for the smallest box of degrees that holds a circle.
fn around(latitude: f64, longitude: f64, metres: f64) -> String {
    let angle = metres / EARTH;
    let reach = angle.to_degrees() + SLACK;
    let (south, north) = (latitude - reach, latitude + reach);
    let inside = format!("has_gps == true and latitude >= {south:?} and latitude <= {north:?}");
    if south <= -90.0 || north >= 90.0 {
        // A pole lies within: so do all longitudes.
        return inside;
    }
    // Where a circle of longitude touches it (Bronshtein and Semendyayev, spherical triangles with a right angle).
    let side = (angle.sin() / latitude.to_radians().cos()).min(1.0).asin().to_degrees() + SLACK;
    let (west, east) = (longitude - side, longitude + side);
    let (first, last, word) = match () {
        () if west < -180.0 => (west + 360.0, east, "or"),
        () if east > 180.0 => (west, east - 360.0, "or"),
        () => (west, east, "and"),
    };
    format!("{inside} and (longitude >= {first:?} {word} longitude <= {last:?})")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::split_mix;

    /// Whether the box of [`around`] holds a place, read from the expression.
    fn holds(expression: &str, (latitude, longitude): (f64, f64)) -> bool {
        let number = |sign: &str| -> Option<f64> {
            let (_, behind) = expression.split_once(sign)?;
            behind.split([' ', ')']).next()?.parse().ok()
        };
        let rows = (number("latitude >= ").unwrap(), number("latitude <= ").unwrap());
        let between = (rows.0..=rows.1).contains(&latitude);
        let (Some(first), Some(last)) = (number("longitude >= "), number("longitude <= ")) else {
            return between;
        };
        let beside = (longitude >= first, longitude <= last);
        between
            && if expression.contains(" or ") { beside.0 || beside.1 } else { beside.0 && beside.1 }
    }

    #[test]
    fn a_box_holds_the_circle_and_little_else() {
        let mut state = 9;
        let mut even = |from: f64, to: f64| {
            from + (to - from) * (split_mix(&mut state) as f64 / u64::MAX as f64)
        };
        let (mut held, mut within) = (0, 0);
        for _ in 0..20_000 {
            let centre = (even(-90.0, 90.0), even(-180.0, 180.0));
            let metres = 10f64.powf(even(0.0, 7.3));
            // Near its edge, on either side, in any direction.
            let (angle, bearing) =
                (metres / EARTH * even(0.5, 1.2), even(0.0, std::f64::consts::TAU));
            let (north, cos) = (centre.0.to_radians(), angle.cos());
            let sin = north.sin() * cos + north.cos() * angle.sin() * bearing.cos();
            let latitude = sin.clamp(-1.0, 1.0).asin();
            let east = (bearing.sin() * angle.sin() * north.cos()).atan2(cos - north.sin() * sin);
            let longitude = (centre.1 + east.to_degrees() + 540.0).rem_euclid(360.0) - 180.0;
            let place = (latitude.to_degrees(), longitude);
            let is_held = holds(&around(centre.0, centre.1, metres), place);
            if metres_between(centre, place) <= metres {
                within += 1;
                assert!(is_held, "{place:?} within {metres} m of {centre:?}");
            }
            held += u32::from(is_held);
        }
        assert!(within > 10_000 && held < within + 8_000, "{within} within, {held} held");
    }

    #[test]
    fn a_circle_may_hold_a_pole_or_lie_across_the_date_line() {
        assert!(!around(89.0, 0.0, 200_000.0).contains("longitude"));
        assert!(!around(0.0, 0.0, 20_000_000.0).contains("longitude"));
        assert!(holds(&around(-17.0, 179.9, 50_000.0), (-17.0, -179.9)));
        assert!(holds(&around(-17.0, -179.9, 50_000.0), (-17.0, 179.9)));
        assert!(!holds(&around(-17.0, -179.9, 50_000.0), (-17.0, 0.0)));
    }
}
