//! What the manifests name exists: in the binary, and among themselves.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::Value;
use trough_tests::admin::run;
use trough_tests::certificates::Authority;
use trough_tests::manifests::{EVERYTHING, Manifests, Pod, Source, deploy, list, overlays, text};
use trough_tests::process::command;
use trough_tests::servers::program;

/// Which option says where a port of this name listens.
fn option_of(command: &str, port: &str) -> &'static str {
    match (command, port) {
        ("feeder", "http") => "--listen",
        ("eater", "http") => "--api",
        ("eater", "links") => "--links",
        (_, "admin") => "--admin",
        other => panic!("{other:?}: no option listens there"),
    }
}

async fn help(of: &str) -> String {
    let mut command = command();
    // One paragraph to a line.
    command.args([of, "--help"]).env("COLUMNS", "10000");
    let output = run(command, "").await;
    assert!(output.status.success(), "there is no command {of}");
    // Its width follows the terminal and not the variable.
    String::from_utf8(output.stdout).unwrap().split_whitespace().collect::<Vec<_>>().join(" ")
}

/// What stands in the help between an option and the next one.
fn about<'a>(help: &'a str, option: &str) -> &'a str {
    let (_, rest) = help.split_once(&format!(" {option} <")).unwrap_or_else(|| panic!("no option {option}"));
    rest.split(" --").next().unwrap()
}

fn value<'a>(environment: &'a BTreeMap<String, Source>, name: &str) -> &'a str {
    match &environment[name] {
        Source::Value(value) => value,
        Source::Secret(..) => panic!("{name} is a secret"),
    }
}

/// What a variable says.
pub(super) fn number(environment: &BTreeMap<String, Source>, name: &str) -> u64 {
    value(environment, name).parse().unwrap()
}

#[tokio::test]
async fn commands_options_and_variables_are_those_of_the_binary() {
    for overlay in overlays() {
        let manifests = Manifests::of(&overlay);
        let ours: Vec<Pod<'_>> = manifests.pods().into_iter().filter(Pod::is_ours).collect();
        assert!(ours.len() >= 2, "{overlay}: feeder and eater at the least");
        for pod in ours {
            let args = pod.args();
            let help = help(args[0]).await;
            for option in args[1..].iter().filter(|arg| arg.starts_with("--")) {
                about(&help, option.split('=').next().unwrap());
            }
            let environment = pod.environment();
            for name in environment.keys() {
                let known = help.contains(&format!("[env: {name}]"))
                    // For `kubectl exec deploy/eater -- trough health`, and in the notifier.
                    || name == "TROUGH_HEALTH_URL"
                    || (name.starts_with("AWS_") && about(&help, "--store").contains(name.as_str()));
                assert!(known, "{overlay}: {}: the binary takes no {name}", pod.name);
            }
            for (name, port) in pod.ports() {
                let option = option_of(args[0], name);
                let default = format!(":{port}]");
                assert!(about(&help, option).contains(&default), "{overlay}: {option} is not at {port}");
            }
            let linger = environment.contains_key("TROUGH_LINGER");
            assert!(!linger || number(&environment, "TROUGH_LINGER") < number(&environment, "TROUGH_GRACE"));
            // Sessions are closed one after another, told to come back within 2 s, and what they sent is stored.
            let spread = environment.contains_key("TROUGH_DRAIN_SPREAD");
            assert!(
                !spread
                    || number(&environment, "TROUGH_DRAIN_SPREAD") + 10
                        < number(&environment, "TROUGH_GRACE")
            );
            let patience = pod.spec["terminationGracePeriodSeconds"].as_u64().unwrap();
            assert!(patience > number(&environment, "TROUGH_GRACE"), "{overlay}: {} is killed", pod.name);
            probes_exist(&pod);
        }
    }
}

fn probes_exist(pod: &Pod<'_>) {
    for (probe, path) in
        [("startupProbe", "/healthz"), ("livenessProbe", "/healthz"), ("readinessProbe", "/readyz")]
    {
        let ask = &pod.container[probe]["httpGet"];
        assert_eq!(ask["path"], path, "{}: {probe}", pod.name);
        assert!(pod.ports().contains_key(text(&ask["port"])), "{}: {probe}", pod.name);
    }
}

