//! What the kernel says about a process: CPU time and resident memory, from proc(5).

use std::fs;
use std::time::Duration;

use anyhow::{Context, Result};

/// CPU time of all threads of a process so far, user and system, at the kernel's tick (usually 10 ms).
///
/// # Errors
/// The process has ended, or there is no /proc.
pub fn cpu_time(pid: u32) -> Result<Duration> {
    let stat = read(pid, "stat")?;
    let ticks =
        cpu_ticks(&stat).with_context(|| format!("/proc/{pid}/stat is not as proc(5) says: {stat}"))?;
    Ok(Duration::from_secs_f64(ticks as f64 / rustix::param::clock_ticks_per_second() as f64))
}

/// Resident memory of a process, in bytes.
///
/// # Errors
/// As [`cpu_time`].
pub fn resident_bytes(pid: u32) -> Result<u64> {
    let status = read(pid, "status")?;
    resident(&status).with_context(|| format!("/proc/{pid}/status has no VmRSS"))
}

fn read(pid: u32, file: &str) -> Result<String> {
    fs::read_to_string(format!("/proc/{pid}/{file}"))
        .with_context(|| format!("cannot read /proc/{pid}/{file}: has the process ended?"))
}

/// Fields are counted after the command in parentheses, which may itself contain spaces.
fn cpu_ticks(stat: &str) -> Option<u64> {
    let mut fields = stat.rsplit_once(')')?.1.split_ascii_whitespace().skip(11);
    let mut ticks = || fields.next()?.parse::<u64>().ok();
    Some(ticks()? + ticks()?)
}

fn resident(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok().map(|kib| kib * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_proc_says() {
        let stat = "7 (a) b) S 1 7 7 0 -1 4194560 1 0 0 0 250 50 9 9 20 0 3 0 100 1 1";
        assert_eq!(cpu_ticks(stat), Some(300));
        assert_eq!(resident("VmPeak:\t 9 kB\nVmRSS:\t  4032 kB\n"), Some(4032 * 1024));
        let own = std::process::id();
        assert!(resident_bytes(own).unwrap() > 100_000);
        cpu_time(own).unwrap();
    }
}
