//! The admin ports of running services, for the commands that ask them.

use std::time::Duration;

use anyhow::{Context, Result, bail};
use reqwest::{Client, Method, Response, Url};

use crate::faults::Faults;
use crate::{http, opt, output};

/// Where feeder, eater, notifier and `up` have it unless they are told otherwise.
const DEFAULTS: [&str; 4] = ["127.0.0.1:9080", "127.0.0.1:9081", "127.0.0.1:9082", "127.0.0.1:9090"];
/// How long one answer may take.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);
const ANSWER_BYTES_MAX: usize = 4 * 1024 * 1024;

/// One admin port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AdminPort {
    /// As it was named.
    pub at: String,
    url: Url,
}

impl AdminPort {
    /// Reads `HOST:PORT` as a service takes it, or `http://HOST:PORT`. What a service binds to every interface is asked
    /// by the loopback one.
    pub fn parse(value: &str, faults: &mut Faults) -> Option<Self> {
        let at = value.strip_prefix("http://").unwrap_or(value).trim_end_matches('/');
        let at = faults.host_port(opt::ADMIN, at)?;
        let at = at.as_str().replace("0.0.0.0:", "127.0.0.1:").replace("[::]:", "[::1]:");
        let remedy = "use HOST:PORT, such as 127.0.0.1:9080";
        let url = faults.parsed(opt::ADMIN, &format!("http://{at}"), remedy)?;
        Some(Self { at, url })
    }

    /// One that a program has named.
    ///
    /// # Errors
    /// It is no address.
    pub fn at(at: &str) -> Result<Self> {
        let url = Url::parse(&format!("http://{at}")).with_context(|| format!("{at} is no address"))?;
        Ok(Self { at: at.to_owned(), url })
    }

    /// Those of the defaults where somebody answers.
    pub async fn found(client: &Client) -> Vec<Self> {
        let mut found = Vec::new();
        for at in DEFAULTS {
            let Ok(port) = Self::at(at) else { continue };
            if port.get(client, "/healthz").await.is_ok() {
                found.push(port);
            }
        }
        found
    }

    /// The one that was named, or the only one that answers.
    ///
    /// # Errors
    /// Nobody answers, or several do.
    pub async fn only(named: Option<Self>, client: &Client) -> Result<Self> {
        if let Some(port) = named {
            return Ok(port);
        }
        let mut found = Self::found(client).await;
        match found.len() {
            1 => Ok(found.remove(0)),
            0 => bail!("nobody answers at {}: name the admin port with --admin", DEFAULTS.join(", ")),
            _ => {
                let all: Vec<_> = found.iter().map(|port| port.at.as_str()).collect();
                bail!("several services answer, at {}: name one with --admin", all.join(", "))
            }
        }
    }

    /// What `/readyz` says, which is an answer also if it is not ready.
    ///
    /// # Errors
    /// No answer.
    pub async fn readiness(&self, client: &Client) -> Result<String> {
        let url = http::join(&self.url, "/readyz");
        let failed = || format!("no answer from {url}");
        let answer = client.get(url.clone()).timeout(ANSWER_TIMEOUT).send().await;
        body(answer.map_err(http::plain).with_context(failed)?).await.with_context(failed)
    }

    /// The body at a path.
    ///
    /// # Errors
    /// No answer, or one that is no success.
    pub async fn get(&self, client: &Client, path: &str) -> Result<String> {
        self.ask(client, Method::GET, path).await
    }

    /// Asks for something; `path` may have a query.
    ///
    /// # Errors
    /// As [`AdminPort::get`]. A refusal is told in its own words.
    pub async fn ask(&self, client: &Client, method: Method, path: &str) -> Result<String> {
        let mut url = self.url.clone();
        let (path, query) = path.split_once('?').map_or((path, None), |(path, query)| (path, Some(query)));
        url.set_path(path);
        url.set_query(query);
        let failed = || format!("no answer from {url}: is the service running, and is this its admin port?");
        let answer = client.request(method, url.clone()).timeout(ANSWER_TIMEOUT).send().await;
        let answer = answer.map_err(http::plain).with_context(failed)?;
        let status = answer.status();
        let body = body(answer).await.with_context(failed)?;
        if status.is_success() {
            return Ok(body);
        }
        let problem: serde_json::Value = serde_json::from_str(&body).unwrap_or_default();
        match problem["detail"].as_str() {
            Some(detail) => bail!("{} refuses: {detail}", self.at),
            None => bail!("{url} answers {status}: is this an admin port of this release?"),
        }
    }
}

async fn body(answer: Response) -> Result<String> {
    http::text_at_most(answer, ANSWER_BYTES_MAX).await
}

/// How a command would be told of a port, for what is shown to be copied.
pub fn option(named: Option<&AdminPort>) -> String {
    named.map(|port| format!(" --admin {}", output::quoted(&port.at))).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_service_binds_is_what_is_asked() {
        let parse = |value: &str| {
            let mut faults = Faults::default();
            AdminPort::parse(value, &mut faults).map(|port| port.url.to_string())
        };
        for (value, url) in [
            ("127.0.0.1:9080", "http://127.0.0.1:9080/"),
            ("http://127.0.0.1:9080/", "http://127.0.0.1:9080/"),
            ("0.0.0.0:9081", "http://127.0.0.1:9081/"),
            ("[::]:9081", "http://[::1]:9081/"),
            ("feeder.internal:9080", "http://feeder.internal:9080/"),
        ] {
            assert_eq!(parse(value).as_deref(), Some(url), "{value}");
        }
        for bad in ["9080", "https://127.0.0.1:9080", "127.0.0.1", ""] {
            assert_eq!(parse(bad), None, "{bad}");
        }
    }
}
