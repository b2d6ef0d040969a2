//! What JPEG decoders take for one photo, one thread: why `src/photo/jpeg/mod.rs` has one of its own, and when
//! it asks the others.

use std::fs;
use std::path::Path;
use std::time::Instant;

use likeness::network::Preprocessing;
use likeness::photo::{self, DecodeMode, DecodeOptions};
use zune_core::bytestream::ZCursor;

use super::{Outcome, median};

const ROUNDS: usize = 7;

/// Eighths of the size that libjpeg-turbo's code decodes to.
const EIGHTHS: [u8; 5] = [1, 2, 3, 4, 8];

/// Prints the milliseconds of each way for each photo; the ways take turns, medians count. likeness's own
/// include the square that `preprocessing` asks for.
pub(super) fn run(photos: &[&Path], preprocessing: &Preprocessing) -> Outcome<()> {
    let exact = DecodeOptions { mode: DecodeMode::Exact, ..DecodeOptions::default() };
    println!("\nmilliseconds of one thread for one photo");
    print!("{:>24} {:>8}   {:>8}   {:>8}   ", "", "fast", "exact", "zune");
    println!("{}", EIGHTHS.map(|e| format!("turbo {e}/8")).join("  "));
    for path in photos {
        let bytes = fs::read(path)?;
        let photo = photo::read(path, u64::MAX)?;
        let mut spent = vec![Vec::new(); 3 + EIGHTHS.len()];
        for _ in 0..ROUNDS {
            for (spent, options) in spent.iter_mut().zip([&DecodeOptions::default(), &exact]) {
                let started = Instant::now();
                photo::decode(&photo, preprocessing, options)?;
                spent.push(started.elapsed().as_secs_f64() * 1e3);
            }
            let started = Instant::now();
            zune_jpeg::JpegDecoder::new(ZCursor::new(&bytes[..])).decode()?;
            spent[2].push(started.elapsed().as_secs_f64() * 1e3);
            for (spent, eighths) in spent[3..].iter_mut().zip(EIGHTHS) {
                let started = Instant::now();
                let mut decoder = mozjpeg::Decompress::new_mem(&bytes)?;
                decoder.scale(eighths);
                let mut reading = decoder.rgb()?;
                let _pixels: Vec<u8> = reading.read_scanlines()?;
                spent.push(started.elapsed().as_secs_f64() * 1e3);
            }
        }
        let spent: Vec<String> =
            spent.into_iter().map(|spent| format!("{:>8.1}", median(spent))).collect();
        let below = path.parent().and_then(Path::file_name).unwrap_or_default();
        println!("{:>18} {:>5} {}", below.display(), bytes.len() / 1_000, spent.join("   "));
    }
    Ok(())
}
