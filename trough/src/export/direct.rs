//! From storage, without a server.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::sync::Arc;

use anyhow::{Context, Error, Result};
use tokio::runtime::Handle;
use trough_eater::export::{DirectParts, DirectSource};
use trough_eater::journal::JournalError;
use trough_protocol::DeviceId;
use trough_store::DeviceFilter;

use super::{Copied, Selection, Sink};
use crate::deposit::{Absent, Deposit};
use crate::output;
use crate::progress::Progress;
use crate::registry::{self, Missing, Place};

/// Copies on a thread that may block.
pub(super) async fn run(selection: Selection, deposit: Deposit) -> Result<Copied> {
    let group = match &selection.group {
        Some(group) => {
            let place = Place::of(&deposit.data_dir, deposit.database.clone());
            let registry = registry::open(place, Missing::Refuse)?;
            let groups = Some(BTreeSet::from([group.clone()]));
            let filter = DeviceFilter { groups, ..DeviceFilter::default() };
            let devices = registry::all_devices(&*registry, filter).await?;
            Some(devices.into_iter().map(|device| device.id).collect::<BTreeSet<DeviceId>>())
        }
        None => None,
    };
    let handle = Handle::current();
    let copying = tokio::task::spawn_blocking(move || copy(&selection, &deposit, group.as_ref(), handle));
    copying.await.context("the export has panicked")?
}

fn copy(
    selection: &Selection,
    deposit: &Deposit,
    group: Option<&BTreeSet<DeviceId>>,
    handle: Handle,
) -> Result<Copied> {
    let opened = deposit.open(Absent::Empty)?;
    let parts = DirectParts {
        store: opened.store.clone(),
        segments: opened.segments.clone(),
        journals: opened.journals.clone(),
        clock: opened.clock.clone(),
    };
    let source = DirectSource::open(parts, handle).map_err(|error| match error {
        in_use @ JournalError::InUse { .. } => Error::new(in_use)
            .context("a server has the data directory open: export through it, with --url and --token"),
        other => other.into(),
    })?;
    let mut all = source.devices()?;
    all.retain(|device| group.is_none_or(|group| group.contains(device)));
    let request = selection.request("storage");
    let progress = Arc::new(Progress::new("exporting", "frames", None));
    let mut copied = Copied::default();
    for (path, devices) in selection.files(all)? {
        let (sink, resume) = Sink::open(&path, selection, &request, &progress, copied.frames)?;
        // Frames and damage come by turns.
        let sink = RefCell::new(sink);
        let begun = resume.progress;
        for device in devices.iter().filter(|device| device.as_str() >= begun.device.as_str()) {
            let after = if device.as_str() == begun.device { begun.after } else { (0, 0) };
            let lost = |error: trough_eater::journal::ReadError| {
                if !selection.past_damage {
                    return Err(error);
                }
                let count = error.lost_numbers().map_or(0, |(_, first, last)| last.0 - first.0 + 1);
                sink.borrow_mut().lose(count);
                progress.note(&format!("{device}: {error}"));
                Ok(())
            };
            source.frames(device, after, &selection.range, |frame| sink.borrow_mut().push(frame), lost)?;
        }
        sink.into_inner().finish(&mut copied)?;
    }
    progress.clear();
    if copied.files == 0 {
        output::note("every file is there already");
    }
    Ok(copied)
}
