//! `trough send`: the lines of standard input as frames of one device.

use std::path::PathBuf;

use clap::Args;
use trough_protocol::{Channel, ContentType};
use trough_store::TokenKind;

use crate::cmd::Work;
use crate::faults::Faults;
use crate::opt;
use crate::send::run::{Settings, run};
use crate::tls::CaArgs;

/// Where to send, as whom, and what the lines are.
#[derive(Debug, Args)]
#[command(after_help = NOTES)]
pub struct SendArgs {
    /// The feeder: ws:// or wss://, host, port, and a path if a proxy needs one
    #[arg(long, env = opt::URL.env, hide_env_values = true, value_name = "URL",
          default_value = "ws://127.0.0.1:8080")]
    url: String,
    /// The device's token; better in the environment, where other users of the machine do not see it
    #[arg(long, env = opt::DEVICE_TOKEN.env, hide_env_values = true, value_name = "TOKEN", required = true)]
    token: String,
    /// The channel of the frames: 1 to 64 of A–Z a–z 0–9 . _ - : ~ + @ = /
    #[arg(long, env = opt::CHANNEL.env, hide_env_values = true, value_name = "NAME", default_value = "lines")]
    channel: String,
    /// What the lines are: text, json, bytes, or a media type
    #[arg(long, env = opt::CONTENT_TYPE.env, hide_env_values = true, value_name = "MEDIA-TYPE",
          default_value = "text")]
    content_type: String,
    /// Remembers in this file what was sent, so that a run that was killed can be repeated with the same input
    /// and sends every line exactly once [default: none; every run sends all lines]
    #[arg(long, env = opt::STATE.env, hide_env_values = true, value_name = "FILE")]
    state: Option<PathBuf>,
    #[command(flatten)]
    ca: CaArgs,
}

const NOTES: &str = "\
A line is a frame without its line feed; an empty line is an empty frame. The command ends when
every line is durable. With --state, line N of the input is frame N of one epoch of the device:
give it the whole input again, longer if there is more by now. One state file belongs to one
device and one sender.";

/// Checks the options.
pub fn prepare(args: SendArgs, mut faults: Faults) -> Result<Work, Faults> {
    let schemes = ["ws", "wss", "http", "https"];
    let url = faults.url(opt::URL, &args.url, &schemes, "ws://127.0.0.1:8080");
    let token = faults.token(opt::DEVICE_TOKEN, TokenKind::Device, &args.token);
    let channel: Option<Channel> = {
        let valid = Channel::new(&args.channel);
        if valid.is_err() {
            let remedy = "use 1 to 64 of A–Z a–z 0–9 . _ - : ~ + @ = /";
            faults.add(opt::CHANNEL, &args.channel, "it is not a channel", remedy);
        }
        valid.ok()
    };
    let content_type = match args.content_type.as_str() {
        "text" => ContentType::Text.as_str(),
        "json" => ContentType::Json.as_str(),
        "bytes" => ContentType::Bytes.as_str(),
        other => other,
    };
    if ContentType::parse(content_type).is_err() {
        let remedy = "use text, json, bytes, or a media type of at most 127 visible ASCII characters";
        faults.add(opt::CONTENT_TYPE, content_type, "it is not a media type", remedy);
    }
    let ca = args.ca.check(&mut faults);
    let (url, token, channel) = match (url, token, channel) {
        (Some(url), Some(token), Some(channel)) => faults.into_result(Some((url, token, channel)))?,
        _ => return Err(faults),
    };
    let settings = Settings {
        url: url.to_string(),
        token,
        channel,
        content_type: content_type.to_owned(),
        state: args.state,
        ca,
    };
    Ok(Box::pin(run(settings)))
}
