//! What wakes whoever routes and delivers: the outbox itself in this process, the bus from others.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::watch;
use trough_bus::{Cause, Deployment, Event};

use crate::context::Context;

/// What is told on the bus when events or deliveries may have come.
pub const TOPIC: &str = "outbox";
/// At most one message in this time.
const EVERY: Duration = Duration::from_millis(5);

/// Rings when there may be something to do. Clones hear the same.
#[derive(Debug, Clone)]
pub struct Bell(watch::Receiver<u64>);

impl Bell {
    /// One that rings with the outbox of this process, and with those of others if there is a bus.
    pub fn hang(context: &Arc<Context>, bus: Option<Deployment>) -> Self {
        let (rings, bell) = watch::channel(0);
        let rings = Arc::new(rings);
        let killed = context.shutdown.killed.clone();
        let (news, rung) = (context.outbox.news(), rings.clone());
        let teller = bus.clone();
        let stop = killed.clone();
        tokio::spawn(async move { stop.run_until_cancelled(tell(news, rung, teller)).await });
        if let Some(bus) = bus {
            tokio::spawn(async move { killed.run_until_cancelled(hear(bus, rings)).await });
        }
        Self(bell)
    }

    /// Returns when it has rung since the last call. Cancel-safe.
    pub async fn rung(&mut self) {
        if self.0.changed().await.is_err() {
            // Nobody rings any more, as the process ends.
            std::future::pending().await
        }
    }
}

/// Rings here, and tells the others.
async fn tell(mut news: watch::Receiver<u64>, rings: Arc<watch::Sender<u64>>, bus: Option<Deployment>) {
    while news.changed().await.is_ok() {
        rings.send_modify(|count| *count += 1);
        if let Some(bus) = &bus {
            let told = bus.bus().publish(&bus.topic(TOPIC), Bytes::new()).await;
            if let Err(error) = told {
                tracing::debug!(%error, "others were not told of news in the outbox; they look by themselves");
            }
            tokio::time::sleep(EVERY).await;
        }
    }
}

async fn hear(bus: Deployment, rings: Arc<watch::Sender<u64>>) {
    let mut subscription = bus.bus().subscribe(&bus.topic(TOPIC));
    loop {
        // While the bus is away, looking now and then does: nothing is gained by looking at each complaint.
        if !matches!(subscription.next().await, Event::Rescan(Cause::Away)) {
            rings.send_modify(|count| *count += 1);
        }
    }
}
