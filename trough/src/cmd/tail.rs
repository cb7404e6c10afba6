//! `trough tail`: frames as they become durable, of some devices, of a group, or of all.
//!
//! It reads a live stream for each device that is named, or one for all of them, and goes on behind the last event
//! whenever the connection breaks.

use std::time::Duration;

use anyhow::Result;
use backon::{BackoffBuilder, ExponentialBuilder};
use clap::Args;
use reqwest::StatusCode;
use tokio::task::JoinSet;
use trough_protocol::DeviceId;
use trough_runtime::shutdown::Shutdown;
use trough_store::{Group, TokenKind};

use crate::api::{Api, ApiError, Place};
use crate::cmd::Work;
use crate::error::CliError;
use crate::events::Events;
use crate::faults::Faults;
use crate::opt::{self, Opt};
use crate::output;
use crate::tls::CaArgs;

const DEVICE: Opt = Opt { flag: "DEVICE", env: "" };
/// Most devices that can be named: each has a stream, and a server has 256.
const DEVICES_MAX: usize = 32;
/// Most of those that are read from history on: each takes one of the 32 places that a server has for all its streams.
const HISTORIES_MAX: usize = 8;
/// Between tries to reach a server that does not answer, from the first to the longest.
const RETRY: (Duration, Duration) = (Duration::from_millis(250), Duration::from_secs(5));

/// Which devices, from where, as whom.
#[derive(Debug, Args)]
pub struct TailArgs {
    /// Their ids; without any, all devices that the reader may see
    #[arg(value_name = "DEVICE")]
    devices: Vec<String>,
    /// Only the devices of this group, those that enter it later included; instead of DEVICE [default: none]
    #[arg(long, env = opt::TAIL_GROUP.env, hide_env_values = true, value_name = "GROUP")]
    group: Option<String>,
    /// The reader API
    #[arg(long, env = opt::API_URL.env, hide_env_values = true, value_name = "URL",
          default_value = "http://127.0.0.1:8081")]
    api: String,
    /// A reader's token; better in the environment, where other users of the machine do not see it
    #[arg(long, env = opt::READER_TOKEN.env, hide_env_values = true, value_name = "TOKEN", required = true)]
    token: String,
    /// Where to begin: now, start, a time of the device (2017-03-21T05:00:02Z or µs since 1970), or behind a
    /// frame (EPOCH:SEQ); anything but now needs a DEVICE
    #[arg(long, env = opt::FROM.env, hide_env_values = true, value_name = "WHEN", default_value = "now")]
    from: String,
    #[command(flatten)]
    ca: CaArgs,
}

/// Where to begin.
#[derive(Debug, Clone, PartialEq, Eq)]
enum From {
    Now,
    Start,
    /// As the API takes it.
    Time(String),
    Behind(Place),
}

impl From {
    /// As the API takes it.
    fn parameter(&self) -> Option<(&'static str, String)> {
        match self {
            Self::Now => None,
            Self::Start => Some(("after", "0:0".to_owned())),
            Self::Time(time) => Some(("from", time.clone())),
            Self::Behind(place) => Some(("after", place.to_string())),
        }
    }
}

/// Checks the options.
pub fn prepare(args: TailArgs, mut faults: Faults) -> Result<Work, Faults> {
    let remedy = "use the id of a device, as `trough devices list` shows it";
    let devices: Vec<Option<DeviceId>> =
        args.devices.iter().map(|device| faults.parsed(DEVICE, device, remedy)).collect();
    let devices: Option<Vec<DeviceId>> = devices.into_iter().collect();
    if args.devices.len() > DEVICES_MAX {
        let remedy = format!("name {DEVICES_MAX} at the most, or a group");
        faults.add(DEVICE, args.devices.len().to_string(), "these are too many", remedy);
    }
    let group = match args.group.as_deref().map(Group::new).transpose() {
        Ok(group) => Some(group),
        Err(error) => {
            let value = args.group.clone().unwrap_or_default();
            faults.add(opt::TAIL_GROUP, value, error.to_string(), "use the name of one group");
            None
        }
    };
    if let (Some(group), false) = (&args.group, args.devices.is_empty()) {
        faults.add(opt::TAIL_GROUP, group, "devices are named, too", "give one or the other");
    }
    let api = faults.url(opt::API_URL, &args.api, &["http", "https"], "http://127.0.0.1:8081");
    let token = faults.token(opt::READER_TOKEN, TokenKind::Reader, &args.token);
    let from = parse_from(&args.from);
    match &from {
        None => {
            let remedy = "use now, start, 2017-03-21T05:00:02Z, µs since 1970, or EPOCH:SEQ";
            faults.add(opt::FROM, args.from, "it is no place to begin at", remedy);
        }
        Some(From::Now) => {}
        Some(_) if (HISTORIES_MAX + 1..=DEVICES_MAX).contains(&args.devices.len()) => {
            let remedy = format!("with history name {HISTORIES_MAX} at the most, or use --from now");
            faults.add(DEVICE, args.devices.len().to_string(), "these are too many", remedy);
        }
        Some(_) if args.devices.is_empty() => {
            faults.add(
                opt::FROM,
                args.from,
                "it is a place among the frames of a device",
                "name a DEVICE, or use now",
            );
        }
        Some(_) => {}
    }
    let ca = args.ca.check(&mut faults);
    let checked = devices.zip(group).zip(api.zip(token)).zip(from);
    let (((devices, group), (api, token)), from) = faults.into_result(checked)?;
    Ok(Box::pin(async move {
        let api = Api::new(api, token, ca.as_deref())?;
        let mut tails: Vec<Tail> =
            devices.iter().map(|device| Tail::of_device(&api, device, &from)).collect();
        if tails.is_empty() {
            tails.push(Tail::of_group(&api, group.as_ref()));
        }
        run(tails).await
    }))
}

