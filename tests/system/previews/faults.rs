//! What the API server refuses.

use serde_json::json;
use trough_tests::servers::kubernetes::NAMESPACE;

use super::{age, cluster_with, line, namespace, sweep, sweep_with};

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[tokio::test]
async fn a_right_that_is_missing_is_named_and_other_slots_are_swept() {
    let cluster = cluster_with(&["ant", "bee"]).await;
    sweep(&cluster, "ant", &[]).await;
    for slot in ["ant", "bee"] {
        age(&cluster, slot);
    }
    cluster.change("Role", &namespace("ant"), "sweep", |role| {
        role["rules"].as_array_mut().unwrap().retain(|rule| rule["verbs"] != json!(["patch"]));
    });
    let output = sweep_with(&cluster, &[]).await;
    let (said, error) = (text(&output.stdout), text(&output.stderr));
    assert_eq!(output.status.code(), Some(1), "{said}{error}");
    assert!(error.contains("ant (nobody): failed") && error.contains("cannot patch resource"), "{error}");
    assert!(error.contains("kubectl apply -k deploy/preview"), "{error}");
    assert!(line(&said, "bee").contains("put to sleep"), "{said}");
    assert!(cluster.names(&namespace("ant")).contains(&"Deployment/feeder".to_owned()));
}

#[tokio::test]
async fn a_wrong_token_and_a_missing_record_end_the_sweep() {
    let cluster = cluster_with(&["ant"]).await;
    cluster.remove("ConfigMap", NAMESPACE, "activity");
    let error = text(&sweep_with(&cluster, &[]).await.stderr);
    assert!(error.contains("activity") && error.contains("kubectl apply -k deploy/preview"), "{error}");
    std::fs::write(cluster.account().join("token"), "another").unwrap();
    let output = sweep_with(&cluster, &[]).await;
    assert_eq!(output.status.code(), Some(1));
    let error = text(&output.stderr);
    assert!(error.contains("401") && !error.contains("another"), "{error}");
}

#[tokio::test]
async fn what_was_made_anew_meanwhile_is_not_deleted() {
    let cluster = cluster_with(&["ant"]).await;
    sweep(&cluster, "ant", &[]).await;
    age(&cluster, "ant");
    let feeder = format!("/apis/apps/v1/namespaces/{}/deployments/feeder", namespace("ant"));
    cluster.renew_at(&format!("PATCH {feeder}/scale"), "Deployment", &namespace("ant"), "feeder");
    let output = sweep_with(&cluster, &[]).await;
    let error = text(&output.stderr);
    assert!(output.status.code() == Some(1) && error.contains("it has changed meanwhile"), "{error}");
    assert!(cluster.names(&namespace("ant")).contains(&"Deployment/feeder".to_owned()));
    // The next one ends what is left.
    assert!(sweep(&cluster, "ant", &[]).await.contains("put to sleep"));
    assert_eq!(sweep(&cluster, "ant", &[]).await, "asleep");
}

#[tokio::test]
async fn what_is_gone_already_is_done_and_a_busy_server_is_asked_again() {
    let cluster = cluster_with(&["ant"]).await;
    sweep(&cluster, "ant", &[]).await;
    age(&cluster, "ant");
    let feeder = format!("/apis/apps/v1/namespaces/{}/deployments/feeder", namespace("ant"));
    cluster.answer(&format!("PATCH {feeder}/scale"), 404, None);
    cluster.answer(&format!("GET /api/v1/namespaces/{}/pods", namespace("ant")), 429, Some("0"));
    cluster.answer(&format!("DELETE {feeder}"), 429, Some("0"));
    assert!(sweep(&cluster, "ant", &[]).await.contains("put to sleep"));
    assert_eq!(cluster.calls().iter().filter(|call| **call == format!("DELETE {feeder}")).count(), 2);
    // Not for ever.
    for _ in 0..9 {
        cluster.answer(&format!("GET /api/v1/namespaces/{}/pods", namespace("bee")), 429, Some("0"));
    }
    let output = sweep_with(&cluster, &[]).await;
    assert!(
        output.status.code() == Some(1) && text(&output.stderr).contains("429"),
        "{}",
        text(&output.stderr)
    );
}
