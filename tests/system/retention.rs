//! How long frames are kept, as an operator sets it: a policy is counted by the running eater before it can be enforced,
//! in the embedded shape and over a database.

use serde_json::{Value, json};
use trough_tests::admin::run;
use trough_tests::cluster::{Cluster, Role, Shape};
use trough_tests::poll::{LATER, until};
use trough_tests::process::command;

async fn listed(cluster: &Cluster) -> Vec<Value> {
    serde_json::from_str(&cluster.admin(&["retention", "list", "--json"], "").await).unwrap()
}

/// What it says on standard error, and its exit code.
async fn refused(cluster: &Cluster, args: &[&str]) -> (Option<i32>, String) {
    let mut call = command();
    call.args(args).args(["--data-dir", cluster.data_dir().to_str().unwrap()]);
    let output = run(call, "").await;
    (output.status.code(), String::from_utf8(output.stderr).unwrap())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_policy_is_counted_before_it_is_enforced() {
    let cluster = Cluster::start(Shape::Up).await;
    cluster.admin(&["devices", "add", "bus-1", "--group", "buses"], "").await;
    assert!(listed(&cluster).await.is_empty());
    let (code, text) = refused(&cluster, &["retention", "enforce", "buses"]).await;
    assert!(
        code == Some(1) && text.contains("retention policy of group") && text.contains("buses"),
        "{text}"
    );
    for (args, named) in [
        (&["retention", "set", "buses"][..], "neither is --bytes"),
        (&["retention", "set", "buses", "--days", "0"], "--days"),
        (&["retention", "set", "buses", "--bytes", "1e9"], "--bytes"),
        (&["retention", "set", "b u s", "--days", "9"], "GROUP"),
    ] {
        let (code, text) = refused(&cluster, args).await;
        assert!(code == Some(2) && text.contains(named), "{args:?}: {text}");
    }

    cluster.admin(&["retention", "set", "buses", "--days", "30", "--bytes", "1000000"], "").await;
    let [policy] = &listed(&cluster).await[..] else { panic!("one was set") };
    assert_eq!((&policy["days"], &policy["bytes"]), (&json!(30), &json!(1_000_000)));
    assert_eq!((&policy["group"], &policy["enforced"]), (&json!("buses"), &json!(false)));
    // The eater looks by itself.
    let counted = until("the policy is counted", LATER, async || {
        let counted = listed(&cluster).await[0]["counted"].clone();
        (!counted.is_null()).then_some(counted)
    })
    .await;
    assert_eq!((&counted["frames"], &counted["devices"]), (&json!(0), &json!(0)), "all of it is of today");
    cluster.admin(&["retention", "enforce", "buses"], "").await;
    assert_eq!(listed(&cluster).await[0]["enforced"], true);
    assert_eq!(cluster.metric(Role::Up, "trough_compaction_expired_frames_total").await, 0.0);

    // Set again it begins anew.
    cluster.admin(&["retention", "set", "buses", "--days", "31"], "").await;
    let policy = &listed(&cluster).await[0];
    assert_eq!((&policy["enforced"], &policy["bytes"]), (&json!(false), &Value::Null));
    cluster.admin(&["retention", "remove", "buses"], "").await;
    assert!(listed(&cluster).await.is_empty());
    let (code, text) = refused(&cluster, &["retention", "remove", "buses"]).await;
    assert!(code == Some(1) && text.contains("buses"), "{text}");
}
