//! Exports: devices one after another into one file, or each into its own.

mod direct;
mod http;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context, Result, bail};
use reqwest::Url;
use trough_eater::export::{ExportFile, ExportFormat, ExportRange, Exported, Resume};
use trough_protocol::DeviceId;
use trough_runtime::process::cpu_seconds;
use trough_runtime::secret::Secret;
use trough_store::Group;

use crate::deposit::Deposit;
use crate::error::CliError;
use crate::output::{self, counted, grouped};
use crate::progress::Progress;

/// What is copied, and where to.
#[derive(Debug)]
pub struct Selection {
    /// A file, or a directory.
    pub out: PathBuf,
    /// What is written.
    pub format: ExportFormat,
    /// Sorted; empty for all.
    pub devices: Vec<DeviceId>,
    /// Only its devices.
    pub group: Option<Group>,
    /// Which of their frames.
    pub range: ExportRange,
    /// Go on where frames are damaged.
    pub past_damage: bool,
}

/// Where frames come from.
#[derive(Debug)]
pub enum From {
    /// Storage.
    Storage(Deposit),
    /// A server.
    Server(Server),
}

/// A server's reader API.
#[derive(Debug)]
pub struct Server {
    /// Where it is.
    pub base: Url,
    /// As whom to ask.
    pub token: Secret<String>,
    /// The authority of its certificate.
    pub ca: Option<Vec<u8>>,
}

/// What was copied.
#[derive(Debug, Default)]
struct Copied {
    frames: u64,
    payload_bytes: u64,
    file_bytes: u64,
    files: u64,
    /// Frames that are damaged.
    lost: u64,
}

/// Copies what was selected.
///
/// # Errors
/// It cannot go on; the same command goes on where it was.
pub async fn run(selection: Selection, from: From) -> Result<(), CliError> {
    let (began, cpu) = (Instant::now(), cpu_seconds());
    let copied = match from {
        From::Storage(deposit) => direct::run(selection, deposit).await,
        From::Server(server) => http::run(selection, server).await,
    };
    let copied = copied.context("the export is not complete; the same command goes on where it was")?;
    let (seconds, spent) =
        (began.elapsed().as_secs_f64(), cpu_seconds().zip(cpu).map(|(now, then)| now - then));
    let rate = |seconds: f64| grouped((copied.frames as f64 / seconds.max(1e-9)) as u64);
    output::line(format_args!(
        "{}, {} of payload, {} in {}; {seconds:.1} s, {} frames/s; {:.1} s of CPU, {} frames/s and core",
        counted(copied.frames, "frame"),
        counted(copied.payload_bytes, "byte"),
        counted(copied.file_bytes, "byte"),
        counted(copied.files, "file"),
        rate(seconds),
        spent.unwrap_or(0.0),
        rate(spent.unwrap_or(0.0)),
    ))?;
    match copied.lost {
        0 => Ok(()),
        lost => {
            Err(anyhow::anyhow!("{} could not be read, and are not in it", counted(lost, "damaged frame"))
                .into())
        }
    }
}

impl Selection {
    /// The files to make, each with its devices, by `all` that there are.
    fn files(&self, all: BTreeSet<DeviceId>) -> Result<Vec<(PathBuf, Vec<DeviceId>)>> {
        let chosen =
            |device: &DeviceId| self.devices.is_empty() || self.devices.binary_search(device).is_ok();
        let unknown = self.devices.iter().find(|device| !all.contains(*device));
        if let Some(device) = unknown {
            bail!(
                "device {device} has no frames here, or is not in the group: look at `trough devices list`"
            );
        }
        let devices: Vec<DeviceId> = all.into_iter().filter(chosen).collect();
        if !self.out.is_dir() {
            return Ok(vec![(self.out.clone(), devices)]);
        }
        let ending = match self.format {
            ExportFormat::Parquet => "parquet",
            ExportFormat::NdJson => "ndjson",
            ExportFormat::Csv => "csv",
        };
        let file = |device: DeviceId| (self.out.join(format!("{device}.{ending}")), vec![device]);
        // A file that has its name is complete.
        Ok(devices.into_iter().map(file).filter(|(path, _)| !path.exists()).collect())
    }

    /// What only the same export may go on with.
    fn request(&self, from: &str) -> String {
        let devices: Vec<&str> = self.devices.iter().map(DeviceId::as_str).collect();
        let channel = self.range.channel.as_ref().map(|channel| channel.as_str());
        let group = self.group.as_ref().map(Group::as_str);
        format!(
            "{:?} from {from}, devices [{}], group {group:?}, time {:?}, channel {channel:?}",
            self.format,
            devices.join(","),
            self.range.ts
        )
    }
}

/// The file that is made, and the bar.
struct Sink {
    file: ExportFile,
    progress: Arc<Progress>,
    /// Frames of files that are complete.
    before: u64,
    told: u64,
}

/// So many frames pass between two looks of the bar.
const TELL_EVERY: u64 = 8192;

impl Sink {
    fn open(
        path: &Path,
        selection: &Selection,
        request: &str,
        progress: &Arc<Progress>,
        before: u64,
    ) -> Result<(Self, Resume)> {
        let (file, resume) = ExportFile::open(path, selection.format, request)?;
        if resume.resumed {
            progress.note(&format!(
                "going on with {} behind {}",
                path.display(),
                counted(resume.progress.frames, "frame")
            ));
        }
        Ok((Self { file, progress: progress.clone(), before, told: 0 }, resume))
    }

    fn push(&mut self, exported: &Exported<'_>) -> Result<(), trough_eater::export::ExportError> {
        self.file.push(exported)?;
        if self.file.frames() >= self.told + TELL_EVERY {
            self.told = self.file.frames();
            self.progress.set(self.before + self.told);
        }
        Ok(())
    }

    /// Leaves out so many frames that are damaged.
    fn lose(&mut self, count: u64) {
        self.file.lose(count);
    }

    fn finish(self, copied: &mut Copied) -> Result<()> {
        copied.lost += self.file.lost();
        copied.frames += self.file.frames();
        copied.payload_bytes += self.file.payload_bytes();
        copied.file_bytes += self.file.finish()?;
        copied.files += 1;
        Ok(())
    }
}
