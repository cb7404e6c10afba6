//! `trough tail`: a device's frames as they become durable.
//!
//! It asks for what lies behind the last frame it printed, again and again; the server answers "not modified"
//! for almost nothing while there is no news. A frame is printed once, whatever happens to the connection.

use std::time::Duration;

use anyhow::Result;
use clap::Args;
use reqwest::header::HeaderValue;
use trough_protocol::DeviceId;
use trough_runtime::shutdown::Shutdown;
use trough_store::TokenKind;

use crate::api::{Api, ApiError, Place};
use crate::cmd::Work;
use crate::error::CliError;
use crate::faults::Faults;
use crate::opt::{self, Opt};
use crate::output;
use crate::tls::CaArgs;

const DEVICE: Opt = Opt { flag: "DEVICE", env: "" };
/// Between questions while there is news.
const POLL: Duration = Duration::from_millis(200);
/// Between questions to a server that does not answer; doubled up to the second.
const RETRY: (Duration, Duration) = (Duration::from_millis(250), Duration::from_secs(5));

/// Which device, from where, as whom.
#[derive(Debug, Args)]
pub struct TailArgs {
    /// Its id
    #[arg(value_name = "DEVICE")]
    device: String,
    /// The reader API
    #[arg(long, env = opt::API_URL.env, hide_env_values = true, value_name = "URL",
          default_value = "http://127.0.0.1:8081")]
    api: String,
    /// A reader's token; better in the environment, where other users of the machine do not see it
    #[arg(long, env = opt::READER_TOKEN.env, hide_env_values = true, value_name = "TOKEN", required = true)]
    token: String,
    /// Where to begin: now, start, a time of the device (2017-03-21T05:00:02Z or µs since 1970), or behind a
    /// frame (EPOCH:SEQ)
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

/// Checks the options.
pub fn prepare(args: TailArgs, mut faults: Faults) -> Result<Work, Faults> {
    let device =
        faults.parsed(DEVICE, &args.device, "use the id of a device, as `trough devices list` shows it");
    let api = faults.url(opt::API_URL, &args.api, &["http", "https"], "http://127.0.0.1:8081");
    let token = faults.token(opt::READER_TOKEN, TokenKind::Reader, &args.token);
    let from = parse_from(&args.from);
    if from.is_none() {
        let remedy = "use now, start, 2017-03-21T05:00:02Z, µs since 1970, or EPOCH:SEQ";
        faults.add(opt::FROM, args.from, "it is no place to begin at", remedy);
    }
    let ca = args.ca.check(&mut faults);
    let (((device, api), token), from) = faults.into_result(device.zip(api).zip(token).zip(from))?;
    Ok(Box::pin(async move {
        let api = Api::new(api, token, ca.as_deref())?;
        let tail = Tail { api, device, time: None, last: None, etag: None };
        tail.run(from).await
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

struct Tail {
    api: Api,
    device: DeviceId,
    /// Only frames of this time or later.
    time: Option<String>,
    /// The last frame printed.
    last: Option<Place>,
    etag: Option<HeaderValue>,
}

impl Tail {
    async fn run(mut self, from: From) -> Result<(), CliError> {
        let shutdown = Shutdown::new(Duration::ZERO);
        shutdown
            .watch_signals()
            .map_err(|error| anyhow::Error::new(error).context("cannot watch for signals"))?;
        tokio::select! {
            () = shutdown.draining.cancelled() => Ok(()),
            result = self.follow(from) => result,
        }
    }

    async fn follow(&mut self, from: From) -> Result<(), CliError> {
        match from {
            From::Start => {}
            From::Time(time) => self.time = Some(time),
            From::Behind(place) => self.last = Some(place),
            From::Now => self.last = self.until_answered(Self::newest).await?,
        }
        loop {
            self.until_answered(Self::print_news).await?;
            tokio::time::sleep(POLL).await;
        }
    }

    /// Repeats a question until the server answers; says once that it does not, and once that it does again.
    async fn until_answered<T>(
        &mut self,
        mut ask: impl AsyncFnMut(&mut Self) -> Result<T, Failure>,
    ) -> Result<T, CliError> {
        let mut delay = RETRY.0;
        let mut told = false;
        loop {
            match ask(self).await {
                Ok(answer) => {
                    if told {
                        output::note("connected again");
                    }
                    return Ok(answer);
                }
                Err(Failure::Output(error)) => return Err(error),
                Err(Failure::Api(ApiError::Again(error))) => {
                    if !std::mem::replace(&mut told, true) {
                        output::note(format!("{error:#}; trying again"));
                    }
                }
                Err(Failure::Api(refused)) => return Err(anyhow::Error::new(refused).into()),
            }
            self.etag = None;
            tokio::time::sleep(delay).await;
            delay = (delay * 2).min(RETRY.1);
        }
    }

    /// The last frame there is.
    async fn newest(&mut self) -> Result<Option<Place>, Failure> {
        let parameters = [("order", "desc".to_owned()), ("limit", "1".to_owned())];
        let Some(mut lines) = self.api.frames(&self.device, &parameters, &mut None).await? else {
            return Ok(None);
        };
        let line = lines.next().await.map_err(ApiError::Again)?;
        Ok(line.map(place_of).transpose().map_err(ApiError::Again)?)
    }

    async fn print_news(&mut self) -> Result<(), Failure> {
        let mut parameters = Vec::new();
        parameters.extend(self.time.iter().map(|time| ("from", time.clone())));
        parameters.extend(self.last.iter().map(|place| ("after", place.to_string())));
        let Some(mut lines) = self.api.frames(&self.device, &parameters, &mut self.etag).await? else {
            return Ok(());
        };
        while let Some(line) = lines.next().await.map_err(ApiError::Again)? {
            let place = place_of(line).map_err(ApiError::Again)?;
            output::line(line).map_err(Failure::Output)?;
            self.last = Some(place);
            // The next question differs from this one, so this answer's tag says nothing about it.
            self.etag = None;
        }
        Ok(())
    }
}

fn place_of(line: &str) -> Result<Place> {
    serde_json::from_str(line)
        .map_err(|error| anyhow::anyhow!("the answer has a line that is no frame ({error})"))
}

enum Failure {
    Api(ApiError),
    Output(CliError),
}

impl std::convert::From<ApiError> for Failure {
    fn from(error: ApiError) -> Self {
        Self::Api(error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_to_begin_at() {
        assert_eq!(parse_from("now"), Some(From::Now));
        assert_eq!(parse_from("start"), Some(From::Start));
        assert_eq!(parse_from("3:14"), Some(From::Behind(Place { epoch: 3, seq: 14 })));
        for time in ["2017-03-21T05:00:02Z", "2017-03-21T00:00:02.5-05:00", "1490072402000000"] {
            assert_eq!(parse_from(time), Some(From::Time(time.into())), "{time}");
        }
        for bad in ["", "yesterday", "2017-03-21", "1:", ":1", "1:2:3", "-1"] {
            assert_eq!(parse_from(bad), None, "{bad}");
        }
    }
}
