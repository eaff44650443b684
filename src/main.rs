//! The `keyward` binary.

/// A request makes dozens of small allocations, for which mimalloc is faster than the system's
/// allocator.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> std::process::ExitCode {
    stay_small();
    keyward::run()
}

/// Disables transparent huge pages. With them, resident memory is half as large again, because each
/// page counts completely as soon as a part of it is used. No benchmark was measurably faster.
fn stay_small() {
    #[cfg(target_os = "linux")]
    // If this fails, the process only uses more memory.
    rustix::thread::disable_transparent_huge_pages(true).ok();
}
