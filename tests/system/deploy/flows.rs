//! What the network policies let through: all that the processes of an overlay ask for by the names in their environments,
//! and nothing from or to anybody else.

use std::net::IpAddr;

use ipnet::IpNet;
use serde_json::Value;
use trough_tests::manifests::{EVERYTHING, Manifests, Pod, Source, list, overlays, text};

/// The other end of a connection.
enum Peer<'a> {
    /// A pod of the same namespace.
    Pod(&'a Pod<'a>),
    /// Any pod of another one.
    Namespace(&'a str),
    /// Outside of the cluster.
    Address(&'static str),
}

/// Public, and of a node; private ones are of whoever is in the network.
const PUBLIC: Peer<'static> = Peer::Address("17.188.143.34");
const PRIVATE: Peer<'static> = Peer::Address("10.1.2.3");
const NODE: Peer<'static> = Peer::Address("169.254.20.10");

impl Peer<'_> {
    /// Whether an entry of `from` or `to` means it.
    fn is_meant_by(&self, entry: &Value) -> bool {
        let (pods, namespaces, block) =
            (&entry["podSelector"], &entry["namespaceSelector"], &entry["ipBlock"]);
        match self {
            Self::Pod(pod) => namespaces.is_null() && !pods.is_null() && pod.is_selected_by(pods),
            Self::Namespace(name) => namespaces["matchLabels"]["kubernetes.io/metadata.name"] == **name,
            Self::Address(address) => {
                let address: IpAddr = address.parse().unwrap();
                let holds = |net: &Value| text(net).parse::<IpNet>().unwrap().contains(&address);
                !block.is_null() && holds(&block["cidr"]) && !list(&block["except"]).iter().any(holds)
            }
        }
    }
}

/// Whether the pod may have connections of this direction, `egress` or `ingress`, with this peer, to this port of whoever
/// listens.
fn may(manifests: &Manifests, direction: &str, pod: &Pod<'_>, peer: &Peer<'_>, port: u64) -> bool {
    let (side, listens) = match (direction, peer) {
        ("egress", Peer::Pod(to)) => ("to", Some(*to)),
        ("egress", _) => ("to", None),
        _ => ("from", Some(pod)),
    };
    let is_port = |entry: &Value| match &entry["port"] {
        Value::Null => true,
        Value::String(name) => listens.is_some_and(|pod| pod.ports().get(name.as_str()) == Some(&port)),
        number => {
            let first = number.as_u64().unwrap();
            (first..=entry["endPort"].as_u64().unwrap_or(first)).contains(&port)
        }
    };
    let of_pod = manifests
        .of_kind("NetworkPolicy")
        .filter(|policy| selects(&policy["spec"]["podSelector"], pod))
        .flat_map(|policy| list(&policy["spec"][direction]));
    of_pod.into_iter().any(|rule| {
        let (peers, ports) = (list(&rule[side]), list(&rule["ports"]));
        (peers.is_empty() || peers.iter().any(|entry| peer.is_meant_by(entry)))
            && (ports.is_empty() || ports.iter().any(is_port))
    })
}

/// An empty selector means every pod.
fn selects(selector: &Value, pod: &Pod<'_>) -> bool {
    selector.as_object().is_some_and(serde_json::Map::is_empty) || pod.is_selected_by(selector)
}

/// Hosts and ports in the environment of a pod that it connects to.
fn asks_for(pod: &Pod<'_>) -> Vec<(String, u64)> {
    let environment = pod.environment();
    let names = ["TROUGH_EATER", "TROUGH_BUS", "TROUGH_CACHE_BUS", "TROUGH_STORE", "TROUGH_OTLP"];
    let values = names.iter().filter_map(|name| match environment.get(*name)? {
        Source::Value(value) => Some(value.as_str()),
        Source::Secret(..) => panic!("{name} is a secret"),
    });
    let mut all: Vec<_> = values
        .map(|value| {
            let url = value.split_once("endpoint=").map_or(value, |(_, endpoint)| endpoint);
            let (scheme, rest) = url.split_once("://").unwrap_or(("", url));
            let at = rest.split(['&', '/']).next().unwrap();
            match at.split_once(':') {
                Some((host, port)) => (host.to_owned(), port.parse().unwrap()),
                None => (at.to_owned(), if scheme == "http" { 80 } else { 443 }),
            }
        })
        .collect();
    if environment.contains_key("TROUGH_DATABASE") {
        // The URL is a secret; overlays that bring one have it under this name.
        all.push(("mongodb".into(), 27017));
    }
    all
}

