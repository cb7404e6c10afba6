//! What follows from `slots.yaml` for the cluster, as files beside it that `kubectl apply -k` takes.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::claim::{Claim, quoted};
use super::slots::{NAMESPACE_PREFIX, Slots, replace};

const NOTE: &str = "# Written by `trough preview render`, from slots.yaml. Change that, not this.\n";

/// A file that follows, below the folder of `slots.yaml`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rendered {
    /// Where.
    pub path: PathBuf,
    /// What is in it.
    pub text: String,
}

/// All files that follow.
pub fn render(slots: &Slots) -> Vec<Rendered> {
    let rendered = |path: String, text: String| Rendered { path: path.into(), text: format!("{NOTE}{text}") };
    let all: String = slots.iter().map(|(name, _)| format!("  - {name}/rights\n")).collect();
    let all = format!(
        "# The namespaces, and who may do what in them.\napiVersion: kustomize.config.k8s.io/v1beta1\nkind: \
         Kustomization\nresources:\n{all}"
    );
    let mut files = vec![rendered("slots/kustomization.yaml".into(), all)];
    for (name, claim) in slots.iter() {
        files.push(rendered(format!("slots/{name}/kustomization.yaml"), workloads(name)));
        files.push(rendered(format!("slots/{name}/rights/kustomization.yaml"), rights(name)));
        files.push(rendered(format!("slots/{name}/rights/slot.yaml"), slot(name, claim)));
    }
    files
}

/// Those that are not in the folder as they should be.
///
/// # Errors
/// A file cannot be read.
pub fn stale(slots: &Slots, dir: &Path) -> io::Result<Vec<Rendered>> {
    let mut stale = Vec::new();
    for file in render(slots) {
        match fs::read(dir.join(&file.path)) {
            Ok(bytes) if bytes == file.text.as_bytes() => {}
            Ok(_) => stale.push(file),
            Err(error) if error.kind() == io::ErrorKind::NotFound => stale.push(file),
            Err(error) => return Err(error),
        }
    }
    Ok(stale)
}

/// Writes those that are not as they should be; gives them.
///
/// # Errors
/// A file cannot be read or written.
pub fn write(slots: &Slots, dir: &Path) -> io::Result<Vec<Rendered>> {
    let stale = stale(slots, dir)?;
    for file in &stale {
        let path = dir.join(&file.path);
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent)?;
        }
        replace(&path, file.text.as_bytes())?;
    }
    Ok(stale)
}

fn workloads(name: &str) -> String {
    format!(
        "# What runs in the slot: its owners apply it, `kubectl apply -k deploy/preview/slots/{name}`.\napiVersion: \
         kustomize.config.k8s.io/v1beta1\nkind: Kustomization\nnamespace: {NAMESPACE_PREFIX}{name}\nresources:\n  - \
         ../../base\n"
    )
}

fn rights(name: &str) -> String {
    format!(
        "apiVersion: kustomize.config.k8s.io/v1beta1\nkind: Kustomization\nnamespace: \
         {NAMESPACE_PREFIX}{name}\nresources:\n  - slot.yaml\n  - ../../../rights\n"
    )
}

/// The namespace, and its owners. A slot that is nobody's has the same binding with nobody in it: `kubectl apply` changes
/// what it finds, and removes nothing that is not there any more.
fn slot(name: &str, claim: Option<&Claim>) -> String {
    let subject = |(kind, name): (&str, &str)| {
        format!("  - {{ kind: {kind}, name: {}, apiGroup: rbac.authorization.k8s.io }}\n", quoted(name))
    };
    let subjects = match claim {
        None => "subjects: []\n".to_owned(),
        Some(claim) => {
            let subjects: String = claim.owners.iter().map(|owner| subject(owner.subject())).collect();
            format!("subjects:\n{subjects}")
        }
    };
    let owners = claim.map_or_else(|| "nobody".to_owned(), Claim::owners);
    let purpose = claim.map_or("none: the slot is free", |claim| &*claim.purpose);
    format!(
        "apiVersion: v1
kind: Namespace
metadata:
  name: {NAMESPACE_PREFIX}{name}
  labels:
    trough/preview: {name}
    pod-security.kubernetes.io/enforce: restricted
    pod-security.kubernetes.io/enforce-version: v1.31
  annotations:
    trough/owners: {owners}
    trough/purpose: {purpose}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata:
  name: owners
roleRef: {{ apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: edit }}
{subjects}",
        owners = quoted(&owners),
        purpose = quoted(purpose),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    const CLAIMED: &str = "slots:\n  ant: {\"owners\": [\"user:ada@example.org\", \"group:rails-north\"], \"purpose\": \
                           \"a: \\\"b\\\"\", \"since\": \"2026-11-20\"}\n  bee: {}\n";

    #[test]
    fn owners_are_bound_and_those_of_a_released_slot_are_not() {
        let slots: Slots = CLAIMED.parse().unwrap();
        let files = render(&slots);
        let text = |path: &str| &*files.iter().find(|file| file.path == Path::new(path)).unwrap().text;
        let ant = text("slots/ant/rights/slot.yaml");
        for line in [
            "  name: trough-preview-ant\n",
            "  - { kind: User, name: \"ada@example.org\", apiGroup: rbac.authorization.k8s.io }\n",
            "  - { kind: Group, name: \"rails-north\", apiGroup: rbac.authorization.k8s.io }\n",
            "    trough/purpose: \"a: \\\"b\\\"\"\n",
        ] {
            assert!(ant.contains(line), "{line}: {ant}");
        }
        assert!(
            text("slots/bee/rights/slot.yaml").ends_with("subjects: []\n"),
            "bound to nobody, not left as it was"
        );
    }

    #[test]
    fn what_is_stale_is_found_and_written_once() {
        let dir = tempfile::tempdir().unwrap();
        let mut slots: Slots = "slots:\n  ant: {}\n  bee: {}\n".parse().unwrap();
        assert_eq!(write(&slots, dir.path()).unwrap().len(), 7);
        assert!(stale(&slots, dir.path()).unwrap().is_empty());
        let claim = CLAIMED.parse::<Slots>().unwrap().release("ant").unwrap();
        slots.claim(Some("ant"), claim).unwrap();
        let changed: Vec<_> = write(&slots, dir.path()).unwrap().into_iter().map(|file| file.path).collect();
        assert_eq!(changed, [Path::new("slots/ant/rights/slot.yaml")]);
    }
}
