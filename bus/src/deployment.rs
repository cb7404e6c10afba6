//! The bus as one deployment has it.

use std::fmt;
use std::sync::Arc;

use crate::bus::Bus;
use crate::key::{Environment, Key, Topic};

/// A bus, and the environment that all names of a deployment belong to. Clones are the same.
#[derive(Clone)]
pub struct Deployment {
    bus: Arc<dyn Bus>,
    environment: Environment,
}

impl fmt::Debug for Deployment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Deployment").field("environment", &self.environment).finish_non_exhaustive()
    }
}

impl Deployment {
    /// A deployment's part of this bus.
    pub fn new(bus: Arc<dyn Bus>, environment: Environment) -> Self {
        Self { bus, environment }
    }

    /// What carries it.
    pub fn bus(&self) -> &Arc<dyn Bus> {
        &self.bus
    }

    /// Which data it works on.
    pub fn environment(&self) -> &Environment {
        &self.environment
    }

    /// A value or a lease of the deployment.
    pub fn key(&self, name: &str) -> Key {
        Key::new(&self.environment, name)
    }

    /// A topic of the deployment.
    pub fn topic(&self, name: &str) -> Topic {
        Topic::new(&self.environment, name)
    }
}
