//! The cases of a catalog.

use trough_protocol::{Channel, DeviceId, Epoch, Seq};

use super::Fixture;
use crate::catalog::{Catalog, ChannelLast, DeviceState, DeviceSummary, SealedFile};
use crate::error::CatalogError;

type On = Fixture<dyn Catalog>;

fn id(name: &str) -> DeviceId {
    DeviceId::new(name).unwrap()
}

fn file(file_id: u64) -> SealedFile {
    SealedFile {
        file_id,
        bytes: 1000 + file_id,
        frames: 10,
        runs: 2,
        min_received: 100 * file_id,
        max_received: 100 * file_id + 99,
        min_ts: 7,
        max_ts: 9,
    }
}

fn last(channel: &str, epoch: u64, seq: u64, file_id: u64) -> ChannelLast {
    ChannelLast {
        channel: Channel::new(channel).unwrap(),
        epoch: Epoch(epoch),
        seq: Seq(seq),
        ts: 1_000_000 + seq,
        received_at: 100 * file_id + 50,
        file_id,
        offset: 4096,
        len: 77,
    }
}

fn summary(name: &str, heads: &[(u64, u64)], received: u64, channels: Vec<ChannelLast>) -> DeviceSummary {
    DeviceSummary {
        device: id(name),
        heads: heads.iter().map(|(epoch, seq)| (Epoch(*epoch), Seq(*seq))).collect(),
        frames: 5,
        last_received: received,
        last_ts: 2 * received,
        channels,
    }
}

async fn all_states(catalog: &dyn Catalog, page: usize) -> Vec<DeviceState> {
    let mut states: Vec<DeviceState> = Vec::new();
    loop {
        let after = states.last().map(|state| state.device.clone());
        match catalog.device_states(after, page).await.unwrap() {
            more if more.is_empty() => return states,
            more => states.extend(more),
        }
    }
}

pub async fn a_sealed_file_is_recorded_once(on: &On) {
    let catalog = (on.open)();
    let bus = summary("bus-1", &[(1, 5)], 30, vec![last("gps", 1, 5, 2)]);
    for _ in 0..2 {
        catalog.record_sealed(file(2), vec![bus.clone()]).await.unwrap();
    }
    catalog.record_sealed(file(1), Vec::new()).await.unwrap();
    assert_eq!(catalog.files().await.unwrap(), [file(1), file(2)]);
    let state = &all_states(&*catalog, 10).await[0];
    assert_eq!((state.frames, state.last_received, state.last_ts), (5, 30, 60));
    assert_eq!(catalog.device_channels(&id("bus-1")).await.unwrap(), [last("gps", 1, 5, 2)]);
    assert!(catalog.device_channels(&id("nobody")).await.unwrap().is_empty());
}

pub async fn other_figures_of_a_known_file_are_a_conflict(on: &On) {
    let catalog = (on.open)();
    catalog.record_sealed(file(1), Vec::new()).await.unwrap();
    let other = SealedFile { frames: 11, ..file(1) };
    let conflict = catalog.record_sealed(other, vec![summary("x", &[], 1, vec![])]).await;
    assert_eq!(conflict, Err(CatalogError::Conflict { file_id: 1 }));
    assert!(all_states(&*catalog, 10).await.is_empty());
}

pub async fn files_merge_the_same_in_any_order(on: &On) {
    let files = [
        (file(1), summary("bus", &[(1, 9), (2, 3)], 40, vec![last("gps", 2, 3, 1), last("can", 1, 9, 1)])),
        (file(2), summary("bus", &[(2, 8)], 70, vec![last("gps", 2, 8, 2)])),
        // A resend of the old epoch, received last: the heads it carries are not the newest.
        (file(3), summary("bus", &[(1, 9)], 90, vec![last("gps", 1, 9, 3)])),
    ];
    let mut seen = Vec::new();
    for order in [[0, 1, 2], [2, 1, 0], [1, 2, 0]] {
        let catalog = (on.open)();
        catalog.clear().await.unwrap();
        for at in order {
            catalog.record_sealed(files[at].0, vec![files[at].1.clone()]).await.unwrap();
        }
        seen.push((all_states(&*catalog, 10).await, catalog.device_channels(&id("bus")).await.unwrap()));
    }
    let (states, channels) = &seen[0];
    assert_eq!(states[0].heads, [(Epoch(1), Seq(9)), (Epoch(2), Seq(8))]);
    assert_eq!((states[0].frames, states[0].last_received, states[0].last_ts), (15, 90, 180));
    assert_eq!(*channels, [last("can", 1, 9, 1), last("gps", 2, 8, 2)]);
    assert!(seen.iter().all(|one| *one == seen[0]), "{seen:#?}");
}

