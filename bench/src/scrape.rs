//! Counters of a server under test, from its admin port.

use anyhow::{Context, Result};

/// What a server counted until now.
#[derive(Debug, Clone)]
pub struct Scrape(String);

impl Scrape {
    /// Asks `host:port`.
    ///
    /// # Errors
    /// No answer.
    pub async fn of(http: &reqwest::Client, admin: &str) -> Result<Self> {
        let url = format!("http://{admin}/metrics");
        let answer = http.get(&url).send().await.and_then(reqwest::Response::error_for_status);
        let text = answer.with_context(|| format!("no answer from {url}"))?.text().await?;
        Ok(Self(text))
    }

    /// A counter without labels.
    ///
    /// # Errors
    /// The server has none of this name.
    pub fn counter(&self, name: &str) -> Result<u64> {
        let value = self.0.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        let value = value.with_context(|| format!("the server counts no {name}"))?;
        value.parse().with_context(|| format!("{name} is {value}, which is no count"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_the_whole_name() {
        let scrape = Scrape("# TYPE a counter\na_total_more 5\na_total 17\nb_total{x=\"y\"} 3\n".to_owned());
        assert_eq!(scrape.counter("a_total").unwrap(), 17);
        assert!(scrape.counter("b_total").is_err() && scrape.counter("a").is_err());
    }
}
