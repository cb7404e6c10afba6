//! How the notifier of a process behaves, as options say.

use std::fs;
use std::path::{Path, PathBuf};

use clap::Args;
use reqwest::Url;
use trough_notifier::Config;
use trough_notifier::apns::ApnsConfig;
use trough_notifier::apns::token::{Credentials, CredentialsError};
use trough_store::webhook::Reach;

use crate::faults::Faults;
use crate::opt::{self, Opt};

const KEY_REMEDY: &str = "name the file AuthKey_….p8 that Apple gives out";
const ID_REMEDY: &str = "--apns-key-file, --apns-key-id and --apns-team-id are given together, or not at all";

/// Where webhooks may lead to.
#[derive(Debug, Clone, Args)]
pub struct ReachArgs {
    /// Let webhooks lead to http:// too, where anybody on the way can read them [default: off, https:// only]
    #[arg(long, env = opt::WEBHOOK_HTTP.env, hide_env_values = true,
          value_parser = clap::builder::BoolishValueParser::new())]
    webhook_http: bool,
    /// Let webhooks lead to private, loopback and link-local addresses too: whoever may subscribe reaches through this
    /// process what only it can reach [default: off]
    #[arg(long, env = opt::WEBHOOK_PRIVATE_NETWORKS.env, hide_env_values = true,
          value_parser = clap::builder::BoolishValueParser::new())]
    webhook_private_networks: bool,
}

/// Where webhooks may lead to, and as whom is pushed.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Webhooks and pushes")]
pub struct NotifyArgs {
    #[command(flatten)]
    reach: ReachArgs,
    /// Key of the provider token for Apple's push service, a .p8 file [default: none; pushes wait]
    #[arg(long, env = opt::APNS_KEY_FILE.env, hide_env_values = true, value_name = "FILE")]
    apns_key_file: Option<PathBuf>,
    /// Id of that key, as Apple shows it [default: none]
    #[arg(long, env = opt::APNS_KEY_ID.env, hide_env_values = true, value_name = "NAME")]
    apns_key_id: Option<String>,
    /// Id of the team whose key it is [default: none]
    #[arg(long, env = opt::APNS_TEAM_ID.env, hide_env_values = true, value_name = "NAME")]
    apns_team_id: Option<String>,
    /// Another server in the place of Apple's, for tests [default: none, Apple's]
    #[arg(long, env = opt::APNS_URL.env, hide_env_values = true, value_name = "URL")]
    apns_url: Option<String>,
    /// Certificates of the authorities to trust for pushes, in place of the system's: PEM [default: none, the system's]
    #[arg(long, env = opt::APNS_CA.env, hide_env_values = true, value_name = "FILE")]
    apns_ca: Option<PathBuf>,
}

/// The options, checked.
#[derive(Debug, Clone, Default)]
pub struct NotifySettings {
    reach: Reach,
    apns: Option<ApnsConfig>,
}

impl NotifySettings {
    /// Where webhooks may lead to.
    pub fn reach(&self) -> Reach {
        self.reach
    }

    /// These, and the rest of `config`.
    pub fn into_config(self, config: Config) -> Config {
        Config { reach: self.reach, apns: self.apns, ..config }
    }
}

impl ReachArgs {
    /// As the notifier takes it.
    pub fn reach(&self) -> Reach {
        Reach { http: self.webhook_http, private_networks: self.webhook_private_networks }
    }
}

impl NotifyArgs {
    /// Checks them, and reads the files.
    pub fn check(&self, faults: &mut Faults) -> Option<NotifySettings> {
        let reach = self.reach.reach();
        let url = match &self.apns_url {
            None => None,
            Some(url) => Some(faults.url(opt::APNS_URL, url, &["https"], "https://127.0.0.1:8443")?),
        };
        let ca = match &self.apns_ca {
            None => None,
            Some(path) => {
                let remedy = "name a file of certificates in PEM";
                Some(read(faults, opt::APNS_CA, path, remedy)?)
            }
        };
        let credentials = self.credentials(faults)?;
        let apns = credentials.map(|credentials| with(ApnsConfig::new(credentials), url, ca));
        Some(NotifySettings { reach, apns })
    }

    fn credentials(&self, faults: &mut Faults) -> Option<Option<Credentials>> {
        let (path, key_id, team_id) = match (&self.apns_key_file, &self.apns_key_id, &self.apns_team_id) {
            (None, None, None) => return Some(None),
            (Some(path), Some(key_id), Some(team_id)) => (path, key_id, team_id),
            (path, key_id, _) => {
                let missing = match (path, key_id) {
                    (None, _) => opt::APNS_KEY_FILE,
                    (_, None) => opt::APNS_KEY_ID,
                    _ => opt::APNS_TEAM_ID,
                };
                faults.add(missing, "", "it is missing", ID_REMEDY);
                return None;
            }
        };
        let pem = read(faults, opt::APNS_KEY_FILE, path, KEY_REMEDY)?;
        let made = Credentials::new(&String::from_utf8_lossy(&pem), key_id, team_id);
        let fault = |error: CredentialsError| {
            let (option, value) = match &error {
                CredentialsError::Key => (opt::APNS_KEY_FILE, path.display().to_string()),
                CredentialsError::Id { what: "key id", value } => (opt::APNS_KEY_ID, value.clone()),
                CredentialsError::Id { value, .. } => (opt::APNS_TEAM_ID, value.clone()),
            };
            faults.add(option, value, error.to_string(), KEY_REMEDY);
        };
        made.map_err(fault).ok().map(Some)
    }
}

fn with(apns: ApnsConfig, url: Option<Url>, ca: Option<Vec<u8>>) -> ApnsConfig {
    match url {
        Some(url) => ApnsConfig { production: url.clone(), sandbox: url, ca, ..apns },
        None => ApnsConfig { ca, ..apns },
    }
}

fn read(faults: &mut Faults, option: Opt, path: &Path, remedy: &str) -> Option<Vec<u8>> {
    let shown = path.display().to_string();
    fs::read(path)
        .map_err(|error| faults.add(option, &shown, format!("it cannot be read ({error})"), remedy))
        .ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_comes_with_its_ids() {
        let args = |file: Option<&str>, key: Option<&str>| NotifyArgs {
            reach: ReachArgs { webhook_http: false, webhook_private_networks: false },
            apns_key_file: file.map(PathBuf::from),
            apns_key_id: key.map(str::to_owned),
            apns_team_id: None,
            apns_url: None,
            apns_ca: None,
        };
        let told = |args: NotifyArgs| {
            let mut faults = Faults::default();
            let settings = args.check(&mut faults);
            faults.into_result(settings).map(drop).map_err(|faults| faults.to_string())
        };
        assert_eq!(told(args(None, None)), Ok(()));
        assert!(told(args(Some("/x"), None)).unwrap_err().contains("--apns-key-id"));
        assert!(told(args(Some("/x"), Some("ABC123DEFG"))).unwrap_err().contains("--apns-team-id"));
        assert!(told(args(None, Some("ABC123DEFG"))).unwrap_err().contains("--apns-key-file"));
    }
}
