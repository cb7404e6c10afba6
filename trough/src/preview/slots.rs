//! `slots.yaml`: which slot is whose, one line for each.
//!
//! It is YAML of a narrow form, so that a claim changes one line and nothing else: comments stay where they are.

use std::fmt;
use std::fs::{self, File};
use std::io::Write as _;
use std::path::Path;
use std::str::FromStr;

use anyhow::{Context, Result, anyhow, bail};

use super::claim::Claim;

/// What a slot's namespace is called before the slot's own name.
pub const NAMESPACE_PREFIX: &str = "trough-preview-";
/// Longest name of a slot: a namespace has at most 63 characters.
const NAME_CHARS_MAX: usize = 40;
/// Longest file that is read, in bytes.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// A line of the file.
#[derive(Debug, Clone)]
enum Line {
    /// `  NAME: {…}`
    Slot(String, Option<Claim>),
    /// A comment, an empty line, or `slots:`.
    Other(String),
}

/// All slots, in the order of the file.
#[derive(Debug, Clone)]
pub struct Slots(Vec<Line>);

impl Slots {
    /// Reads a file.
    ///
    /// # Errors
    /// It cannot be read, or a line is not understood.
    pub fn read(path: &Path) -> Result<Self> {
        let shown = path.display();
        let size = fs::metadata(path)
            .with_context(|| {
                format!("cannot read {shown}: run this in the repository, or name the file with --file")
            })?
            .len();
        if size > FILE_BYTES_MAX {
            bail!("{shown} has {size} bytes, which is no list of slots");
        }
        let text = fs::read_to_string(path).with_context(|| format!("cannot read {shown}"))?;
        text.parse::<Self>().with_context(|| format!("cannot use {shown}"))
    }

    /// Names and claims.
    pub fn iter(&self) -> impl Iterator<Item = (&str, Option<&Claim>)> {
        self.0.iter().filter_map(|line| match line {
            Line::Slot(name, claim) => Some((&**name, claim.as_ref())),
            Line::Other(_) => None,
        })
    }

    /// Takes a slot: the one that is named, or the first free one. Gives its name.
    ///
    /// # Errors
    /// It is taken, there is none of that name, or none is free.
    pub fn claim(&mut self, name: Option<&str>, claim: Claim) -> Result<String> {
        claim.check().map_err(|reason| anyhow!("{reason}"))?;
        let free = self.iter().filter(|(_, claim)| claim.is_none()).map(|(name, _)| name.to_owned());
        let free: Vec<String> = free.collect();
        let name = match (name, free.first()) {
            (Some(name), _) => name.to_owned(),
            (None, Some(first)) => first.clone(),
            (None, None) => {
                let taken =
                    self.iter().filter_map(|(name, claim)| Some(format!("{name} {}", claim?.taken())));
                bail!("no slot is free:\n{}", taken.collect::<Vec<_>>().join("\n"));
            }
        };
        let slot = self.slot(&name)?;
        if let Some(claim) = slot {
            let others =
                if free.is_empty() { "none is free".into() } else { format!("free: {}", free.join(", ")) };
            bail!("slot {name} {}; ask them to release it, or choose another ({others})", claim.taken());
        }
        *slot = Some(claim);
        Ok(name)
    }

    /// Gives a slot back; gives whose it was.
    ///
    /// # Errors
    /// It is free already, or there is none of that name.
    pub fn release(&mut self, name: &str) -> Result<Claim> {
        let slot = self.slot(name)?;
        slot.take().ok_or_else(|| anyhow!("slot {name} is nobody's: there is nothing to release"))
    }

    fn slot(&mut self, name: &str) -> Result<&mut Option<Claim>> {
        let names = self.iter().map(|(name, _)| name).collect::<Vec<_>>().join(", ");
        let found = self.0.iter_mut().find_map(|line| match line {
            Line::Slot(known, claim) if known == name => Some(claim),
            _ => None,
        });
        found.ok_or_else(|| anyhow!("there is no slot {name}: there are {names}"))
    }
}

