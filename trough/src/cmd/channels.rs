//! `trough channels`: what frames of a channel mean. Works on the registry directly, also while the server runs.

use clap::{Args, Subcommand};
use serde::Serialize;
use trough_protocol::Channel;
use trough_store::PositionSchema;

use crate::cli::{ListingArgs, RegistryArgs};
use crate::cmd::Work;
use crate::error::CliError;
use crate::faults::Faults;
use crate::opt::{self, Opt};
use crate::output;
use crate::registry::{self, Missing, Place};

const CHANNEL: Opt = Opt { flag: "CHANNEL", env: "" };

/// What to do with channels.
#[derive(Debug, Subcommand)]
pub enum ChannelsCommand {
    /// Say where frames of a channel have their device's position: what encounters are found by
    Position(PositionArgs),
    /// List what was said
    List(ListingArgs),
    /// Take back what was said of a channel
    Remove(RemoveArgs),
}

/// Where a position is.
#[derive(Debug, Args)]
pub struct PositionArgs {
    /// The channel
    #[arg(value_name = "CHANNEL")]
    channel: String,
    /// JSON pointer (RFC 6901) to the latitude in a payload, in degrees
    #[arg(long, env = opt::LAT.env, hide_env_values = true, value_name = "POINTER", default_value = "/lat")]
    lat: String,
    /// JSON pointer to the longitude in a payload, in degrees
    #[arg(long, env = opt::LON.env, hide_env_values = true, value_name = "POINTER", default_value = "/lon")]
    lon: String,
    #[command(flatten)]
    registry: RegistryArgs,
}

/// Which channel.
#[derive(Debug, Args)]
pub struct RemoveArgs {
    /// The channel
    #[arg(value_name = "CHANNEL")]
    channel: String,
    #[command(flatten)]
    registry: RegistryArgs,
}

/// Checks the options.
pub fn prepare(command: ChannelsCommand, mut faults: Faults) -> Result<Work, Faults> {
    Ok(match command {
        ChannelsCommand::Position(args) => {
            let channel = channel(&mut faults, &args.channel);
            let pointers = [(opt::LAT, &args.lat), (opt::LON, &args.lon)];
            let pointers = pointers.map(|(option, pointer)| {
                let checked = PositionSchema::check(pointer);
                checked.map_err(|error| faults.add(option, pointer, error.to_string(), "see RFC 6901")).ok()
            });
            let place = args.registry.check(&mut faults);
            let pointers = pointers.iter().all(Option::is_some).then_some(());
            let ((channel, ()), place) = faults.into_result(channel.zip(pointers).zip(place))?;
            Box::pin(set(place, channel, args.lat, args.lon))
        }
        ChannelsCommand::List(args) => {
            let checked = args.check(&mut faults);
            let (place, json) = faults.into_result(checked)?;
            Box::pin(list(place, json))
        }
        ChannelsCommand::Remove(args) => {
            let (channel, place) = (channel(&mut faults, &args.channel), args.registry.check(&mut faults));
            let (channel, place) = faults.into_result(channel.zip(place))?;
            Box::pin(remove(place, channel))
        }
    })
}

fn channel(faults: &mut Faults, name: &str) -> Option<Channel> {
    let valid = Channel::new(name);
    if valid.is_err() {
        let remedy = "use 1 to 64 of A–Z a–z 0–9 . _ - : ~ + @ = /";
        faults.add(CHANNEL, name, "it is not a channel's name", remedy);
    }
    valid.ok()
}

async fn set(place: Place, channel: Channel, lat: String, lon: String) -> Result<(), CliError> {
    let schema = PositionSchema::new(channel, &lat, &lon)?;
    let channel = schema.channel().clone();
    registry::open(place, Missing::Create)?.set_position_schema(schema).await?;
    output::note(format!("frames of channel {channel} have positions, those that are stored already too"));
    Ok(())
}

async fn list(place: Place, json: bool) -> Result<(), CliError> {
    let schemas = registry::open(place, Missing::Refuse)?.list_position_schemas().await?;
    if json {
        let schemas: Vec<_> = schemas.iter().map(ChannelJson::of).collect();
        return output::json(&schemas);
    }
    if schemas.is_empty() {
        output::note("nothing is said of any channel; say something: trough channels position CHANNEL");
        return Ok(());
    }
    let row = |schema: &PositionSchema| {
        [schema.channel().to_string(), schema.lat().to_owned(), schema.lon().to_owned()]
    };
    let rows: Vec<_> = schemas.iter().map(row).collect();
    output::line(output::table(["CHANNEL", "LATITUDE", "LONGITUDE"], &rows).trim_end())
}

/// A channel as `--json` shows it.
#[derive(Serialize)]
struct ChannelJson<'a> {
    channel: &'a str,
    lat: &'a str,
    lon: &'a str,
}

impl<'a> ChannelJson<'a> {
    fn of(schema: &'a PositionSchema) -> Self {
        Self { channel: schema.channel().as_str(), lat: schema.lat(), lon: schema.lon() }
    }
}

async fn remove(place: Place, channel: Channel) -> Result<(), CliError> {
    registry::open(place, Missing::Refuse)?.remove_position_schema(&channel).await?;
    output::note(format!("frames of channel {channel} have no positions any more"));
    Ok(())
}
