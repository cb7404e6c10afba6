//! Processes as JSON, for programs.

use serde::Serialize;

use super::figures::Figures;
use super::sample::Service;
use super::source::{Row, State};
use super::table;

/// One look.
#[derive(Debug, Serialize)]
pub struct Report<'a> {
    processes: Vec<Process<'a>>,
    total: Figures,
}

#[derive(Debug, Serialize)]
struct Process<'a> {
    name: &'a str,
    service: Service,
    /// `ready`, `starting`, `draining`, or `silent`.
    state: &'a str,
    degraded: Vec<&'a str>,
    /// Why it does not answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'a str>,
    #[serde(flatten)]
    figures: &'a Figures,
}

impl<'a> Report<'a> {
    /// Of these processes.
    pub fn of(rows: &'a [Row]) -> Self {
        let process = |row: &'a Row| {
            let (state, degraded, reason) = match &row.state {
                State::Silent(reason) => ("silent", Vec::new(), Some(reason.as_str())),
                State::Answers(readiness) => {
                    let degraded = readiness.degraded.iter().map(|part| part.part.as_str()).collect();
                    (readiness.status.as_str(), degraded, None)
                }
            };
            Process { name: &row.name, service: row.service, state, degraded, reason, figures: &row.figures }
        };
        Self { processes: rows.iter().map(process).collect(), total: table::total(rows) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_known_is_null_and_who_is_silent_says_why() {
        let rows = table::tests::rows();
        let report = serde_json::to_value(Report::of(&rows)).unwrap();
        let [feeder, eater, _] = report["processes"].as_array().unwrap().as_slice() else {
            panic!("{report}")
        };
        assert_eq!((&feeder["sessions"], &feeder["degraded"]), (&1200.into(), &serde_json::json!(["bus"])));
        assert!(feeder["credit_used"].is_null() && feeder.get("reason").is_none());
        assert_eq!((&eater["state"], &eater["reason"]), (&"silent".into(), &"connection refused".into()));
        assert_eq!(report["total"]["sessions"], 1200);
    }
}