/// Changes a file: all of the change, or nothing of it. Others who change it at the same time wait.
///
/// # Errors
/// The file cannot be read or written, or the change is refused.
pub fn edit<T>(path: &Path, change: impl FnOnce(&mut Slots) -> Result<T>) -> Result<(T, Slots)> {
    let dir = match path.parent() {
        Some(dir) if !dir.as_os_str().is_empty() => dir,
        _ => Path::new("."),
    };
    let failed = || format!("cannot write {}", path.display());
    let lock = File::open(dir).with_context(failed)?;
    lock.lock().with_context(failed)?;
    let mut slots = Slots::read(path)?;
    let result = change(&mut slots)?;
    replace(path, slots.to_string().as_bytes()).with_context(failed)?;
    Ok((result, slots))
}

/// Puts a whole file in the place of another; a crash leaves the one or the other.
///
/// # Errors
/// As the file system says.
pub fn replace(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let new = path.with_extension("yaml.new");
    let mut file = File::create(&new)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&new, path)
}

impl fmt::Display for Slots {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|line| match line {
            Line::Slot(name, None) => writeln!(f, "  {name}: {{}}"),
            Line::Slot(name, Some(claim)) => writeln!(f, "  {name}: {}", claim.line()),
            Line::Other(text) => writeln!(f, "{text}"),
        })
    }
}

impl FromStr for Slots {
    type Err = anyhow::Error;
    fn from_str(text: &str) -> Result<Self> {
        let mut lines: Vec<Line> = Vec::new();
        for (number, text) in (1..).zip(text.lines()) {
            let trimmed = text.trim();
            if trimmed.is_empty() || trimmed.starts_with('#') || text.trim_end() == "slots:" {
                lines.push(Line::Other(text.to_owned()));
                continue;
            }
            let (name, claim) = slot(text).with_context(|| format!("line {number} is not understood"))?;
            let known = lines.iter().any(|line| matches!(line, Line::Slot(known, _) if known == name));
            if known {
                bail!("line {number}: there are two slots {name}");
            }
            lines.push(Line::Slot(name.to_owned(), claim));
        }
        Ok(Self(lines))
    }
}

