//! Rules: what they cost a frame that they look at, and a run of frames that no rule looks at.
//!
//! `cargo bench -p trough-eater --bench watch`. What they cost ingest as a whole, `trough bench --rules 1000` says.

#![allow(missing_docs, reason = "a benchmark; criterion's macros make undocumented functions")]
#![allow(clippy::unwrap_used, reason = "a benchmark")]

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use trough_eater::watch::measure::Looking;
use trough_protocol::frame::FrameRef;
use trough_protocol::{ContentType, DeviceId};
use trough_store::rule::Rule;

const FRAMES: u64 = 1000;

fn rule(name: &str, scope: &str, condition: &str) -> Rule {
    let text = format!(r#"{{"name":"{name}","scope":{scope},"condition":{condition}}}"#);
    Rule { rule: serde_json::from_str(&text).unwrap(), version: 1, set_at: 0 }
}

/// Telemetry of some 120 bytes.
fn frames() -> Vec<u8> {
    let mut out = Vec::new();
    for n in 0..FRAMES {
        let speed = n * 7919 % 60;
        let payload = format!(
            r#"{{"engine":{{"rpm":{},"load":0.5}},"name":"bus","doors":[0,0,1],"odometer":{n},"speed":{speed},"lat":30.2,"lon":-97.7}}"#,
            800 + n
        );
        let (ts, content_type) = (1_000_000 * (n + 1), ContentType::Json);
        FrameRef { ts, channel: "can", content_type, payload: payload.as_bytes() }.encode(&mut out).unwrap();
    }
    out
}

fn looking(c: &mut Criterion) {
    let mut group = c.benchmark_group("watch");
    group.throughput(Throughput::Elements(FRAMES));
    let (device, bytes) = (DeviceId::new("d").unwrap(), frames());
    let fast = r#"{"kind":"compare","when":"/speed > 30 clear 25 for 60s"}"#;
    for count in [1, 10, 100] {
        let rules: Vec<Rule> = (0..count).map(|n| rule(&format!("r-{n}"), "\"all\"", fast)).collect();
        let mut looking = Looking::new(&rules);
        group.bench_function(format!("frames by {count} comparisons"), |b| {
            b.iter(|| looking.look(&device, &bytes, 1));
        });
    }
    group.throughput(Throughput::Elements(1));
    let others: Vec<Rule> =
        (0..10_000).map(|n| rule(&format!("r-{n}"), &format!(r#"{{"devices":["e-{n}"]}}"#), fast)).collect();
    let idle = Looking::new(&others);
    group.bench_function("a device without rules, beside 10,000", |b| b.iter(|| idle.concerns(&device)));
    group.sample_size(10);
    group.bench_function("compiling 10,000 rules", |b| b.iter(|| Looking::new(&others)));
    group.finish();
}

criterion_group!(benches, looking);
criterion_main!(benches);
