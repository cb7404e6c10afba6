//! `trough export`: frames into a file.

use std::path::PathBuf;

use clap::Args;
use clap::builder::BoolishValueParser;
use trough_eater::export::{ExportFormat, ExportRange};
use trough_protocol::limits::INT_MAX;
use trough_protocol::{Channel, DeviceId, Micros};
use trough_store::{Group, TokenKind};

use crate::cmd::Work;
use crate::deposit::DepositArgs;
use crate::export::{self, From, Selection, Server};
use crate::faults::Faults;
use crate::opt::{self, Opt};
use crate::tls::CaArgs;

/// What to copy, from where to where.
#[derive(Debug, Args)]
pub struct ExportArgs {
    /// The file to make; or a directory that exists, which gets a file for each device. Until it is complete, FILE.part and
    /// FILE.part.state stand beside it, and the same command goes on there [default: none, it must be given]
    #[arg(long, env = opt::OUT.env, hide_env_values = true, value_name = "FILE|DIR", required = true)]
    out: PathBuf,
    /// parquet, ndjson or csv [default: by the ending of the file, else parquet]
    #[arg(long, env = opt::EXPORT_FORMAT.env, hide_env_values = true, value_name = "FORMAT")]
    format: Option<String>,
    /// Only this device; repeat it for more, or join them by commas [default: all that have frames]
    #[arg(long, env = opt::EXPORT_DEVICE.env, hide_env_values = true, value_name = "DEVICE", value_delimiter = ',')]
    device: Vec<String>,
    /// Only devices of this group [default: all groups]
    #[arg(long, env = opt::GROUP.env, hide_env_values = true, value_name = "GROUP")]
    group: Option<String>,
    /// Only frames of this time of their device or later: 2017-03-21T05:00:02Z, or µs since 1970 [default: from the first]
    #[arg(long, env = opt::FROM.env, hide_env_values = true, value_name = "WHEN")]
    from: Option<String>,
    /// Only frames before this time [default: to the last]
    #[arg(long, env = opt::TO.env, hide_env_values = true, value_name = "WHEN")]
    to: Option<String>,
    /// Only frames of this channel [default: all channels]
    #[arg(long, env = opt::CHANNEL.env, hide_env_values = true, value_name = "CHANNEL")]
    channel: Option<String>,
    /// Without --url, go on where frames are damaged, and say which they were; else the export stops there [default: off]
    #[arg(long, env = opt::PAST_DAMAGE.env, hide_env_values = true, value_parser = BoolishValueParser::new())]
    past_damage: bool,
    /// Ask a running server, at this URL of its reader API [default: none, the storage is read itself]
    #[arg(long, env = opt::EXPORT_URL.env, hide_env_values = true, value_name = "URL")]
    url: Option<String>,
    /// With --url, a reader's token; better in the environment, where other users of the machine do not see it
    /// [default: none]
    #[arg(long, env = opt::READER_TOKEN.env, hide_env_values = true, value_name = "TOKEN")]
    token: Option<String>,
    #[command(flatten)]
    ca: CaArgs,
    #[command(flatten)]
    deposit: DepositArgs,
}

const FORMATS: [(&str, ExportFormat); 3] =
    [("parquet", ExportFormat::Parquet), ("ndjson", ExportFormat::NdJson), ("csv", ExportFormat::Csv)];

/// Checks the options.
pub fn prepare(args: Box<ExportArgs>, mut faults: Faults) -> Result<Work, Faults> {
    let args = *args;
    let faults = &mut faults;
    let format = format(faults, &args);
    let devices = devices(faults, &args.device);
    let remedy = "use the name of a group, as `trough devices list` shows it";
    let group = args.group.as_deref().map(|group| faults.parsed::<Group>(opt::GROUP, group, remedy));
    let ts = span(faults, args.from.as_deref(), args.to.as_deref());
    let remedy = "use the name of a channel";
    let channel =
        args.channel.as_deref().map(|channel| faults.parsed::<Channel>(opt::CHANNEL, channel, remedy));
    let from = from(faults, args.url.as_deref(), args.token.as_deref(), &args.ca, args.deposit);
    let selection = (|| {
        // Given and wrong is not the same as not given.
        let (group, channel) = (optional(group)?, optional(channel)?);
        let range = ExportRange { ts: ts?, channel };
        let (out, past_damage) = (args.out, args.past_damage);
        Some((Selection { out, format: format?, devices: devices?, group, range, past_damage }, from?))
    })();
    let (selection, from) = std::mem::take(faults).into_result(selection)?;
    Ok(Box::pin(export::run(selection, from)))
}

