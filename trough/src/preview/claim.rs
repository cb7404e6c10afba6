//! Whose a slot is.

use std::fmt;
use std::str::FromStr;

use jiff::civil::Date;
use serde::{Deserialize, Serialize};

/// Longest name of an owner; identity providers use addresses and paths.
const OWNER_CHARS_MAX: usize = 200;
/// Longest purpose: it is a line of a table.
const PURPOSE_CHARS_MAX: usize = 200;
/// Most owners of a slot.
const OWNERS_MAX: usize = 32;

/// Who may change what is in a slot, as the cluster knows them.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Owner {
    /// One person.
    User(String),
    /// All who are in a group.
    Group(String),
}

impl Owner {
    /// The kind of subject that it is in a RoleBinding, and its name.
    pub fn subject(&self) -> (&'static str, &str) {
        match self {
            Self::User(name) => ("User", name),
            Self::Group(name) => ("Group", name),
        }
    }
}

impl fmt::Display for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (kind, name) = self.subject();
        write!(f, "{}:{name}", kind.to_lowercase())
    }
}

impl FromStr for Owner {
    type Err = &'static str;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (kind, name) = text.split_once(':').ok_or("it says neither user: nor group:")?;
        if name.is_empty() || name.chars().count() > OWNER_CHARS_MAX {
            return Err("a name has 1 to 200 characters");
        }
        if name.chars().any(|c| c.is_control() || c.is_whitespace()) {
            return Err("a name has no spaces");
        }
        // `system:authenticated` would be everybody.
        if name.starts_with("system:") {
            return Err("names that begin with system: are the cluster's own");
        }
        match kind {
            "user" => Ok(Self::User(name.to_owned())),
            "group" => Ok(Self::Group(name.to_owned())),
            _ => Err("it says neither user: nor group:"),
        }
    }
}

impl TryFrom<String> for Owner {
    type Error = String;
    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse().map_err(|reason| format!("owner {text:?}: {reason}"))
    }
}

impl From<Owner> for String {
    fn from(owner: Owner) -> Self {
        owner.to_string()
    }
}

/// Whose a slot is, and what for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Claim {
    /// Who may change what is in it.
    pub owners: Vec<Owner>,
    /// What for.
    pub purpose: String,
    /// Since when.
    pub since: Date,
    /// Until when, if somebody knows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<Date>,
}

impl Claim {
    /// Checks what the types do not.
    ///
    /// # Errors
    /// What is wrong.
    pub fn check(&self) -> Result<(), &'static str> {
        if self.owners.is_empty() || self.owners.len() > OWNERS_MAX {
            return Err("a slot that is taken has 1 to 32 owners");
        }
        let purpose = self.purpose.trim();
        if purpose.is_empty() || purpose.chars().count() > PURPOSE_CHARS_MAX {
            return Err("a purpose has 1 to 200 characters");
        }
        if self.purpose.chars().any(char::is_control) {
            return Err("a purpose is one line");
        }
        if self.until.is_some_and(|until| until < self.since) {
            return Err("until is before since");
        }
        Ok(())
    }

    /// Its owners, for people.
    pub fn owners(&self) -> String {
        self.owners.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
    }

    /// Whose the slot is, for whoever wanted it.
    pub fn taken(&self) -> String {
        let until = self.until.map(|until| format!(" until {until}")).unwrap_or_default();
        format!("is taken by {} since {}{until}, for {:?}", self.owners(), self.since, self.purpose)
    }

    /// As it stands in the file: JSON, which YAML takes.
    pub fn line(&self) -> String {
        let owners =
            self.owners.iter().map(|owner| quoted(&owner.to_string())).collect::<Vec<_>>().join(", ");
        let until = self.until.map(|until| format!(", \"until\": \"{until}\"")).unwrap_or_default();
        let (purpose, since) = (quoted(&self.purpose), self.since);
        format!("{{\"owners\": [{owners}], \"purpose\": {purpose}, \"since\": \"{since}\"{until}}}")
    }
}

/// A text in JSON, which YAML takes.
pub fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}
