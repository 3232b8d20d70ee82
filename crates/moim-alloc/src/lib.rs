//! The allocator of the program: mimalloc in the place of the C library's, for Rust and `RocksDB` alike.
//!
//! A request makes some ten small allocations on each replica, and what threads hand each other is freed by another than
//! allocated it, though most comes back to the loop: that is what mimalloc is good at. It is linked as `malloc` and `free`
//! and reached through Rust's own [`std::alloc::System`]. Through the usual adapter every allocation would name its alignment, and those of more than a
//! kilobyte, values, would be taken from a larger block and aligned by hand.

use std::time::Duration;

/// Where mimalloc keeps the option *`purge_delay`*: `mi_option_purge_delay` of its `mimalloc.h`, which the binding leaves
/// out.
const PURGE_DELAY: libmimalloc_sys::mi_option_t = 15;

/// Keeps memory that was freed for this long before it is given back to the operating system.
///
/// The default of a second is about what a busy node takes to need it again: each value was then written to pages that
/// the kernel had just taken away, and had to find and clear anew (0.6 faults a write, a fifth of its time).
pub fn keep_freed_for(delay: Duration) {
    let delay_ms = delay.as_millis().try_into().unwrap_or(std::ffi::c_long::MAX);
    // SAFETY: sets a number in a table of mimalloc's; the option is one that the linked version has (see the test).
    #[expect(unsafe_code, reason = "a foreign function")]
    unsafe {
        libmimalloc_sys::mi_option_set(PURGE_DELAY, delay_ms);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn option(at: libmimalloc_sys::mi_option_t) -> std::ffi::c_long {
        // SAFETY: reads a number from that table.
        #[expect(unsafe_code, reason = "a foreign function")]
        unsafe {
            libmimalloc_sys::mi_option_get(at)
        }
    }

    #[test]
    fn what_rust_allocates_is_mimallocs() {
        let value = vec![7_u8; 2_048];
        // SAFETY: asks whose memory an address is in, without touching it.
        #[expect(unsafe_code, reason = "a foreign function")]
        let is_mimallocs = unsafe { libmimalloc_sys::mi_is_in_heap_region(value.as_ptr().cast()) };
        assert!(is_mimallocs);
    }

    #[test]
    fn the_option_is_where_it_is_believed_to_be() {
        // Its default, which none of its neighbours has.
        assert_eq!(option(PURGE_DELAY), 1_000);
        keep_freed_for(Duration::from_secs(10));
        assert_eq!(option(PURGE_DELAY), 10_000);
    }
}