#[test]
fn secrets_and_keys_are_those_of_the_example() {
    let example = Manifests::of("secrets.example.yaml");
    let has = |secret: &str, key: &str| {
        let secret = example.named("Secret", secret).unwrap_or_else(|| panic!("no Secret {secret}"));
        ["data", "stringData"].iter().any(|data| secret[data].get(key).is_some())
    };
    let document = fs::read_to_string(deploy().join("../docs/operations.md")).unwrap();
    let has = |secret: &str, key: &str| {
        let made = document.contains(&format!("kubectl create secret generic {secret} "));
        assert!(made, "docs/operations.md does not say how {secret} is made");
        has(secret, key)
    };
    for overlay in overlays() {
        let manifests = Manifests::of(&overlay);
        assert_eq!(manifests.of_kind("Secret").count(), 0, "{overlay} has a secret in it");
        for pod in manifests.pods() {
            for (name, source) in pod.environment() {
                match source {
                    Source::Secret(secret, key) => assert!(has(&secret, &key), "{secret} has no {key}"),
                    Source::Value(path) if name.ends_with("_FILE") => {
                        let path = Path::new(&path);
                        let secret = pod.secret_mounted_at(path.parent().unwrap());
                        let secret = secret.unwrap_or_else(|| panic!("{}: {name} is not there", pod.name));
                        assert!(has(secret, path.file_name().unwrap().to_str().unwrap()), "{name}");
                    }
                    Source::Value(_) => {}
                }
            }
        }
    }
}

/// `HOST:PORT` is a Service, which leads to a pod that has such a port; gives the Service.
fn service<'a>(manifests: &'a Manifests, at: &str) -> &'a Value {
    let (host, port) = at.rsplit_once(':').unwrap();
    let service = manifests.named("Service", host).unwrap_or_else(|| panic!("there is no Service {host}"));
    assert!(list(&service["spec"]["ports"]).iter().any(|p| p["port"].as_u64() == port.parse().ok()), "{at}");
    service
}

#[test]
fn services_lead_to_ports_and_addresses_to_services() {
    for overlay in overlays() {
        let manifests = Manifests::of(&overlay);
        let pods = manifests.pods();
        for service in manifests.of_kind("Service") {
            let behind = pods.iter().find(|pod| pod.is_selected_by(&service["spec"]["selector"]));
            let behind = behind.unwrap_or_else(|| panic!("{}: nobody", service["metadata"]["name"]));
            for port in list(&service["spec"]["ports"]) {
                let known = behind.ports();
                let leads_to = known.get(text(&port["targetPort"]));
                assert_eq!(leads_to, port["port"].as_u64().as_ref(), "{}: {port}", behind.name);
            }
        }
        let eaters = manifests.pod("feeder").environment();
        let links = service(&manifests, value(&eaters, "TROUGH_EATER"));
        assert_eq!(links["spec"]["clusterIP"], "None", "the name of the eaters leads to each of them");
        for pod in pods.iter().filter(|pod| pod.is_ours()) {
            for name in ["TROUGH_BUS", "TROUGH_CACHE_BUS"] {
                let environment = pod.environment();
                let at = value(&environment, name).strip_prefix("memcached://").unwrap();
                let service = service(&manifests, at);
                assert_ne!(service["spec"]["clusterIP"], "None", "{at}: an address that stays");
            }
        }
        load_balancers_are_internal(&overlay, &manifests);
    }
}

fn load_balancers_are_internal(overlay: &str, manifests: &Manifests) {
    for service in manifests.of_kind("Service").filter(|service| service["spec"]["type"] == "LoadBalancer") {
        let annotations = service["metadata"]["annotations"].to_string();
        let says = ["\"Internal\"", "scheme\":\"internal\"", "internal\":\"true\""];
        assert!(says.iter().any(|says| annotations.contains(says)), "{overlay}: {annotations}");
        assert!(!list(&service["spec"]["loadBalancerSourceRanges"]).is_empty(), "{overlay}: from anywhere");
    }
}

#[test]
fn policies_deny_by_default_and_name_ports_that_exist() {
    for overlay in overlays() {
        let manifests = Manifests::of(&overlay);
        let pods = manifests.pods();
        let deny = &manifests.named("NetworkPolicy", "default-deny").unwrap()["spec"];
        assert_eq!(deny.to_string(), r#"{"podSelector":{},"policyTypes":["Ingress","Egress"]}"#);
        for policy in manifests.of_kind("NetworkPolicy") {
            let spec = &policy["spec"];
            for rule in list(&spec["ingress"]) {
                let to = pods.iter().filter(|pod| pod.is_selected_by(&spec["podSelector"]));
                named_ports_exist(to, rule, policy);
            }
            for rule in list(&spec["egress"]) {
                let to = pods.iter().filter(|pod| {
                    list(&rule["to"])
                        .iter()
                        .any(|to| to.get("podSelector").is_some_and(|selector| pod.is_selected_by(selector)))
                });
                named_ports_exist(to, rule, policy);
            }
        }
    }
}

fn named_ports_exist<'a>(pods: impl Iterator<Item = &'a Pod<'a>>, rule: &Value, policy: &Value) {
    for pod in pods {
        for port in list(&rule["ports"]).iter().filter_map(|port| port["port"].as_str()) {
            let name = &policy["metadata"]["name"];
            assert!(pod.ports().contains_key(port), "policy {name}: {} has no port {port}", pod.name);
        }
    }
}