pub async fn devices_are_paged_with_all_their_heads(on: &On) {
    let catalog = (on.open)();
    let devices = (0..25).map(|n| {
        let heads: Vec<_> = (1..=n % 4).map(|epoch| (epoch, 10 * epoch + n)).collect();
        summary(&format!("bus-{n:02}"), &heads, n, vec![])
    });
    let devices: Vec<_> = devices.collect();
    catalog.record_sealed(file(1), devices.iter().rev().cloned().collect()).await.unwrap();
    for page in [1, 2, 7, 25, 1000] {
        let states = all_states(&*catalog, page).await;
        assert_eq!(states.len(), 25);
        for (state, device) in states.iter().zip(&devices) {
            assert_eq!((&state.device, &state.heads), (&device.device, &device.heads), "page of {page}");
        }
    }
}

pub async fn the_first_copy_of_a_channels_last_frame_stays(on: &On) {
    let catalog = (on.open)();
    for file_id in [2, 1, 3] {
        let copy = summary("bus", &[(1, 5)], 30, vec![last("gps", 1, 5, file_id)]);
        catalog.record_sealed(file(file_id), vec![copy]).await.unwrap();
    }
    assert_eq!(catalog.device_channels(&id("bus")).await.unwrap(), [last("gps", 1, 5, 1)]);
}

pub async fn removed_files_leave_the_devices(on: &On) {
    let catalog = (on.open)();
    for file_id in 1..=3 {
        let bus = summary("bus", &[(1, file_id)], file_id, vec![last("gps", 1, file_id, file_id)]);
        catalog.record_sealed(file(file_id), vec![bus]).await.unwrap();
    }
    catalog.remove_files(&[1, 3, 99]).await.unwrap();
    assert_eq!(catalog.files().await.unwrap(), [file(2)]);
    assert_eq!(all_states(&*catalog, 10).await[0].frames, 15);
    assert_eq!(catalog.device_channels(&id("bus")).await.unwrap()[0].file_id, 3);
}

pub async fn clearing_forgets_everything(on: &On) {
    let catalog = (on.open)();
    let bus = summary("bus", &[(1, 5)], 30, vec![last("gps", 1, 5, 1)]);
    catalog.record_sealed(file(1), vec![bus.clone()]).await.unwrap();
    catalog.clear().await.unwrap();
    assert!(catalog.files().await.unwrap().is_empty());
    assert!(all_states(&*catalog, 10).await.is_empty());
    assert!(catalog.device_channels(&id("bus")).await.unwrap().is_empty());
    catalog.record_sealed(file(1), vec![bus]).await.unwrap();
    assert_eq!(all_states(&*catalog, 10).await[0].frames, 5);
}

pub async fn what_was_recorded_survives_a_restart(on: &On) {
    let catalog = (on.open)();
    let bus = summary("bus", &[(1, 5)], 30, vec![last("gps", 1, 5, 1)]);
    catalog.record_sealed(file(1), vec![bus]).await.unwrap();
    drop(catalog);
    let catalog = (on.open)();
    assert_eq!(catalog.files().await.unwrap(), [file(1)]);
    assert_eq!(all_states(&*catalog, 10).await[0].heads, [(Epoch(1), Seq(5))]);
}

pub async fn a_value_that_does_not_fit_changes_nothing(on: &On) {
    let catalog = (on.open)();
    let good = summary("a", &[(1, 5)], 30, vec![]);
    let bad = summary("b", &[(1, u64::MAX)], 30, vec![]);
    let refused = catalog.record_sealed(file(1), vec![good, bad]).await;
    assert!(matches!(refused, Err(CatalogError::Invalid(_))), "{refused:?}");
    assert!(catalog.files().await.unwrap().is_empty());
    assert!(all_states(&*catalog, 10).await.is_empty());
}
