//! What a server counts, from its admin port: the text format of Prometheus and OpenMetrics, as far as samples go.

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

    /// One that was fetched already.
    pub fn from_text(text: String) -> Self {
        Self(text)
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

    /// The sum over all label sets of this name; `None` if there is no sample of it.
    pub fn sum(&self, name: &str) -> Option<f64> {
        self.sum_where(name, |_| true)
    }

    /// The same over those label sets that `wanted` picks.
    pub fn sum_where(&self, name: &str, wanted: impl Fn(Labels<'_>) -> bool) -> Option<f64> {
        let samples = self.0.lines().filter_map(|line| sample(line, name));
        samples.filter(|(labels, _)| wanted(*labels)).map(|(_, value)| value).reduce(|sum, value| sum + value)
    }
}

/// The labels of one sample, as they stand between the braces.
#[derive(Debug, Clone, Copy)]
pub struct Labels<'a>(&'a str);

impl<'a> Labels<'a> {
    /// The value of a label, escapes as they are; `None` if it is not there.
    pub fn get(self, name: &str) -> Option<&'a str> {
        let mut rest = self.0;
        while let Some((key, after)) = rest.split_once("=\"") {
            let end = end_of_string(after)?;
            if key.trim_start_matches([',', ' ']) == name {
                return Some(&after[..end]);
            }
            rest = &after[end + 1..];
        }
        None
    }
}

/// Labels and value, if the line is a sample of this name.
fn sample<'a>(line: &'a str, name: &str) -> Option<(Labels<'a>, f64)> {
    let rest = line.strip_prefix(name)?;
    let (labels, rest) = match rest.strip_prefix('{') {
        Some(rest) => {
            let end = end_of_labels(rest)?;
            (&rest[..end], &rest[end + 1..])
        }
        None => ("", rest),
    };
    // A time or an exemplar may follow.
    let value = rest.strip_prefix(' ')?.split(' ').next()?.parse().ok()?;
    Some((Labels(labels), value))
}

/// Where the closing brace is: not one within quotes.
fn end_of_labels(text: &str) -> Option<usize> {
    let mut at = 0;
    loop {
        match text.as_bytes().get(at)? {
            b'}' => return Some(at),
            b'"' => at += 1 + end_of_string(&text[at + 1..])? + 1,
            _ => at += 1,
        }
    }
}

/// Where the closing quote is: not one behind a backslash.
fn end_of_string(text: &str) -> Option<usize> {
    let mut is_escaped = false;
    text.bytes().position(|byte| {
        let ends = byte == b'"' && !is_escaped;
        is_escaped = byte == b'\\' && !is_escaped;
        ends
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_the_whole_name() {
        let scrape = Scrape("# TYPE a counter\na_total_more 5\na_total 17\nb_total{x=\"y\"} 3\n".to_owned());
        assert_eq!(scrape.counter("a_total").unwrap(), 17);
        assert!(scrape.counter("b_total").is_err() && scrape.counter("a").is_err());
        assert_eq!((scrape.sum("a_total"), scrape.sum("a"), scrape.sum("c")), (Some(17.0), None, None));
    }

    #[test]
    fn label_sets_are_summed_or_picked_and_may_have_anything_in_them() {
        let text = r#"# HELP r_total how often
r_total{code="a",other="}\" 7"} 2 # {trace="x"} 1.0
r_total{code="b"} 3.5 1700000000
r_total{code="nan"} NaN
r_total_created{code="b"} 9
r_total{code="broken
# EOF
"#;
        let scrape = Scrape::from_text(text.to_owned());
        let picked = |code: &str| scrape.sum_where("r_total", |labels| labels.get("code") == Some(code));
        assert_eq!((picked("a"), picked("b"), picked("c")), (Some(2.0), Some(3.5), None));
        assert_eq!(scrape.sum_where("r_total", |labels| labels.get("other") == Some(r#"}\" 7"#)), Some(2.0));
        assert!(scrape.sum("r_total").unwrap().is_nan());
        assert_eq!(scrape.sum("r_total_created"), Some(9.0));
    }
}
