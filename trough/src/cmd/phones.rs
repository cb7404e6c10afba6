//! `trough phones`: which phones a reader's pushes go to. Works on the registry directly, also while the server runs.

use clap::{Args, Subcommand};
use serde::Serialize;
use trough_protocol::Micros;
use trough_runtime::clock::Clock;
use trough_store::ReaderName;
use trough_store::phone::{AppName, DeviceToken};
use trough_store::subscription::{PushEnvironment, PushToken, PushTokenId};

use crate::cli::{ListingArgs, RegistryArgs};
use crate::cmd::Work;
use crate::error::CliError;
use crate::faults::Faults;
use crate::opt::{self, Opt};
use crate::output;
use crate::registry::{Missing, Place};
use crate::seal::{SealArgs, SealChoice};
use crate::stores::Stores;

const READER: Opt = Opt { flag: "READER", env: "" };
const PHONE: Opt = Opt { flag: "PHONE", env: "" };
const TOKEN_REMEDY: &str = "give what the app got from Apple, as hex digits";
const APP_REMEDY: &str = "give the app's, such as com.example.app";

/// What to do with phones.
#[derive(Debug, Subcommand)]
pub enum PhonesCommand {
    /// Add a phone, or the same one again, and print its id
    Add(AddArgs),
    /// List phones
    List(ListingArgs),
    /// Remove a phone; what waits for it is dropped
    Remove(RemoveArgs),
}

/// Whose phone, and how Apple knows it.
#[derive(Debug, Args)]
pub struct AddArgs {
    /// The reader whose phone it is
    #[arg(value_name = "READER")]
    reader: String,
    /// What the app was given by Apple, in hex digits [default: none, it must be given]
    #[arg(long, env = opt::PUSH_TOKEN.env, hide_env_values = true, value_name = "TOKEN")]
    push_token: Option<String>,
    /// The app's bundle id [default: none, it must be given]
    #[arg(long, env = opt::PHONE_APP.env, hide_env_values = true, value_name = "NAME")]
    app: Option<String>,
    /// Which of Apple's servers knows the token: production, or sandbox for apps run from Xcode
    #[arg(long, env = opt::PHONE_SERVER.env, hide_env_values = true, value_name = "NAME",
          default_value = "production")]
    server: String,
    #[command(flatten)]
    seal: SealArgs,
    #[command(flatten)]
    registry: RegistryArgs,
}

/// Which one.
#[derive(Debug, Args)]
pub struct RemoveArgs {
    /// The phone's id
    #[arg(value_name = "PHONE")]
    phone: String,
    #[command(flatten)]
    registry: RegistryArgs,
}

struct NewPhone {
    owner: ReaderName,
    token: DeviceToken,
    app: AppName,
    environment: PushEnvironment,
    seal: SealChoice,
    place: Place,
}

/// Checks the options.
pub fn prepare(command: PhonesCommand, mut faults: Faults) -> Result<Work, Faults> {
    Ok(match command {
        PhonesCommand::Add(args) => {
            let checked = check(args, &mut faults);
            Box::pin(add(faults.into_result(checked)?))
        }
        PhonesCommand::List(args) => {
            let checked = args.check(&mut faults);
            let (place, json) = faults.into_result(checked)?;
            Box::pin(list(place, json))
        }
        PhonesCommand::Remove(args) => {
            let id = faults.parsed(PHONE, &args.phone, "copy it from trough phones list");
            let checked = id.zip(args.registry.check(&mut faults));
            let (id, place) = faults.into_result(checked)?;
            Box::pin(remove(place, id))
        }
    })
}

fn check(args: AddArgs, faults: &mut Faults) -> Option<NewPhone> {
    let owner = faults.parsed(READER, &args.reader, "copy it from trough readers list");
    let place = args.registry.check(faults);
    let seal = place.as_ref().and_then(|place| args.seal.check(place, faults));
    let token = DeviceToken::parse(&args.push_token.unwrap_or_default());
    // What it is stays out of logs.
    let token = token.map_err(|error| faults.add(opt::PUSH_TOKEN, "***", error.to_string(), TOKEN_REMEDY));
    let app = args.app.unwrap_or_default();
    let app =
        AppName::parse(&app).map_err(|error| faults.add(opt::PHONE_APP, app, error.to_string(), APP_REMEDY));
    let environment = match args.server.as_str() {
        "production" => PushEnvironment::Production,
        "sandbox" => PushEnvironment::Sandbox,
        other => {
            faults.add(opt::PHONE_SERVER, other, "is no server of Apple's", "use production or sandbox");
            return None;
        }
    };
    let (token, app) = (token.ok()?, app.ok()?);
    Some(NewPhone { owner: owner?, token, app, environment, seal: seal?, place: place? })
}

async fn add(phone: NewPhone) -> Result<(), CliError> {
    let NewPhone { owner, token, app, environment, seal, place } = phone;
    let stores = Stores::open(place, Missing::Refuse)?;
    if stores.registry.get_reader(&owner).await?.revoked_at.is_some() {
        return Err(anyhow::anyhow!("reader {owner} was revoked: see trough readers list").into());
    }
    let phone = token.register(owner, app, environment, &seal.needed()?, Clock::system().now());
    let id = phone.id;
    stores.subscriptions.set_push_token(phone).await?;
    output::line(id)?;
    output::note(format!("phone {id} was added; pushes of its reader's subscriptions go to it"));
    Ok(())
}

/// A phone as `--json` shows it. Times are in µs since 1970.
#[derive(Serialize)]
struct PhoneJson<'a> {
    id: PushTokenId,
    reader: &'a ReaderName,
    app: &'a str,
    server: PushEnvironment,
    registered_at: Micros,
}

async fn list(place: Place, json: bool) -> Result<(), CliError> {
    let all = Stores::open(place, Missing::Refuse)?.subscriptions.list_push_tokens(None).await?;
    let shown = |phone: &PushToken| match phone.environment {
        PushEnvironment::Production => "production",
        PushEnvironment::Sandbox => "sandbox",
    };
    if json {
        let of = |phone: &PushToken| {
            serde_json::to_value(PhoneJson {
                id: phone.id,
                reader: &phone.owner,
                app: &phone.topic,
                server: phone.environment,
                registered_at: phone.registered_at,
            })
        };
        let phones = all.iter().map(of).collect::<Result<Vec<_>, _>>();
        return output::json(&phones.map_err(anyhow::Error::from)?);
    }
    if all.is_empty() {
        output::note("no phones; add one: trough phones add READER --push-token HEX --app com.example.app");
        return Ok(());
    }
    let row = |phone: &PushToken| {
        [phone.id.to_string(), phone.owner.to_string(), phone.topic.clone(), shown(phone).to_owned()]
    };
    let rows: Vec<_> = all.iter().map(row).collect();
    output::line(output::table(["PHONE", "READER", "APP", "SERVER"], &rows).trim_end())
}

async fn remove(place: Place, id: PushTokenId) -> Result<(), CliError> {
    Stores::open(place, Missing::Refuse)?.subscriptions.remove_push_token(id, None).await?;
    output::note(format!("phone {id} is removed"));
    Ok(())
}
