"""What deploy/ says, for the tests.

    manifests.py render DIR    the objects that an overlay renders to, as a JSON array
    manifests.py check DIR…    whether all objects fit their schemas; says what does not, and ends with 1

Objects of Kubernetes are checked against the newest schemas of kubernetes-validate, with no field unknown. Those that
other projects define have a schema here, of the fields that we use, from those projects' definitions: so a misspelt one is
found, though not a rule that only their controllers know. An object of a kind that nobody has a schema for is a failure.
"""

import json
import pathlib
import subprocess
import sys

import yaml

KUBERNETES = "1.37"
KUBECTL = pathlib.Path(sys.executable).with_name("kubectl")


def render(overlay):
    """The objects of an overlay, or of a file of objects."""
    if pathlib.Path(overlay).is_file():
        text = pathlib.Path(overlay).read_text()
    else:
        text = subprocess.run([KUBECTL, "kustomize", overlay], check=True, stdout=subprocess.PIPE, text=True).stdout
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    return [item for item in yaml.load_all(text, loader) if item]


def closed(required="", **fields):
    """An object that has no other fields than these."""
    return {
        "type": "object",
        "properties": fields,
        "required": required.split(),
        "additionalProperties": False,
    }


def some(item, at_least=1):
    return {"type": "array", "items": item, "minItems": at_least}


def one_of(*values):
    return {"enum": list(values)}


STRING = {"type": "string", "minLength": 1}
BOOLEAN = {"type": "boolean"}
PORT = {"type": "integer", "minimum": 1, "maximum": 65535}
NAMES = {"type": "object", "additionalProperties": STRING}
NGINX_DURATION = {"type": "string", "pattern": "^[0-9]{1,4}(ms|s|m|h)?$"}
NGINX_SIZE = {"type": "string", "pattern": "^[0-9]{1,4}(k|m|g)?$"}
DURATION = {"type": "string", "pattern": "^([0-9]+(ms|s|m|h|d))+$"}
TARGET = closed("group kind name", group=STRING, kind=STRING, name=STRING)

# By group, version and kind: what `spec` has.
OTHERS = {
    "gateway.networking.k8s.io/v1 Gateway": closed(
        "gatewayClassName listeners",
        gatewayClassName=STRING,
        infrastructure=closed(parametersRef=TARGET, annotations=NAMES),
        listeners=some(
            closed(
                "name protocol port",
                name=STRING,
                protocol=one_of("HTTP", "HTTPS", "TLS", "TCP", "UDP"),
                port=PORT,
                hostname=STRING,
                tls=closed(mode=one_of("Terminate", "Passthrough"), certificateRefs=some(closed("name", name=STRING))),
                allowedRoutes=closed(namespaces=closed("from", **{"from": one_of("Same", "All", "Selector", "None")})),
            )
        ),
    ),
    "gateway.networking.k8s.io/v1 HTTPRoute": closed(
        "parentRefs rules",
        parentRefs=some(closed("name", name=STRING, sectionName=STRING)),
        hostnames=some(STRING),
        rules=some(
            closed(
                matches=some(
                    closed(path=closed("type value", type=one_of("Exact", "PathPrefix"), value={"type": "string", "pattern": "^/"}))
                ),
                backendRefs=some(closed("name port", name=STRING, port=PORT)),
            )
        ),
    ),
    "gateway.nginx.org/v1alpha2 NginxProxy": closed(
        logging=closed(
            errorLevel=one_of("debug", "info", "notice", "warn", "error", "crit", "alert", "emerg"),
            accessLog=closed(disable=BOOLEAN, format=STRING),
        ),
        workerConnections={"type": "integer", "minimum": 1, "maximum": 65535},
        kubernetes=closed(deployment=closed(replicas={"type": "integer", "minimum": 1})),
    ),
    "gateway.nginx.org/v1alpha1 ProxySettingsPolicy": closed(
        "targetRefs",
        targetRefs=some(TARGET),
        buffering=closed(disable=BOOLEAN),
        timeout=closed(connect=NGINX_DURATION, read=NGINX_DURATION, send=NGINX_DURATION),
    ),
    "gateway.nginx.org/v1alpha1 ClientSettingsPolicy": closed(
        "targetRef", targetRef=TARGET, body=closed(maxSize=NGINX_SIZE, timeout=NGINX_DURATION)
    ),
    "cert-manager.io/v1 Certificate": closed(
        "secretName issuerRef",
        secretName=STRING,
        dnsNames=some(STRING),
        issuerRef=closed("name", group=STRING, kind=one_of("Issuer", "ClusterIssuer"), name=STRING),
        privateKey=closed(
            algorithm=one_of("RSA", "ECDSA", "Ed25519"),
            size={"type": "integer"},
            rotationPolicy=one_of("Never", "Always"),
        ),
        usages=some(STRING),
    ),
    "monitoring.coreos.com/v1 ServiceMonitor": closed(
        "selector endpoints",
        jobLabel=STRING,
        selector=closed("matchLabels", matchLabels=NAMES),
        endpoints=some(
            closed("port", port=STRING, path=STRING, interval=DURATION, scrapeTimeout=DURATION)
        ),
    ),
    "monitoring.coreos.com/v1 PrometheusRule": closed(
        "groups",
        groups=some(
            closed(
                "name rules",
                name=STRING,
                rules=some(
                    closed(
                        "alert expr labels annotations",
                        alert=STRING,
                        expr=STRING,
                        **{"for": DURATION},
                        labels=closed("severity", severity=one_of("warning", "critical")),
                        annotations=closed("summary runbook_url", summary=STRING, runbook_url=STRING),
                    )
                ),
            )
        ),
    ),
}


def faults(item):
    """What is wrong with one object."""
    # They take longer to load than an overlay to render.
    import jsonschema
    import kubernetes_validate
    import promql_parser

    kind = f"{item['apiVersion']} {item['kind']}"
    if kind in OTHERS:
        schema = closed("apiVersion kind metadata spec", apiVersion=STRING, kind=STRING, metadata={}, spec=OTHERS[kind])
        found = [error.message for error in jsonschema.Draft202012Validator(schema).iter_errors(item)]
    else:
        try:
            kubernetes_validate.validate(item, KUBERNETES, strict=True)
            found = []
        except kubernetes_validate.ValidationError as error:
            found = [error.message]
        except kubernetes_validate.SchemaNotFoundError:
            found = ["nobody has a schema for it"]
    if item["kind"] == "PrometheusRule":
        for rule in (rule for group in item["spec"]["groups"] for rule in group["rules"]):
            try:
                promql_parser.parse(rule["expr"])
            except ValueError as error:
                found.append(f"{rule['alert']}: {error}")
    return [f"{kind} {item['metadata']['name']}: {fault}" for fault in found]


def main():
    what, *places = sys.argv[1:]
    if what == "render":
        json.dump(render(places[0]), sys.stdout)
        return
    found = [f"{place}: {fault}" for place in places for item in render(place) for fault in faults(item)]
    print("\n".join(found))
    sys.exit(1 if found else 0)


main()
