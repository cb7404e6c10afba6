//! Granting epochs: whatever waits is granted together, with one commit.
//!
//! Ten thousand devices that connect at once want ten thousand epochs, each durable before it is used.

use std::collections::{BTreeMap, HashMap};
use std::convert::Infallible;
use std::sync::{Arc, Mutex, PoisonError};

use mongodb::bson::doc;
use mongodb::error::Result;
use mongodb::options::ReturnDocument;
use mongodb::{ClientSession, Database};
use serde::Deserialize;
use tokio::sync::oneshot;
use trough_protocol::{DeviceId, Epoch};

use super::client::{OPERATION_MAX, Section};
use super::failure::Failure;
use super::transaction::transact;

/// Most grants of one commit: each commit must end well before its deadline, on a busy server too.
const GROUP_MAX: usize = 100;

type Granted = std::result::Result<Option<Epoch>, Failure>;

/// Grants that wait for the ones under way.
#[derive(Debug, Default)]
pub(super) struct Epochs {
    waiting: Mutex<Vec<(DeviceId, oneshot::Sender<Granted>)>>,
    turn: Arc<tokio::sync::Mutex<()>>,
}

impl Epochs {
    /// The next epoch of a device; `None` if the device is unknown or was revoked.
    ///
    /// Cancel safety: the epoch may be granted without anybody using it, which harms nobody.
    pub async fn grant(self: &Arc<Self>, section: &Section, device: DeviceId) -> Granted {
        let (caller, mut answer) = oneshot::channel();
        self.waiting().push((device, caller));
        tokio::select! {
            biased;
            granted = &mut answer => return granted.unwrap_or_else(|_| cut_off()),
            turn = self.turn.clone().lock_owned() => {
                let (epochs, section) = (self.clone(), section.clone());
                // A task of its own: others wait for it too, should this caller go away.
                let mongo = section.mongo().clone();
                mongo.spawn(async move {
                    let _turn = turn;
                    epochs.grant_waiting(&section).await;
                });
            }
        }
        answer.await.unwrap_or_else(|_| cut_off())
    }

    async fn grant_waiting(&self, section: &Section) {
        let group: Vec<_> = {
            let mut waiting = self.waiting();
            let count = waiting.len().min(GROUP_MAX);
            waiting.drain(..count).collect()
        };
        if group.is_empty() {
            return;
        }
        let (devices, callers): (Vec<_>, Vec<_>) = group.into_iter().unzip();
        let granted =
            section.run(OPERATION_MAX, async move |database| grant_all(database, devices).await).await;
        for (place, caller) in callers.into_iter().enumerate() {
            // A caller that has gone needs no answer.
            let _ = caller.send(granted.as_ref().map(|epochs| epochs[place]).map_err(Clone::clone));
        }
    }

    fn waiting(&self) -> std::sync::MutexGuard<'_, Vec<(DeviceId, oneshot::Sender<Granted>)>> {
        // Nothing panics while holding it.
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn cut_off() -> Granted {
    Err(Failure::Unavailable("the grant was cut off".into()))
}

#[derive(Debug, Deserialize)]
struct EpochOnly {
    #[serde(rename = "_id")]
    id: String,
    epoch: u64,
}

/// The next epoch of each, in order; a device that stands there twice gets two.
async fn grant_all(
    database: Database,
    devices: Vec<DeviceId>,
) -> std::result::Result<Vec<Option<Epoch>>, Failure> {
    if let [device] = &*devices {
        return Ok(vec![grant_one(&database, device).await?]);
    }
    let devices = Arc::new(devices);
    let granted = transact(database, move |database, session| {
        let devices = devices.clone();
        Box::pin(async move { grant_many(database, session, &devices).await })
    });
    Ok(granted.await?.unwrap_or_else(|refused: Infallible| match refused {}))
}

/// In one step that no two callers share.
async fn grant_one(database: &Database, device: &DeviceId) -> Granted {
    let granted = database
        .collection::<EpochOnly>("devices")
        .find_one_and_update(
            doc! { "_id": device.as_str(), "revoked_at": null },
            doc! { "$inc": { "epoch": 1_i64 } },
        )
        .projection(doc! { "epoch": 1 })
        .return_document(ReturnDocument::After)
        .await?;
    Ok(granted.map(|device| Epoch(device.epoch)))
}

/// In a transaction: whoever changes one of the devices between the look and the step makes it begin again.
async fn grant_many(
    database: &Database,
    session: &mut ClientSession,
    devices: &[DeviceId],
) -> Result<Vec<Option<Epoch>>> {
    let collection = database.collection::<EpochOnly>("devices");
    let mut wanted = BTreeMap::<&str, i64>::new();
    devices.iter().for_each(|device| *wanted.entry(device.as_str()).or_default() += 1);
    let active = |ids: Vec<&str>| doc! { "_id": { "$in": ids }, "revoked_at": null };
    let mut epochs = HashMap::new();
    let all = active(wanted.keys().copied().collect());
    let mut found = collection.find(all).projection(doc! { "epoch": 1 }).session(&mut *session).await?;
    while let Some(device) = found.next(&mut *session).await {
        let device = device?;
        epochs.insert(device.id, device.epoch);
    }
    let mut steps = BTreeMap::<i64, Vec<&str>>::new();
    wanted.into_iter().for_each(|(id, step)| steps.entry(step).or_default().push(id));
    for (step, ids) in steps {
        let step = doc! { "$inc": { "epoch": step } };
        collection.update_many(active(ids), step).session(&mut *session).await?;
    }
    let next = |device: &DeviceId| {
        let epoch = epochs.get_mut(device.as_str())?;
        *epoch += 1;
        Some(Epoch(*epoch))
    };
    Ok(devices.iter().map(next).collect())
}
