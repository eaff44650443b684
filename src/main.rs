//! The `keyward` command.

/// A request takes and gives back some dozens of small pieces: this one is quicker at it.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> std::process::ExitCode {
    keyward::cli::run()
}
