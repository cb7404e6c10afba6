//! `kubectl exec deploy/eater -- trough …`: every administrative command works with no more than the environment that the
//! pod has.
//!
//! 1. Each of them does what it is for: devices, readers, rules, and so on are made, listed and removed, and everything is
//!    checked. What is sealed needs the seal key, so that is done where the key is.
//! 2. None is forgotten: every command that the binary has is run here, or is not one for pods.

use std::collections::BTreeSet;

use serde_json::Value;
use trough_tests::admin::help_of_all;
use trough_tests::manifests::Source;
use trough_tests::poll::{LATER, until};

use super::namespace::Namespace;

/// Services, clients, what is for one machine, and what writes a file.
const NOT_FOR_PODS: [&str; 11] =
    ["up", "feeder", "eater", "notifier", "send", "tail", "demo", "bench", "export", "journal", "preview"];

/// What was run.
struct Shell {
    namespace: Namespace,
    ran: BTreeSet<String>,
}

impl Shell {
    async fn run(&mut self, line: &str) -> String {
        self.run_in("eater-0", line, "").await
    }

    async fn run_in(&mut self, pod: &str, line: &str, input: &str) -> String {
        let args: Vec<&str> = line.split(' ').collect();
        self.ran.insert(args[0].to_owned());
        self.namespace.exec_in(pod, &args, input).await
    }

    async fn json(&mut self, line: &str) -> Value {
        serde_json::from_str(&self.run(line).await).unwrap()
    }

    /// The pod of the eater, if the seal key is in it; else the notifier's, which cannot be without.
    fn sealing(&self) -> &'static str {
        let has_key = |name: &str| {
            let key = self.namespace.manifests.pod(name).environment().remove("TROUGH_SEAL_KEY_FILE");
            matches!(key, Some(Source::Value(_)))
        };
        if has_key("eater") { "eater-0" } else { "notifier-0" }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_admin_command_works_with_what_the_pod_has() {
    let mut shell = Shell { namespace: Namespace::start().await, ran: BTreeSet::new() };
    let sealing = shell.sealing();

    assert!(shell.run("devices add bus-1 --group north").await.starts_with("tdev_"));
    let imported = shell.run_in("eater-0", "devices import -", "bus-2,north\n").await;
    assert!(imported.contains("\nbus-2,tdev_"), "{imported}");
    assert!(shell.run("devices rotate bus-1").await.starts_with("tdev_"));
    assert!(shell.run("readers add app --group north").await.starts_with("trdr_"));
    assert_eq!(shell.json("devices list --json").await.as_array().unwrap().len(), 2);
    assert_eq!(shell.json("readers list --json").await.as_array().unwrap().len(), 1);

    let asked = shell.run("commands send bus-1 --text lock").await;
    assert!(shell.run("commands list bus-1").await.contains(&asked));
    assert!(shell.run(&format!("commands show bus-1 {asked}")).await.contains(&asked));
    shell.run(&format!("commands cancel bus-1 {asked}")).await;

    shell.run("channels position gps").await;
    assert!(shell.run("channels list").await.contains("gps"));
    shell.run("channels remove gps").await;

    shell.run("rules set still --silence gps --after 60 --all").await;
    assert!(shell.run("rules list").await.contains("still"));
    shell.run("rules remove still").await;

    shell.run("retention set north --days 30").await;
    until("it has been counted what has expired", LATER, async || {
        shell.namespace.try_exec("eater-0", &["retention", "enforce", "north"]).await.then_some(())
    })
    .await;
    assert!(shell.run("retention list").await.contains("north"));
    shell.run("retention remove north").await;

    let added = shell.run_in(sealing, "subscriptions add app --url https://hook.invalid/x", "").await;
    let subscription = added.lines().next().unwrap().to_owned();
    shell.run_in(sealing, &format!("subscriptions rotate-key {subscription}"), "").await;
    for line in ["show", "disable", "enable"] {
        shell.run(&format!("subscriptions {line} {subscription}")).await;
    }
    let delivery = shell.run(&format!("subscriptions test {subscription}")).await;
    assert!(shell.run("deliveries list").await.contains(&delivery));
    assert!(shell.run(&format!("deliveries show {delivery}")).await.contains(&subscription));
    assert!(shell.run("subscriptions list").await.contains(&subscription));
    shell.run(&format!("subscriptions remove {subscription}")).await;
    let push_token = "ab".repeat(32);
    let add = format!("phones add app --app com.example.app --push-token {push_token}");
    let phone = shell.run_in(sealing, &add, "").await;
    assert!(shell.run("phones list").await.contains(&phone));
    shell.run(&format!("phones remove {phone}")).await;

    assert_eq!(shell.run("drain").await.split(' ').next(), Some("left:"));
    shell.run("drain --undo").await;
    shell.namespace.ready().await;
    assert!(shell.run("top --once --every 1").await.contains(" eater "));
    assert!(shell.run("health").await.contains("ready"));
    assert!(shell.run("upgrade status").await.contains('1'));
    shell.run("fsck").await;
    shell.run("devices revoke bus-1").await;
    shell.run("readers revoke app").await;

    for name in help_of_all().await.keys().filter(|words| !words.is_empty() && !words.contains(' ')) {
        let is_known = shell.ran.contains(name) || NOT_FOR_PODS.contains(&name.as_str());
        assert!(is_known, "nobody has tried `kubectl exec deploy/eater -- trough {name}`");
    }
}
