//! Where the processes are, and one look at all of them.

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use reqwest::Client;
use tokio::task::{JoinSet, spawn_blocking};

use super::figures::Figures;
use super::kubectl::Kubectl;
use super::sample::{Readiness, Sample, Service};
use crate::admin_port::AdminPort;

/// Where processes are found.
#[derive(Debug)]
pub enum Source {
    /// At these admin ports.
    Ports(Vec<AdminPort>),
    /// In pods.
    Kubectl(Kubectl),
}

/// A process as it is shown.
#[derive(Debug, Clone, PartialEq)]
pub struct Row {
    /// Its pod, or its address.
    pub name: String,
    /// What it is.
    pub service: Service,
    /// How it is.
    pub state: State,
    /// What it does.
    pub figures: Figures,
}

/// How a process is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum State {
    /// As it says itself.
    Answers(Readiness),
    /// It does not say anything, and why.
    Silent(String),
}

/// Looks again and again.
#[derive(Debug)]
pub struct Watch {
    client: Client,
    source: Source,
    /// The last answers, by name.
    last: BTreeMap<String, Sample>,
}

/// A process to be asked, or why it cannot be.
struct Target {
    name: String,
    service: Service,
    port: Result<AdminPort>,
}

impl Watch {
    /// Has not looked yet.
    pub fn new(client: Client, source: Source) -> Self {
        Self { client, source, last: BTreeMap::new() }
    }

    /// One look at every process, in the order of services and names.
    ///
    /// # Errors
    /// It cannot be told which processes there are. A process that does not answer is no error.
    pub async fn look(&mut self) -> Result<Vec<Row>> {
        let targets = self.targets().await?;
        let mut asking = JoinSet::new();
        for (index, target) in targets.iter().enumerate() {
            if let Ok(port) = &target.port {
                let (client, port) = (self.client.clone(), port.clone());
                asking.spawn(async move { (index, Sample::take(&client, &port).await) });
            }
        }
        let mut answers: BTreeMap<usize, Result<Sample>> = BTreeMap::new();
        while let Some(answer) = asking.join_next().await {
            let (index, answer) = answer.context("asking a process has panicked")?;
            answers.insert(index, answer);
        }
        let mut last = BTreeMap::new();
        let mut rows = Vec::new();
        for (index, Target { name, service, port }) in targets.into_iter().enumerate() {
            let answer = port.and_then(|_| answers.remove(&index).context("it was not asked")?);
            let known = self.last.remove(&name);
            let service_known = known.as_ref().map_or(service, |sample| sample.service);
            rows.push(match answer {
                Ok(sample) => {
                    let figures = Figures::of(known.as_ref(), &sample);
                    let row = Row {
                        name: name.clone(),
                        service: sample.service,
                        state: State::Answers(sample.readiness.clone()),
                        figures,
                    };
                    last.insert(name, sample);
                    row
                }
                Err(error) => {
                    if let Source::Kubectl(kubectl) = &mut self.source {
                        kubectl.forget(&name);
                    }
                    let state = State::Silent(reason(&error));
                    Row { name, service: service_known, state, figures: Figures::default() }
                }
            });
        }
        self.last = last;
        rows.sort_by(|a, b| (a.service, &a.name).cmp(&(b.service, &b.name)));
        Ok(rows)
    }

    async fn targets(&mut self) -> Result<Vec<Target>> {
        let kubectl = match &mut self.source {
            Source::Ports(ports) => {
                let target = |port: &AdminPort| Target {
                    name: port.at.clone(),
                    service: Service::Unknown,
                    port: Ok(port.clone()),
                };
                return Ok(ports.iter().map(target).collect());
            }
            Source::Kubectl(kubectl) => kubectl,
        };
        // Running programs blocks; meanwhile it is away.
        let mut away = std::mem::take(kubectl);
        let (back, looked) = spawn_blocking(move || {
            let looked = away.look();
            (away, looked)
        })
        .await
        .context("looking for pods has panicked")?;
        *kubectl = back;
        let target = |(pod, port): (super::kubectl::Pod, Result<AdminPort>)| Target {
            name: pod.name,
            service: pod.service,
            port,
        };
        Ok(looked?.into_iter().map(target).collect())
    }
}

/// What it comes down to, on one line.
fn reason(error: &anyhow::Error) -> String {
    error.root_cause().to_string().lines().next().unwrap_or_default().to_owned()
}