/// How many links an eater takes with this credit: an eighth of what is left for each, 16 MiB at the most and 4 MiB at
/// the least (docs/operations.md, "Credit and memory").
fn links_of(credit: u64) -> u64 {
    const MIB: u64 = 1 << 20;
    let (mut left, mut links) = (credit, 0);
    while left >= 4 * MIB {
        left -= (left / 8).clamp(4 * MIB, 16 * MIB);
        links += 1;
    }
    links
}

#[test]
fn an_eater_takes_a_link_of_every_shard_of_every_feeder() {
    assert_eq!([64, 96, 128, 256].map(|mib| links_of(mib << 20)), [13, 16, 18, 26], "as the document says");
    let manifests = Manifests::of(EVERYTHING);
    let shards: u64 = text(&manifests.pod("feeder").container["resources"]["limits"]["cpu"]).parse().unwrap();
    let most = &manifests.named("HorizontalPodAutoscaler", "feeder").unwrap()["spec"]["maxReplicas"];
    let surge =
        &manifests.named("Deployment", "feeder").unwrap()["spec"]["strategy"]["rollingUpdate"]["maxSurge"];
    let feeders = most.as_u64().unwrap() + surge.as_u64().unwrap();
    let links = links_of(number(&manifests.pod("eater").environment(), "TROUGH_CREDIT_BYTES_MAX"));
    assert!(feeders * shards <= links, "{feeders} feeders of {shards} shards have more than {links} links");
}

#[test]
fn an_eater_goes_when_feeders_have_found_another() {
    // The `ttl` of CoreDNS as Kubernetes sets it up; its cache keeps no answer longer.
    const DNS_MAX_S: u64 = 30;
    let every = trough_feeder::Config::default().resolve_interval;
    for overlay in overlays() {
        let manifests = Manifests::of(&overlay);
        let eater = manifests.named("Deployment", "eater").unwrap();
        let ready = eater["spec"]["minReadySeconds"].as_u64().unwrap();
        assert!(ready >= DNS_MAX_S + every.as_secs(), "{overlay}: {ready} s");
    }
}

#[tokio::test]
async fn what_compose_says_exists_too() {
    let compose = &Manifests::of("../compose.yaml").objects[0];
    let services = compose["services"].as_object().unwrap();
    for (name, service) in
        services.iter().filter(|(_, service)| text(&service["image"]).starts_with("trough:"))
    {
        let [command] = list(&service["command"]) else { panic!("{name}: one word") };
        let help = help(text(command)).await;
        for (variable, value) in service["environment"].as_object().unwrap() {
            let known = help.contains(&format!("[env: {variable}]"))
                || variable == "TROUGH_HEALTH_URL"
                || about(&help, "--store").contains(variable.as_str());
            assert!(known, "{name}: the binary takes no {variable}");
            for word in text(value).split(['/', '?']).filter_map(|word| word.split_once(':')) {
                let (host, port) = word;
                let port_of_ours = port.parse::<u16>().is_ok() && host != "127.0.0.1";
                assert!(!port_of_ours || services.contains_key(host), "{variable}: there is no {host}");
            }
        }
    }
}

#[tokio::test]
async fn nginx_takes_the_configuration_of_compose() {
    let dir = tempfile::tempdir().unwrap();
    let root = deploy().join("..");
    let authority = Authority::new("a").issue(&["localhost"]);
    fs::create_dir(dir.path().join("site")).unwrap();
    for file in ["nginx.conf", "sessions.conf"] {
        fs::copy(root.join("nginx").join(file), dir.path().join(file)).unwrap();
    }
    for (file, text) in [("tls.crt", &authority.certificate), ("tls.key", &authority.key)] {
        fs::write(dir.path().join(file), text).unwrap();
    }
    let at = |file: &str| dir.path().join(file).display().to_string();
    let mut site = BTreeSet::new();
    for file in fs::read_dir(deploy().join("compose/nginx")).unwrap().map(Result::unwrap) {
        let text = fs::read_to_string(file.path()).unwrap();
        // Names and places of the containers.
        let text =
            text.replace("server feeder:", "server 127.0.0.1:").replace("server eater:", "server 127.0.0.1:");
        let text = text.replace("/etc/ssl/trough/fullchain.pem", &at("tls.crt"));
        let text = text.replace("/etc/ssl/trough/privkey.pem", &at("tls.key"));
        let text = text.replace("/run/nginx.pid", &at("pid")).replace("user nginx;", "");
        fs::write(dir.path().join("site").join(file.file_name()), text).unwrap();
        site.insert(file.file_name());
    }
    let shipped = fs::read_dir(root.join("nginx/site")).unwrap().map(|file| file.unwrap().file_name());
    assert_eq!(site, shipped.collect(), "every file of site/ has its counterpart");
    let mut nginx = Command::new(program("nginx"));
    nginx.args(["-t", "-c", &at("nginx.conf"), "-p", &dir.path().display().to_string()]);
    let output = run(nginx, "").await;
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}
