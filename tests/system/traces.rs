//! Traces: a run of frames is followed from its feeder to its commit, to the event that it brings about, and to whoever is
//! told of that, over process boundaries, by what a collector is sent.
//!
//! 1. `trough up`.
//! 2. A feeder, an eater and a notifier over an object store and a database.
//! 3. A collector that is away costs spans, and nothing else; nothing is traced without one.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::trace::v1::Span;
use prost::Message as _;
use trough_tests::cluster::{Cluster, Options, Role, Shape};
use trough_tests::outbox::Events;
use trough_tests::poll::{LATER, ends, until};
use trough_tests::servers::hooks::{Hooks, Manner};
use trough_tests::servers::mongo::Mongo;
use trough_tests::servers::{free_ports, own_ip};
use trough_tests::wire::{Form, Wire};

use crate::notifiers::{Notifiers, stores};

const DOOR: &str = r#"{"name":"door","scope":"all","condition":{"kind":"compare","when":"/open == 1"}}"#;

/// All spans that a collector was sent, with the names of their services.
fn spans(collector: &Hooks) -> Vec<(String, Span)> {
    let mut all = Vec::new();
    for call in collector.calls("/v1/traces") {
        assert_eq!(call.header("content-type"), "application/x-protobuf");
        let request = ExportTraceServiceRequest::decode(call.body.clone()).unwrap();
        for of_service in request.resource_spans {
            let resource = of_service.resource.unwrap();
            let name = resource.attributes.iter().find(|attribute| attribute.key == "service.name").unwrap();
            let Some(Value::StringValue(service)) = name.value.as_ref().unwrap().value.clone() else {
                panic!("{name:?}")
            };
            let spans = of_service.scope_spans.into_iter().flat_map(|scope| scope.spans);
            all.extend(spans.map(|span| (service.clone(), span)));
        }
    }
    all
}

fn text(span: &Span, name: &str) -> String {
    let attribute = span.attributes.iter().find(|attribute| attribute.key == name);
    match attribute.unwrap_or_else(|| panic!("no {name} in {span:?}")).value.clone().unwrap().value {
        Some(Value::StringValue(text)) => text,
        Some(Value::IntValue(number)) => number.to_string(),
        other => panic!("{other:?}"),
    }
}

fn is_of_bus(span: &Span, name: &str) -> bool {
    span.name == name && text(span, "trough.device") == "bus"
}

