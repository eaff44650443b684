//! The `keyward` command.

/// A request takes and gives back some dozens of small pieces: this one is quicker at it.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> std::process::ExitCode {
    stay_small();
    keyward::run()
}

/// The allocator asks for huge pages, each of which counts as a whole once a little of it was
/// touched: they take half as much memory again, and make nothing here measurably quicker.
fn stay_small() {
    #[cfg(target_os = "linux")]
    // Where this is refused, it works as well, and takes more.
    rustix::thread::disable_transparent_huge_pages(true).ok();
}