fn optional<T>(value: Option<Option<T>>) -> Option<Option<T>> {
    value.map_or(Some(None), |valid| valid.map(Some))
}

fn format(faults: &mut Faults, args: &ExportArgs) -> Option<ExportFormat> {
    let named = |name: &str| FORMATS.iter().find(|(known, _)| *known == name).map(|(_, format)| *format);
    let Some(name) = &args.format else {
        let ending = args.out.extension().and_then(|ending| ending.to_str());
        return Some(ending.and_then(named).unwrap_or(ExportFormat::Parquet));
    };
    let found = named(name);
    if found.is_none() {
        faults.add(opt::EXPORT_FORMAT, name, "it is no format", "use parquet, ndjson or csv");
    }
    found
}

fn devices(faults: &mut Faults, names: &[String]) -> Option<Vec<DeviceId>> {
    let remedy = "use the id of a device, as `trough devices list` shows it";
    let parsed: Vec<_> = names.iter().map(|name| faults.parsed(opt::EXPORT_DEVICE, name, remedy)).collect();
    let mut devices = parsed.into_iter().collect::<Option<Vec<DeviceId>>>()?;
    devices.sort_unstable();
    devices.dedup();
    Some(devices)
}

/// The times that are asked for; the outer `None` if they are wrong.
fn span(
    faults: &mut Faults,
    from: Option<&str>,
    to: Option<&str>,
) -> Option<Option<std::ops::RangeInclusive<Micros>>> {
    let mut instant = |option: Opt, text: &str| {
        let found = parse_instant(text);
        if found.is_none() {
            faults.add(option, text, "it is no time", "use 2017-03-21T05:00:02Z, or µs since 1970");
        }
        found
    };
    let from_is = optional(from.map(|from| instant(opt::FROM, from)));
    let to_is = optional(to.map(|to| instant(opt::TO, to)));
    let (from_is, to_is) = (from_is?, to_is?);
    if from_is.is_none() && to_is.is_none() {
        return Some(None);
    }
    let first = from_is.unwrap_or(0);
    // The end is excluded, as in the API.
    let Some(last) = to_is.map_or(Some(INT_MAX), |to| to.checked_sub(1)).filter(|last| *last >= first) else {
        faults.add(opt::TO, to.unwrap_or_default(), "nothing lies before it", "use a time behind --from");
        return None;
    };
    Some(Some(first..=last))
}

fn parse_instant(text: &str) -> Option<Micros> {
    if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
        return text.parse().ok().filter(|micros| *micros <= INT_MAX);
    }
    Micros::try_from(text.parse::<jiff::Timestamp>().ok()?.as_microsecond()).ok()
}

fn from(
    faults: &mut Faults,
    url: Option<&str>,
    token: Option<&str>,
    ca: &CaArgs,
    deposit: DepositArgs,
) -> Option<From> {
    let Some(url) = url else {
        return deposit.check(faults).map(From::Storage);
    };
    let base = faults.url(opt::EXPORT_URL, url, &["http", "https"], "http://127.0.0.1:8081");
    if token.is_none() {
        faults.add(
            opt::READER_TOKEN,
            "",
            "a server asks for it",
            "use the token that `trough readers add` shows",
        );
    }
    let token = faults.token(opt::READER_TOKEN, TokenKind::Reader, token?);
    let ca = ca.check(faults);
    Some(From::Server(Server { base: base?, token: token?, ca }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_taken_as_the_api_takes_them() {
        let mut faults = Faults::default();
        assert_eq!(span(&mut faults, None, None), Some(None));
        let second = span(&mut faults, Some("2017-03-21T05:00:02Z"), Some("1490072403000000"));
        assert_eq!(second, Some(Some(1_490_072_402_000_000..=1_490_072_402_999_999)));
        assert_eq!(span(&mut faults, Some("5"), None), Some(Some(5..=INT_MAX)));
        assert_eq!(faults.lines().count(), 0);
        for (from, to) in [(Some("yesterday"), None), (Some("5"), Some("5")), (None, Some("0"))] {
            assert_eq!(span(&mut faults, from, to), None, "{from:?} {to:?}");
        }
        assert_eq!(faults.lines().count(), 3);
    }
}
