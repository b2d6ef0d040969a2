//! What the two JPEG decoders take for one photo, one thread: why `src/photo/jpeg/mod.rs` chooses as it
//! does.

use std::fs;
use std::path::Path;
use std::time::Instant;

use zune_core::bytestream::ZCursor;

use super::{Outcome, median};

const ROUNDS: usize = 7;

/// Eighths of the size that libjpeg-turbo's code decodes to.
const EIGHTHS: [u8; 5] = [1, 2, 3, 4, 8];

/// Prints the milliseconds of each way for each photo; the ways take turns, medians count.
pub(super) fn run(photos: &[&Path]) -> Outcome<()> {
    println!("\nmilliseconds of one thread for one photo");
    println!("{:>24} {:>7} {}", "", "zune", EIGHTHS.map(|e| format!("turbo {e}/8")).join("  "));
    for path in photos {
        let bytes = fs::read(path)?;
        let mut spent = vec![Vec::new(); 1 + EIGHTHS.len()];
        for _ in 0..ROUNDS {
            let started = Instant::now();
            zune_jpeg::JpegDecoder::new(ZCursor::new(&bytes[..])).decode()?;
            spent[0].push(started.elapsed().as_secs_f64() * 1e3);
            for (spent, eighths) in spent[1..].iter_mut().zip(EIGHTHS) {
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
