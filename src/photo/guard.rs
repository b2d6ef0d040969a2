//! Decoders that panic, kept quiet and in bounds.

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Once;

/// Runs a decoder. When it panics, the error is what it said, and nothing is printed.
pub(super) fn quietly<T>(decode: impl FnOnce() -> T) -> Result<T, String> {
    thread_local!(static DECODING: Cell<bool> = const { Cell::new(false) });
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let loud = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            if !DECODING.get() {
                loud(info);
            }
        }));
    });
    let before = DECODING.replace(true);
    // The decoder owns everything it may leave half done, and all of it is dropped here.
    let result = catch_unwind(AssertUnwindSafe(decode));
    DECODING.set(before);
    result.map_err(|payload| match payload.downcast::<String>() {
        // libjpeg's errors travel this way, and are meant for people.
        Ok(text) => text.trim_start_matches("libjpeg fatal error: ").to_owned(),
        Err(_) => "the decoder gave up on it".to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_decoder_says_when_it_panics_is_the_reason() {
        assert_eq!(quietly(|| 1), Ok(1));
        let number = 7;
        assert_eq!(quietly(|| panic!("bad marker {number}")), Err::<(), _>("bad marker 7".into()));
        let given_up = quietly(|| std::panic::panic_any(3)).unwrap_err();
        assert_eq!(given_up, "the decoder gave up on it");
    }
}
