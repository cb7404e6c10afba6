//! What a session costs that has nothing to say.

use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use serde::Serialize;

use crate::Say;
use crate::deployment::{Deployment, Means, Subject};
use crate::load::{Crew, Load, Pace};
use crate::payload::PayloadKind;
use crate::procfs;

/// The servers ping every 20 s; what that costs is counted.
const HOLD: Duration = Duration::from_secs(25);
/// What is resident before is looked at when the server has been ready so long.
const SETTLE: Duration = Duration::from_secs(1);

/// Memory of the server that holds the sessions.
#[derive(Debug, Clone, Serialize)]
pub struct IdleFigures {
    /// What was measured.
    pub subject: Subject,
    /// Open sessions.
    pub sessions: usize,
    /// How long it took to open them, in seconds.
    pub connect_seconds: f64,
    /// Resident without sessions, in bytes.
    pub resident_before: u64,
    /// Resident with them, after one round of pings.
    pub resident_after: u64,
    /// The difference for each session.
    pub bytes_per_session: f64,
}

/// Opens the sessions and holds them for a while.
///
/// # Errors
/// A server or a session fails.
pub async fn run(
    means: &Means,
    subject: Subject,
    sessions: usize,
    threads: usize,
    say: Say<'_>,
) -> Result<IdleFigures> {
    let title = subject.title();
    say(&format!("{title}: opening {sessions} idle sessions"));
    let deployment = Deployment::start(means, subject, sessions).await?;
    // The one that has the sessions comes first.
    let pid = deployment.servers[0].pid();
    tokio::time::sleep(SETTLE).await;
    let resident_before = procfs::resident_bytes(pid)?;
    let began = Instant::now();
    let silence = silence(threads);
    let crew = Crew::connect(&deployment.target, &silence).await?;
    let connect_seconds = began.elapsed().as_secs_f64();
    say(&format!("{title}: holding {sessions} sessions for {} s", HOLD.as_secs()));
    tokio::time::sleep(HOLD).await;
    let resident_after = procfs::resident_bytes(pid)?;
    let lost = crew.end(&silence).await?;
    if lost > 0 {
        bail!("{lost} of {sessions} idle sessions were lost: their memory cannot be counted");
    }
    deployment.stop().await?;
    Ok(IdleFigures {
        subject,
        sessions,
        connect_seconds,
        resident_before,
        resident_after,
        bytes_per_session: (resident_after as f64 - resident_before as f64) / sessions.max(1) as f64,
    })
}

fn silence(threads: usize) -> Load {
    Load {
        payload_bytes: 0,
        payload: PayloadKind::Binary,
        frames_per_message: 1,
        pace: Pace::Closed { window: 0, frames: Some(0) },
        warmup: Duration::ZERO,
        duration: Duration::ZERO,
        threads,
    }
}