#[test]
fn what_processes_ask_for_is_let_through() {
    for overlay in overlays() {
        let manifests = Manifests::of(&overlay);
        let pods = manifests.pods();
        for pod in pods.iter().filter(|pod| pod.is_ours()) {
            let from = pod.name;
            for (host, port) in asks_for(pod) {
                let to = manifests.named("Service", &host).map(|service| {
                    let selector = &service["spec"]["selector"];
                    pods.iter().find(|pod| pod.is_selected_by(selector)).unwrap()
                });
                if let Some(to) = to {
                    let out = may(&manifests, "egress", pod, &Peer::Pod(to), port);
                    assert!(out, "{overlay}: {from} may not ask {host}:{port}");
                    let into = may(&manifests, "ingress", to, &Peer::Pod(pod), port);
                    assert!(into, "{overlay}: {host}:{port} may not be asked by {from}");
                } else {
                    let peer = host.split_once('.').map(|(_, namespace)| Peer::Namespace(namespace));
                    let peer = peer.filter(|_| host.matches('.').count() == 1).unwrap_or(PUBLIC);
                    let out = may(&manifests, "egress", pod, &peer, port);
                    assert!(out, "{overlay}: {from} may not ask {host}:{port}");
                }
            }
            for names in [Peer::Namespace("kube-system"), NODE] {
                assert!(may(&manifests, "egress", pod, &names, 53), "{overlay}: {from} asks for no name");
            }
            // Nothing of a node but names, and no metadata of the cloud.
            assert!(!may(&manifests, "egress", pod, &Peer::Address("169.254.169.254"), 80));
        }
        let notifier = manifests.pod("notifier");
        for port in [443, 2197, 8443] {
            assert!(may(&manifests, "egress", &notifier, &PUBLIC, port), "{overlay}: webhooks to {port}");
        }
        assert!(!may(&manifests, "egress", &notifier, &PRIVATE, 443), "{overlay}: webhooks to the inside");
    }
}

#[test]
fn ways_in_lead_to_devices_and_readers_and_to_nothing_else() {
    for (overlay, way_in) in [("overlays/aks", "nginx-ingress"), (EVERYTHING, "")] {
        let manifests = Manifests::of(overlay);
        let gateway = manifests.named("NetworkPolicy", "gateway");
        assert_eq!(gateway.is_none(), !way_in.is_empty(), "{overlay}");
        for (name, http) in [("feeder", 8080), ("eater", 8081)] {
            let pod = manifests.pod(name);
            let peer = Peer::Namespace(way_in);
            let from = |port| may(&manifests, "ingress", &pod, &peer, port);
            if way_in.is_empty() {
                // NGINX of a Gateway is a pod that no manifest has.
                let rules = list(&gateway.unwrap()["spec"]["egress"]);
                let leads = |rule: &&Value| {
                    list(&rule["to"]).iter().any(|to| Peer::Pod(&pod).is_meant_by(to))
                        && rule["ports"][0]["port"] == "http"
                };
                assert_eq!(rules.iter().filter(leads).count(), 1, "{overlay}: {name}");
            } else {
                assert!(from(http), "{overlay}: {name}");
                assert!(!from(9080) && !from(9081) && !from(8082), "{overlay}: {name} is open");
            }
        }
    }
}

#[test]
fn links_are_open_to_other_networks_only_where_a_load_balancer_leads_to_them() {
    for overlay in overlays() {
        let manifests = Manifests::of(&overlay);
        let eater = manifests.pod("eater");
        let open = may(&manifests, "ingress", &eater, &PRIVATE, 8082);
        assert_eq!(open, manifests.named("Service", "eater-internal").is_some(), "{overlay}");
        assert!(!may(&manifests, "ingress", &eater, &PUBLIC, 8082), "{overlay}");
    }
}
