//! Where figures were taken; without it they say little.

use std::fs;
use std::io::Write as _;
use std::path::Path;
use std::time::Instant;

use serde::Serialize;

/// Appends that the disk is tried with, and bytes of each.
const PROBES: usize = 200;
const PROBE_BYTES: usize = 4096;

/// The machine and the build.
#[derive(Debug, Clone, Serialize)]
pub struct Machine {
    /// Trough's version.
    pub trough: &'static str,
    /// The compiler that built it.
    pub rustc: &'static str,
    /// `release`, or `debug`: figures of which mean nothing.
    pub build: &'static str,
    /// Cores this process may use.
    pub cores: usize,
    /// The processor's name.
    pub processor: String,
    /// Memory, in bytes.
    pub memory_bytes: u64,
    /// The kernel's release.
    pub kernel: String,
    /// The filesystem that holds the data.
    pub filesystem: String,
    /// What the disk takes for a small append and its fdatasync, with nothing else from here going on.
    pub disk: Option<DiskProbe>,
}

/// The part of a durable ack that no server can make shorter.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct DiskProbe {
    /// Half of the appends of 4 KiB took no longer, in µs.
    pub fdatasync_p50_us: f64,
    /// 99 % of them.
    pub fdatasync_p99_us: f64,
}

impl Machine {
    /// Looks; what cannot be found out reads `unknown`.
    pub fn look(data_dir: &Path) -> Self {
        let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
        Self {
            trough: env!("CARGO_PKG_VERSION"),
            rustc: env!("TROUGH_BENCH_RUSTC"),
            build: if cfg!(debug_assertions) { "debug" } else { "release" },
            cores: std::thread::available_parallelism().map_or(1, Into::into),
            processor: value(&read("/proc/cpuinfo"), "model name").unwrap_or("unknown").to_owned(),
            memory_bytes: value(&read("/proc/meminfo"), "MemTotal")
                .and_then(|kib| kib.strip_suffix("kB")?.trim().parse::<u64>().ok())
                .unwrap_or(0)
                * 1024,
            kernel: known(read("/proc/sys/kernel/osrelease").trim()),
            filesystem: filesystem(&read("/proc/self/mounts"), data_dir),
            disk: probe(data_dir).ok(),
        }
    }

    /// What makes the figures worth less; `None` if nothing does.
    pub fn caveat(&self) -> Option<String> {
        if self.build == "debug" {
            return Some("this is a debug build: build with --release before believing a figure".into());
        }
        matches!(self.filesystem.as_str(), "tmpfs" | "ramfs").then(|| {
            format!(
                "the data lies on {}, where durable means nothing: name a disk with --dir",
                self.filesystem
            )
        })
    }
}

fn probe(dir: &Path) -> std::io::Result<DiskProbe> {
    let mut file = tempfile::tempfile_in(dir)?;
    let mut times = Vec::with_capacity(PROBES);
    for _ in 0..PROBES {
        let began = Instant::now();
        file.write_all(&[1; PROBE_BYTES])?;
        file.sync_data()?;
        times.push(began.elapsed().as_nanos() as f64 / 1000.0);
    }
    times.sort_by(f64::total_cmp);
    Ok(DiskProbe { fdatasync_p50_us: times[PROBES / 2], fdatasync_p99_us: times[PROBES * 99 / 100] })
}

fn known(text: &str) -> String {
    if text.is_empty() { "unknown".into() } else { text.into() }
}

/// The value after `name :`.
fn value<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    text.lines().find_map(|line| {
        let (key, value) = line.split_once(':')?;
        (key.trim() == name).then(|| value.trim())
    })
}

/// The type of the mount with the longest path above `path`; of two with the same path the later one covers the
/// other.
fn filesystem(mounts: &str, path: &Path) -> String {
    let path = path.canonicalize().unwrap_or_else(|_| path.to_owned());
    let mounts = mounts.lines().filter_map(|line| {
        let mut fields = line.split(' ').skip(1);
        Some((Path::new(fields.next()?), fields.next()?))
    });
    let above = mounts.filter(|(point, _)| path.starts_with(point));
    known(above.max_by_key(|(point, _)| point.as_os_str().len()).map_or("", |(_, kind)| kind))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_mount_counts() {
        let mounts = "/dev/vda / ext4 rw 0 0\ntmpfs /dev/shm tmpfs rw 0 0\n";
        assert_eq!(filesystem(mounts, Path::new("/home/a")), "ext4");
        assert_eq!(filesystem(mounts, Path::new("/dev/shm/a")), "tmpfs");
        assert_eq!(filesystem("", Path::new("/a")), "unknown");
    }

    #[test]
    fn names_are_found() {
        assert_eq!(value("a\t: 1\nmodel name\t: Z80 @ 4 MHz\n", "model name"), Some("Z80 @ 4 MHz"));
    }
}
