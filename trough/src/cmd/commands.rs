//! `trough commands`: what devices are asked to do. Works on the registry directly, also while the server runs.

use std::path::PathBuf;
use std::time::Duration;

use clap::{ArgGroup, Args, Subcommand};
use serde::Serialize;
use trough_bus::devices::{TOPIC_COMMANDS, ring};
use trough_protocol::device::CommandId;
use trough_protocol::limits::COMMAND_BYTES_MAX;
use trough_protocol::{ContentType, DeviceId, Micros};
use trough_runtime::clock::{Clock, micros};
use trough_store::commands::{
    CommandFilter, CommandPayload, CommandPlace, CommandRecord, KEY_BYTES_MAX, LIST_COMMANDS_MAX, NewCommand,
    is_key,
};

use crate::bus::{BusArgs, BusSettings};
use crate::cli::{ListingArgs, RegistryArgs};
use crate::cmd::Work;
use crate::cmd::devices::device_id;
use crate::error::CliError;
use crate::faults::Faults;
use crate::opt::{self, Opt};
use crate::output;
use crate::registry::{Missing, Place};
use crate::stores::Stores;

const COMMAND: Opt = Opt { flag: "COMMAND", env: "" };

/// What to do with commands.
#[derive(Debug, Subcommand)]
pub enum CommandsCommand {
    /// Ask a device to do something, and print the command's id
    Send(SendArgs),
    /// List a device's newest commands
    List(ListArgs),
    /// Show a command, and what the device said
    Show(ShowArgs),
    /// Take a command back: it is not sent any more
    Cancel(CancelArgs),
}

/// What is asked of whom.
#[derive(Debug, Args)]
#[command(group = ArgGroup::new("payload").required(true))]
pub struct SendArgs {
    /// The device's id
    #[arg(value_name = "DEVICE")]
    device: String,
    /// What to do, as text [default: none; one of --text and --file is needed]
    #[arg(long, env = opt::COMMAND_TEXT.env, hide_env_values = true, value_name = "TEXT", group = "payload")]
    text: Option<String>,
    /// What to do, from a file, or - for standard input [default: none; one of --text and --file is needed]
    #[arg(long, env = opt::COMMAND_FILE.env, hide_env_values = true, value_name = "FILE", group = "payload")]
    file: Option<PathBuf>,
    /// What it is, such as application/json [default: text/plain; charset=utf-8, or application/octet-stream of a file]
    #[arg(long, env = opt::COMMAND_TYPE.env, hide_env_values = true, value_name = "MEDIA-TYPE")]
    content_type: Option<String>,
    /// For how long it is good, in seconds
    #[arg(long, env = opt::COMMAND_EXPIRES.env, hide_env_values = true, value_name = "SECONDS",
          default_value = "3600")]
    expires: String,
    /// Whoever repeats this with the same key gets the same command: 1 to 64 visible ASCII characters [default: none]
    #[arg(long, env = opt::COMMAND_KEY.env, hide_env_values = true, value_name = "NAME")]
    key: Option<String>,
    #[command(flatten)]
    bus: BusArgs,
    #[command(flatten)]
    registry: RegistryArgs,
}

/// Whose commands.
#[derive(Debug, Args)]
pub struct ListArgs {
    /// The device's id
    #[arg(value_name = "DEVICE")]
    device: String,
    #[command(flatten)]
    listing: ListingArgs,
}

/// Which command.
#[derive(Debug, Args)]
pub struct ShowArgs {
    /// The device's id
    #[arg(value_name = "DEVICE")]
    device: String,
    /// The command's id
    #[arg(value_name = "COMMAND")]
    command: String,
    #[command(flatten)]
    registry: RegistryArgs,
}

/// Which command.
#[derive(Debug, Args)]
pub struct CancelArgs {
    /// The device's id
    #[arg(value_name = "DEVICE")]
    device: String,
    /// The command's id
    #[arg(value_name = "COMMAND")]
    command: String,
    #[command(flatten)]
    registry: RegistryArgs,
}

