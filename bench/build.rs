//! Remembers which compiler builds this, for the report.

use std::env::var_os;
use std::process::Command;

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    let rustc = var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let output = Command::new(rustc).arg("--version").output();
    let version = output.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned());
    println!("cargo:rustc-env=TROUGH_BENCH_RUSTC={}", version.unwrap_or_else(|_| "unknown".into()));
}
