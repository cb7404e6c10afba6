//! Many well-behaved devices.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinSet;
use trough_device::{Config, Device, Event, Mode, Status};

use crate::cluster::Cluster;
use crate::ledger::{Sent, Track};
use crate::poll::{LATER, SOON, ends, until};

/// A configuration for tests: it does not wait long before it connects again.
pub fn config(cluster: &Cluster, token: &str) -> Config {
    let mut config = Config::new(cluster.url(), token);
    config.tls = cluster.entrance.tls.clone();
    config.backoff_min = Duration::from_millis(20);
    config.backoff_max = Duration::from_millis(500);
    config
}

/// Devices that send their tracks as far as they are let.
#[derive(Debug)]
pub struct Fleet {
    /// What they send.
    pub tracks: Arc<Vec<Track>>,
    /// The devices, in the order of the tracks.
    pub devices: Vec<Arc<Device>>,
    senders: JoinSet<()>,
    /// How much of its track each may have sent, in thousandths.
    let_go: watch::Sender<u64>,
}

impl Fleet {
    /// Adds a device for each track and waits until it is in its first session, so that it has its epoch; nothing is
    /// sent yet.
    pub async fn start(cluster: &Cluster, tracks: Vec<Track>, mode: Mode) -> Self {
        let tokens = cluster.import_devices(tracks.iter().map(|track| &*track.device)).await;
        let (let_go, gate) = watch::channel(0);
        let tracks = Arc::new(tracks);
        let mut senders = JoinSet::new();
        let mut devices = Vec::new();
        for index in 0..tracks.len() {
            let mut config = config(cluster, &tokens[&tracks[index].device]);
            config.mode = mode;
            let device = Arc::new(Device::start(config).unwrap());
            devices.push(device.clone());
            senders.spawn(send(device, tracks.clone(), index, gate.clone()));
        }
        for device in &devices {
            ends("every device is connected", LATER, device.connected()).await.unwrap();
        }
        Self { tracks, devices, senders, let_go }
    }

    /// Lets each device send its track up to this many thousandths.
    pub fn let_go(&self, thousandths: u64) {
        self.let_go.send_replace(thousandths);
    }

    /// How many frames that is, over all devices.
    pub fn due(&self) -> u64 {
        let let_go = *self.let_go.borrow();
        let due =
            |track: &Track| (0..track.sent.len()).filter(|at| turn(track, *at) <= let_go).count() as u64;
        self.tracks.iter().map(due).sum()
    }

    /// Lets the devices send the rest, and waits until all of it is acknowledged.
    pub async fn finish(&mut self) {
        self.let_go(1000);
        ends("every device has sent everything and has it acknowledged", LATER * 2, async {
            while let Some(ended) = self.senders.join_next().await {
                ended.unwrap();
            }
        })
        .await;
    }

    /// Frames acknowledged so far, over all devices.
    pub fn acked(&self) -> u64 {
        self.devices.iter().map(|device| device.acked().0).sum()
    }
}

/// How many thousandths must have been let go before the frame at this place is sent.
fn turn(track: &Track, at: usize) -> u64 {
    at as u64 * 1000 / track.sent.len() as u64 + 1
}

async fn send(device: Arc<Device>, tracks: Arc<Vec<Track>>, index: usize, mut gate: watch::Receiver<u64>) {
    let track = &tracks[index];
    for (at, frame) in track.sent.iter().enumerate() {
        let needed = turn(track, at);
        if gate.wait_for(|let_go| *let_go >= needed).await.is_err() {
            return;
        }
        device.send(frame.frame()).await.unwrap();
    }
    device.close().await.unwrap();
}

/// A well-behaved device that streams while others misbehave, and must notice nothing of it.
#[derive(Debug)]
pub struct Neighbour {
    device: Arc<Device>,
    id: String,
    task: tokio::task::JoinHandle<Vec<Sent>>,
    stop: watch::Sender<bool>,
}

impl Neighbour {
    /// Starts it.
    pub async fn start(cluster: &Cluster) -> Self {
        let id = "neighbour".to_owned();
        let token = cluster.add_device(&id).await;
        let device = Arc::new(Device::connect(config(cluster, &token)).await.unwrap());
        let (stop, stopped) = watch::channel(false);
        let sender = device.clone();
        let mut events = device.events();
        let task = tokio::spawn(async move {
            let mut sent = Vec::new();
            while !*stopped.borrow() {
                let frame = Sent::on_wire(sent.len() as u64 + 1, format!("frame {}", sent.len()).as_bytes());
                sender.send(frame.frame()).await.unwrap();
                // One frame at a time: the next is sent when this one is durable.
                ends("a neighbour's frame is acknowledged", SOON, sender.flush()).await.unwrap();
                sent.push(frame);
                while let Ok(event) = events.try_recv() {
                    assert!(
                        !matches!(event, Event::Disconnected { .. }),
                        "the neighbour suffered: {event:?}"
                    );
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            sent
        });
        Self { device, id, task, stop }
    }

    /// How far it has come.
    pub fn acked(&self) -> u64 {
        self.device.acked().0
    }

    /// Waits until it has `more` frames acknowledged.
    pub async fn goes_on(&self, more: u64) {
        let goal = self.acked() + more;
        until("the neighbour streams on", SOON, async || (self.acked() >= goal).then_some(())).await;
    }

    /// Ends it: it was in one session all the time, and all that it sent can be read.
    pub async fn assert_unharmed(self, cluster: &Cluster) {
        self.goes_on(3).await;
        assert_eq!(*self.device.watch_status().borrow(), Status::Connected);
        self.stop.send_replace(true);
        let sent = self.task.await.unwrap();
        self.device.close().await.unwrap();
        assert_eq!(self.device.epoch().0, 1);
        let track = Track { device: self.id, sent };
        track.assert_readable(&cluster.reader(), 1).await;
        let ends = cluster.session_ends(&track.device);
        assert_eq!(ends.len(), 1, "the neighbour had one session: {ends:?}");
    }
}