/// Opens and shuts a door until somebody is told: a notifier need not know of a subscription that was just added.
async fn until_told(cluster: &Cluster, hooks: &Hooks) {
    let token = cluster.add_device("warm").await;
    let (mut wire, _) = Wire::begin(cluster.at.devices, Form::Binary, &token).await;
    for seq in (1..).step_by(2) {
        wire.frames(seq, &[br#"{"open":1}"#, br#"{"open":0}"#]).await;
        wire.acked(seq + 1).await;
        if hooks.count() > 0 {
            return wire.close().await;
        }
        tokio::task::yield_now().await;
    }
}

/// Sends a frame that a rule matches, and looks at its trace.
async fn follow(cluster: &mut Cluster, collector: &Hooks, hooks: &Hooks) {
    ends("somebody is told", LATER, until_told(cluster, hooks)).await;
    let token = cluster.add_device("bus").await;
    let (mut wire, _) = Wire::begin(cluster.at.devices, Form::Binary, &token).await;
    wire.frames(1, &[br#"{"open":0}"#]).await;
    wire.acked(1).await;
    wire.frames(2, &[br#"{"open":0}"#, br#"{"open":1}"#]).await;
    wire.acked(3).await;
    let names = ["commit", "deliver", "feed", "watch"];
    let trace = until("the frame's trace is complete", LATER, async || {
        let all = spans(collector);
        let (_, watched) = all.iter().find(|(_, span)| is_of_bus(span, "watch"))?;
        let of_it = all.iter().filter(|(_, span)| span.trace_id == watched.trace_id);
        let of_it: BTreeMap<String, (String, Span)> =
            of_it.map(|(service, span)| (span.name.clone(), (service.clone(), span.clone()))).collect();
        (of_it.keys().map(String::as_str).collect::<Vec<_>>() == names).then_some(of_it)
    })
    .await;
    let services: Vec<_> = trace.values().map(|(service, _)| service.as_str()).collect();
    assert_eq!(services, ["trough-eater", "trough-notifier", "trough-feeder", "trough-eater"]);
    let [commit, deliver, feed, watch] = names.map(|name| &trace[name].1);
    assert!(feed.parent_span_id.is_empty(), "it is the first");
    for (child, parent) in [(commit, feed), (watch, feed), (deliver, watch)] {
        assert_eq!(child.parent_span_id, parent.span_id, "{} of {}", child.name, parent.name);
    }
    for span in [commit, deliver, feed, watch] {
        assert!(span.start_time_unix_nano <= span.end_time_unix_nano, "{span:?}");
        assert!(span.status.is_none(), "{span:?}");
    }
    // One machine, one clock. The eater has committed before its feeder knows.
    assert!(feed.start_time_unix_nano <= commit.start_time_unix_nano);
    assert!(commit.end_time_unix_nano <= feed.end_time_unix_nano);
    assert!(watch.end_time_unix_nano <= deliver.start_time_unix_nano);
    assert_eq!(text(feed, "trough.device"), "bus");
    assert_eq!((text(feed, "trough.first_seq"), text(feed, "trough.frames")), ("2".into(), "2".into()));
    assert_eq!((text(commit, "trough.device"), text(commit, "trough.frames")), ("bus".into(), "2".into()));
    assert_eq!(text(watch, "trough.event"), text(deliver, "trough.event"));
    assert_eq!(text(deliver, "http.response.status_code"), "200");
    // Whoever is told can go on with it.
    let calls = hooks.calls("/hook");
    let call = calls.iter().find(|call| call.json()["data"]["device"] == "bus").unwrap();
    let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    let expected = format!("00-{}-{}-01", hex(&deliver.trace_id), hex(&deliver.span_id));
    assert_eq!(call.header("traceparent"), expected);
    // The other run has a trace of its own, with nothing in it that a rule has found.
    let all = until("the other run is traced", LATER, async || {
        let all = spans(collector);
        (all.iter().filter(|(_, span)| is_of_bus(span, "commit")).count() >= 2).then_some(all)
    })
    .await;
    let commits = all.iter().filter(|(_, span)| is_of_bus(span, "commit"));
    assert_eq!(commits.map(|(_, span)| &span.trace_id).collect::<BTreeSet<_>>().len(), 2);
    assert_eq!(all.iter().filter(|(_, span)| is_of_bus(span, "watch")).count(), 1);
}

fn traced(collector: &Hooks) -> Vec<String> {
    ["--otlp", &collector.url(""), "--trace-every", "1"].map(str::to_owned).to_vec()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_frame_is_followed_in_one_process() {
    let (collector, hooks) = (Hooks::start().await, Hooks::start().await);
    let mut feeder_args = traced(&collector);
    feeder_args.extend(["--webhook-http", "--webhook-private-networks"].map(str::to_owned));
    let options = Options { feeder_args, ..Options::default() };
    let mut cluster = Cluster::start_with(Shape::Up, options).await;
    Events::open(&cluster.data_dir()).set_rule(DOOR).await;
    let url = hooks.url("/hook");
    let add = ["subscriptions", "add", "all", "--url", &url, "--webhook-http", "--webhook-private-networks"];
    cluster.admin(&add, "").await;
    follow(&mut cluster, &collector, &hooks).await;
    until("the spans that came are counted", LATER, async || {
        let sent = cluster.metric(Role::Up, "trough_trace_spans_sent_total").await;
        (sent as usize == spans(&collector).len()).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_frame_is_followed_through_three_processes() {
    let (server, collector, hooks) = (Mongo::start().await, Hooks::start().await, Hooks::start().await);
    let url = server.url("traces");
    let stores = stores(&server, "traces").await;
    let owner = stores.reader("ios", &[]).await;
    stores.subscribe(stores.webhook(&owner, "hook", hooks.url("/hook"))).await;
    Events::in_database(&url).set_rule(DOOR).await;
    let options = Options {
        feeder_args: traced(&collector),
        eater_args: traced(&collector),
        database: Some(url.clone()),
        ..Options::default()
    };
    let mut cluster = Cluster::start_with(Shape::Objects, options).await;
    let _notifiers = Notifiers::start_with(1, &url, &traced(&collector));
    follow(&mut cluster, &collector, &hooks).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_collector_that_is_away_costs_spans_and_nothing_else() {
    let collector = Hooks::start().await;
    collector.behave("/v1/traces", Manner::Status(400));
    let options = Options { feeder_args: traced(&collector), ..Options::default() };
    let cluster = Cluster::start_with(Shape::Up, options).await;
    let token = cluster.add_device("bus").await;
    let (mut wire, _) = Wire::begin(cluster.at.devices, Form::Binary, &token).await;
    wire.frames(1, &[b"1"]).await;
    wire.acked(1).await;
    until("the spans are given up", LATER, async || {
        (cluster.metric(Role::Up, "trough_trace_spans_dropped_total").await >= 2.0).then_some(())
    })
    .await;
    assert!(cluster.all_logs().contains("the collector takes no spans"));
    // It comes back.
    collector.behave("/v1/traces", Manner::Status(200));
    wire.frames(2, &[b"2"]).await;
    wire.acked(2).await;
    until("spans are sent again", LATER, async || {
        (cluster.metric(Role::Up, "trough_trace_spans_sent_total").await >= 2.0).then_some(())
    })
    .await;
    // One that nobody answers for does not hold up the end.
    let [nobody] = free_ports(own_ip());
    let feeder_args =
        ["--otlp", &format!("http://{nobody}"), "--trace-every", "1"].map(str::to_owned).to_vec();
    let mut cluster = Cluster::start_with(Shape::Up, Options { feeder_args, ..Options::default() }).await;
    let token = cluster.add_device("bus").await;
    let (mut wire, _) = Wire::begin(cluster.at.devices, Form::Binary, &token).await;
    wire.frames(1, &[b"1"]).await;
    wire.acked(1).await;
    assert_eq!(cluster.terminate(Role::Up, Duration::from_secs(10)).await.code, Some(0));
}