/// Checks the options.
pub fn prepare(command: CommandsCommand, mut faults: Faults) -> Result<Work, Faults> {
    Ok(match command {
        CommandsCommand::Send(args) => {
            let device = device_id(&mut faults, &args.device);
            let expires = faults.seconds(opt::COMMAND_EXPIRES, &args.expires, 1..=2_592_000);
            let payload = payload(&mut faults, &args);
            let key = key(&mut faults, args.key);
            let (bus, place) = (args.bus.check(&mut faults), args.registry.check(&mut faults));
            let asked = (|| Some((device?, expires?, payload?, key?, bus?, place?)))();
            let (device, expires, payload, key, bus, place) = faults.into_result(asked)?;
            Box::pin(send(place, bus, device, payload, expires, key))
        }
        CommandsCommand::List(args) => {
            let device = device_id(&mut faults, &args.device);
            let listing = args.listing.check(&mut faults);
            let (device, (place, json)) = faults.into_result(device.zip(listing))?;
            Box::pin(list(place, device, json))
        }
        CommandsCommand::Show(args) => {
            let which = which(&mut faults, &args.device, &args.command);
            let place = args.registry.check(&mut faults);
            let (which, place) = faults.into_result(which.zip(place))?;
            Box::pin(show(place, which))
        }
        CommandsCommand::Cancel(args) => {
            let which = which(&mut faults, &args.device, &args.command);
            let place = args.registry.check(&mut faults);
            let (which, place) = faults.into_result(which.zip(place))?;
            Box::pin(cancel(place, which))
        }
    })
}

fn which(faults: &mut Faults, device: &str, command: &str) -> Option<CommandPlace> {
    let device = device_id(faults, device);
    let id: Result<CommandId, _> = command.parse();
    if id.is_err() {
        faults.add(COMMAND, command, "it is not a command's id", "use one that `trough commands list` shows");
    }
    device.zip(id.ok()).map(|(device, id)| CommandPlace { device, id })
}

/// A key, or none.
fn key(faults: &mut Faults, key: Option<String>) -> Option<Option<String>> {
    match &key {
        Some(value) if !is_key(value) => {
            let remedy = format!("use 1 to {KEY_BYTES_MAX} visible ASCII characters");
            faults.add(opt::COMMAND_KEY, value, "it cannot be a key", remedy);
            None
        }
        _ => Some(key),
    }
}

fn payload(faults: &mut Faults, args: &SendArgs) -> Option<CommandPayload> {
    let (bytes, usual) = match (&args.text, &args.file) {
        (Some(text), _) => (text.clone().into_bytes(), ContentType::Text),
        (None, Some(file)) => (read_file(faults, file)?, ContentType::Bytes),
        (None, None) => return None,
    };
    if bytes.len() > COMMAND_BYTES_MAX {
        let option = if args.text.is_some() { opt::COMMAND_TEXT } else { opt::COMMAND_FILE };
        let size = format!("{} bytes", bytes.len());
        faults.add(option, &size, "it is too large", format!("use {COMMAND_BYTES_MAX} bytes at most"));
        return None;
    }
    let content_type = args.content_type.as_deref().unwrap_or(usual.as_str());
    match ContentType::parse(content_type) {
        Ok(content_type) => Some(CommandPayload { content_type: content_type.as_str().to_owned(), bytes }),
        Err(_) => {
            let remedy = "use one such as application/json";
            faults.add(opt::COMMAND_TYPE, content_type, "it is not a media type", remedy);
            None
        }
    }
}

fn read_file(faults: &mut Faults, file: &PathBuf) -> Option<Vec<u8>> {
    use std::io::Read;
    let most = COMMAND_BYTES_MAX as u64 + 1;
    let mut bytes = Vec::new();
    let read = if file.as_os_str() == "-" {
        std::io::stdin().lock().take(most).read_to_end(&mut bytes)
    } else {
        std::fs::File::open(file).and_then(|file| file.take(most).read_to_end(&mut bytes))
    };
    let refused = read.err().map(|error| {
        let shown = file.display().to_string();
        faults.add(opt::COMMAND_FILE, &shown, format!("it cannot be read ({error})"), "name a readable file");
    });
    refused.is_none().then_some(bytes)
}