fn parse_from(text: &str) -> Option<From> {
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    match text {
        "now" => return Some(From::Now),
        "start" => return Some(From::Start),
        _ if digits(text) || text.parse::<jiff::Timestamp>().is_ok() => return Some(From::Time(text.into())),
        _ => {}
    }
    let (epoch, seq) = text.split_once(':').filter(|(epoch, seq)| digits(epoch) && digits(seq))?;
    Some(From::Behind(Place { epoch: epoch.parse().ok()?, seq: seq.parse().ok()? }))
}

/// Prints all streams until one fails, or somebody has had enough.
async fn run(tails: Vec<Tail>) -> Result<(), CliError> {
    let shutdown = Shutdown::new(Duration::ZERO);
    shutdown
        .watch_signals()
        .map_err(|error| anyhow::Error::new(error).context("cannot watch for signals"))?;
    let mut streams = JoinSet::new();
    tails.into_iter().for_each(|tail| drop(streams.spawn(tail.follow())));
    tokio::select! {
        () = shutdown.draining.cancelled() => Ok(()),
        Some(ended) = streams.join_next() => match ended {
            Ok(failed) => Err(failed),
            Err(error) => Err(anyhow::Error::new(error).into()),
        },
    }
}

/// One stream.
struct Tail {
    api: Api,
    path: String,
    parameters: Vec<(&'static str, String)>,
    /// The id of the last event.
    id: Option<String>,
}

/// Why a stream is opened again, or not.
enum Failure {
    Api(ApiError),
    Output(CliError),
}

impl Tail {
    fn of_device(api: &Api, device: &DeviceId, from: &From) -> Self {
        let parameters = from.parameter().into_iter().collect();
        Self { api: api.clone(), path: format!("/v1/devices/{device}/live"), parameters, id: None }
    }

    fn of_group(api: &Api, group: Option<&Group>) -> Self {
        let parameters = group.map(|group| ("group", group.to_string())).into_iter().collect();
        Self { api: api.clone(), path: "/v1/live".to_owned(), parameters, id: None }
    }

    /// Prints what comes, for ever; says once that the server does not answer, and once that it does again. Why it ended.
    async fn follow(mut self) -> CliError {
        let mut waits = waits();
        let mut told = false;
        loop {
            let failed = match self.open().await {
                Ok(mut events) => {
                    if std::mem::take(&mut told) {
                        output::note("connected again");
                    }
                    let before = self.id.clone();
                    let ended = self.print(&mut events).await;
                    if self.id != before {
                        waits = self::waits();
                    }
                    ended
                }
                Err(error) => Err(Failure::Api(error)),
            };
            match failed {
                // It ended in order, and said why.
                Ok(()) => {}
                Err(Failure::Output(error)) => return error,
                Err(Failure::Api(ApiError::Again(error))) => {
                    if !std::mem::replace(&mut told, true) {
                        output::note(format!("{error:#}; trying again"));
                    }
                }
                Err(Failure::Api(refused)) => return anyhow::Error::new(refused).into(),
            }
            tokio::time::sleep(waits.next().unwrap_or(RETRY.1)).await;
        }
    }

    /// Opens the stream behind the last event.
    async fn open(&mut self) -> Result<Events, ApiError> {
        match self.api.live(&self.path, &self.parameters, self.id.as_deref()).await {
            Err(ApiError::Refused { status: StatusCode::GONE, detail, .. }) if self.id.is_some() => {
                output::note(format!("frames are left out here: {detail}"));
                self.id = None;
                self.api.live(&self.path, &self.parameters, None).await
            }
            answer => answer,
        }
    }

    async fn print(&mut self, events: &mut Events) -> Result<(), Failure> {
        loop {
            let event = events.next().await;
            self.id = events.last_id().map(str::to_owned).or_else(|| self.id.take());
            match event.map_err(ApiError::Again).map_err(Failure::Api)? {
                Some(event) if event.kind == "frame" => {
                    output::line(&event.data).map_err(Failure::Output)?;
                }
                Some(event) if event.kind == "gap" => output::note(format!("no frames: {}", event.data)),
                // The connection ends with it.
                Some(_) => {}
                None => return Ok(()),
            }
        }
    }
}

fn waits() -> impl Iterator<Item = Duration> {
    ExponentialBuilder::new()
        .with_min_delay(RETRY.0)
        .with_max_delay(RETRY.1)
        .with_factor(2.0)
        .with_jitter()
        .without_max_times()
        .build()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_to_begin_at() {
        let parameter = |text| parse_from(text).unwrap().parameter();
        assert_eq!(parameter("now"), None);
        assert_eq!(parameter("start"), Some(("after", "0:0".into())));
        assert_eq!(parameter("3:14"), Some(("after", "3:14".into())));
        for time in ["2017-03-21T05:00:02Z", "2017-03-21T00:00:02.5-05:00", "1490072402000000"] {
            assert_eq!(parameter(time), Some(("from", time.into())), "{time}");
        }
        for bad in ["", "yesterday", "2017-03-21", "1:", ":1", "1:2:3", "-1"] {
            assert_eq!(parse_from(bad), None, "{bad}");
        }
    }
}