fn slot(line: &str) -> Result<(&str, Option<Claim>)> {
    const FORM: &str = "write one slot in one line, `  NAME: {}` or `  NAME: {\"owners\": [\"user:NAME\"], \"purpose\": \
                        \"TEXT\", \"since\": \"2026-01-31\"}`";
    let rest = line.strip_prefix("  ").filter(|rest| !rest.starts_with(' '));
    let (name, value) = rest.and_then(|rest| rest.split_once(": ")).ok_or_else(|| anyhow!(FORM))?;
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    let edges = name.starts_with('-') || name.ends_with('-');
    if name.is_empty() || name.len() > NAME_CHARS_MAX || !name.chars().all(plain) || edges {
        bail!("{name:?} cannot be a part of a namespace: use 1 to {NAME_CHARS_MAX} of a–z 0–9 -");
    }
    if value.trim() == "{}" {
        return Ok((name, None));
    }
    let claim: Claim = serde_json::from_str(value).with_context(|| FORM)?;
    claim.check().map_err(|reason| anyhow!("{reason}"))?;
    Ok((name, Some(claim)))
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = "# Who has which.\n\nslots:\n  ant: {\"owners\": [\"user:ada@example.org\", \"group:rails\"], \
                        \"purpose\": \"a \\\"new\\\" reader\", \"since\": \"2026-11-20\", \"until\": \"2026-12-01\"}\n  \
                        # The big one.\n  bee: {}\n  cat: {}\n";

    fn claim(owner: &str) -> Claim {
        Claim {
            owners: vec![owner.parse().unwrap()],
            purpose: "trying".into(),
            since: "2026-11-26".parse().unwrap(),
            until: None,
        }
    }

    #[test]
    fn a_claim_changes_one_line_and_a_release_changes_it_back() {
        let mut slots: Slots = FILE.parse().unwrap();
        assert_eq!(slots.to_string(), FILE, "what is not changed stays byte for byte");
        assert_eq!(slots.claim(None, claim("user:bob")).unwrap(), "bee", "the first that is free");
        let text = slots.to_string();
        let changed: Vec<_> = FILE.lines().zip(text.lines()).filter(|(old, new)| old != new).collect();
        let line = r#"  bee: {"owners": ["user:bob"], "purpose": "trying", "since": "2026-11-26"}"#;
        assert_eq!(changed, [("  bee: {}", line)]);
        let again: Slots = text.parse().unwrap();
        assert_eq!(again.to_string(), text);
        assert_eq!(slots.release("bee").unwrap(), claim("user:bob"));
        assert_eq!(slots.to_string(), FILE);
    }

    #[test]
    fn what_is_taken_is_refused_and_says_by_whom() {
        let mut slots: Slots = FILE.parse().unwrap();
        let refused = slots.claim(Some("ant"), claim("user:bob")).unwrap_err().to_string();
        for part in ["user:ada@example.org, group:rails", "2026-11-20", "until 2026-12-01", "free: bee, cat"]
        {
            assert!(refused.contains(part), "{part}: {refused}");
        }
        assert!(
            slots.claim(Some("owl"), claim("user:bob")).unwrap_err().to_string().contains("ant, bee, cat")
        );
        assert!(slots.release("cat").unwrap_err().to_string().contains("nobody's"));
        for _ in 0..2 {
            slots.claim(None, claim("user:bob")).unwrap();
        }
        let refused = slots.claim(None, claim("user:eve")).unwrap_err().to_string();
        assert!(refused.starts_with("no slot is free:\nant is taken by user:ada"), "{refused}");
    }

    #[test]
    fn lines_of_another_form_are_named() {
        for (line, part) in [
            ("  ant: {} # mine", "line 2"),
            ("ant: {}", "one slot in one line"),
            ("  Ant: {}", "a–z"),
            ("  ant: {\"owners\": [], \"purpose\": \"x\", \"since\": \"2026-01-01\"}", "1 to 32 owners"),
            (
                "  ant: {\"owners\": [\"ada\"], \"purpose\": \"x\", \"since\": \"2026-01-01\"}",
                "neither user: nor",
            ),
            (
                "  ant: {\"owners\": [\"group:system:authenticated\"], \"purpose\": \"x\", \"since\": \"2026-01-01\"}",
                "own",
            ),
            ("  ant: {\"owners\": [\"user:a\"], \"purpose\": \"x\", \"since\": \"2026-01-32\"}", "line 2"),
            (
                "  ant: {\"owners\": [\"user:a\"], \"purpose\": \"x\", \"since\": \"2026-01-02\", \"till\": 1}",
                "till",
            ),
        ] {
            let error = format!("{:#}", format!("slots:\n{line}\n").parse::<Slots>().unwrap_err());
            assert!(error.contains(part), "{line}: {error}");
        }
        assert!("slots:\n  ant: {}\n  ant: {}\n".parse::<Slots>().is_err());
    }

    #[test]
    fn two_who_claim_at_once_get_two_slots() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("slots.yaml");
        let lines: String = (0..20).map(|n| format!("  s{n}: {{}}\n")).collect();
        fs::write(&path, format!("slots:\n{lines}")).unwrap();
        std::thread::scope(|scope| {
            for _ in 0..20 {
                scope.spawn(|| edit(&path, |slots| slots.claim(None, claim("user:bob"))).unwrap());
            }
        });
        let slots = Slots::read(&path).unwrap();
        assert_eq!(slots.iter().filter(|(_, claim)| claim.is_some()).count(), 20);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "nothing is left lying about");
    }
}