async fn send(
    place: Place,
    bus: BusSettings,
    device: DeviceId,
    payload: CommandPayload,
    expires: Duration,
    key: Option<String>,
) -> Result<(), CliError> {
    let stores = Stores::open(place, Missing::Refuse)?;
    let expires_at = Clock::system().now() + micros(expires);
    let made_by = "the command line".to_owned();
    let command = NewCommand { device: device.clone(), payload, expires_at, key, made_by };
    let added = stores.commands.add_command(command).await?;
    if let Some(bus) = bus.deployment(&Clock::system()).filter(|_| added.is_new)
        && let Err(error) = ring(&bus, TOPIC_COMMANDS, &[device]).await
    {
        output::note(format!("the bus does not answer ({error}); the command is found within half a minute"));
    }
    let what = if added.is_new { "was made" } else { "was made before, with the same key" };
    output::note(format!("the command {what}; its id:"));
    output::line(added.record.id)
}

async fn list(place: Place, device: DeviceId, json: bool) -> Result<(), CliError> {
    let stores = Stores::open(place, Missing::Refuse)?;
    stores.registry.get_device(&device).await?;
    let limit = LIST_COMMANDS_MAX - 1;
    let filter = CommandFilter { device: device.clone(), state: None, before: None, limit };
    let records = stores.commands.list_commands(filter).await?;
    if json {
        return output::json(&records.iter().map(CommandJson::of).collect::<Vec<_>>());
    }
    if records.is_empty() {
        output::note(format!("no commands; send one: trough commands send {device} --text hello"));
        return Ok(());
    }
    let row = |record: &CommandRecord| {
        [
            record.id.to_string(),
            record.state.to_string(),
            output::instant(record.created_at),
            output::instant(record.expires_at),
            record.sends.to_string(),
            record.made_by.clone(),
        ]
    };
    let rows: Vec<_> = records.iter().map(row).collect();
    let headings = ["COMMAND", "STATE", "MADE", "EXPIRES", "SENDS", "BY"];
    output::line(output::table(headings, &rows).trim_end())
}

/// A command as `--json` shows it, without its payload. Times are in µs since 1970.
#[derive(Serialize)]
struct CommandJson<'a> {
    id: String,
    device: &'a str,
    state: &'static str,
    content_type: &'a str,
    bytes: usize,
    created_at: Micros,
    expires_at: Micros,
    sends: u32,
    sent_at: Option<Micros>,
    finished_at: Option<Micros>,
    made_by: &'a str,
}

impl<'a> CommandJson<'a> {
    fn of(record: &'a CommandRecord) -> Self {
        Self {
            id: record.id.to_string(),
            device: record.device.as_str(),
            state: record.state.as_str(),
            content_type: &record.payload.content_type,
            bytes: record.payload.bytes.len(),
            created_at: record.created_at,
            expires_at: record.expires_at,
            sends: record.sends,
            sent_at: record.sent_at,
            finished_at: record.finished_at,
            made_by: &record.made_by,
        }
    }
}

async fn show(place: Place, which: CommandPlace) -> Result<(), CliError> {
    let stores = Stores::open(place, Missing::Refuse)?;
    let record = stores.commands.get_command(&which).await?;
    let time = |at: Option<Micros>| at.map_or("never".to_owned(), output::instant);
    output::line(format_args!(
        "\
command   {}
device    {}
state     {}
payload   {}
made      {} by {}
expires   {}
sent      {} ({} times)
finished  {}
result    {}",
        record.id,
        record.device,
        record.state,
        shown(&record.payload),
        output::instant(record.created_at),
        record.made_by,
        output::instant(record.expires_at),
        time(record.sent_at),
        record.sends,
        time(record.finished_at),
        record.result.as_ref().map_or("none".to_owned(), shown),
    ))
}

/// A payload on one line, as JSON escapes it, if it is text.
fn shown(payload: &CommandPayload) -> String {
    let CommandPayload { content_type, bytes } = payload;
    match std::str::from_utf8(bytes) {
        Ok(text) => format!("{content_type} {}", serde_json::Value::from(text)),
        Err(_) => format!("{content_type} {}", output::counted(bytes.len() as u64, "byte")),
    }
}

async fn cancel(place: Place, which: CommandPlace) -> Result<(), CliError> {
    let stores = Stores::open(place, Missing::Refuse)?;
    let record = stores.commands.cancel_command(&which).await?;
    let note = match record.sends {
        0 => "no device has had it",
        _ => "it had been sent, so the device may do it all the same",
    };
    output::note(format!("command {} is cancelled; {note}", record.id));
    Ok(())
}
