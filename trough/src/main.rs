//! The one binary. Everything it does is in the library.

use std::process::ExitCode;

/// musl's own allocator is slow under many threads; the image and every other build use the same one, so that
/// what is measured is what runs.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    trough::main(std::env::args_os())
}
