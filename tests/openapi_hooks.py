"""What the description of the API cannot say, for schemathesis: tests/system/openapi.rs loads this.

Of what is asked for as valid: instants are from 1970 to 2255 and `from` is not after `to`; numbers have no more than
53 bits; all `channel` together name 64 channels at most; `cursor` is one that the server has given, with the query it
belongs to, and excludes `after`. Of devices, most are those that there are, and so are most ids. Bodies are some that are known to be valid. What is asked for as invalid stays as it is, and every media type is asked for in turn.
"""

import json
import os
from datetime import datetime, timedelta, timezone
from urllib.parse import parse_qs, quote, urlsplit

import schemathesis
from hypothesis import strategies as st

DEVICES = os.environ["TROUGH_TEST_DEVICES"].split(",")
INT_MAX = 2**53 - 1
CHANNELS_MAX = 64
DEVICES_MAX = 1000
EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)
# What belongs to a cursor's query, by path.
QUERY = {"from", "to", "channel", "order", "group", "device", "every", "agg", "value", "kind", "state", "subscription"}
# Of these there may be several.
LISTS = {"channel", "device"}
POINTER_BYTES_MAX = 256
FIELDS_MAX = 32
# What a request's head has room for, beside much else.
FIELDS_CHARS = 4000
# Cursors that were given, newest last: path, cursor, the rest of the query.
given = []
# Ids that were given, newest last, by the name that they have in paths.
ids = {"subscription": [], "push_token": [], "delivery": [], "rule": ["fast"], "command": []}
KINDS = {"sub_": "subscription", "psh_": "push_token", "dlv_": "delivery"}
SQUARE = [[[0, 0], [1, 0], [1, 1], [0, 1], [0, 0]]]
# Bodies that are as valid as the description cannot say, by operation.
BODIES = {
    ("POST", "/v1/devices/{id}/commands"): [
        {"json": {"lock": True}, "expires_in": 600},
        {"json": None},
        {"text": "ü", "expires_in": 1},
        {"b64": "AP8=", "content_type": "a/b"},
    ],
    ("POST", "/v1/subscriptions"): [
        {"url": "https://example.com/hook?key=1", "events": ["device.offline"], "rules": ["fast"]},
        {"push": True, "quiet": {"from": "22:00", "to": "07:00:30", "zone": "Europe/Zurich", "then": "hold"}},
        {"push": True, "url": None, "scope": {"groups": ["a"]}, "coalesce_s": 2592000},
        {"url": "https://user:pass@example.org/", "scope": {"devices": DEVICES[:3]}},
    ],
    ("PATCH", "/v1/subscriptions/{subscription}"): [
        {},
        {"events": [], "quiet": None},
        {"url": "https://example.net/"},
        {"scope": {"devices": DEVICES[:1]}, "coalesce_s": 0},
    ],
    ("PUT", "/v1/rules/{rule}"): [
        {"scope": "all", "condition": {"kind": "compare", "channel": "c", "when": "/a > 30 clear 28 for 60s"}},
        {"scope": {"devices": DEVICES[:2]}, "condition": {"kind": "rate", "when": "/a < -0.5", "channel": None}},
        {"scope": "all", "condition": {"kind": "geofence", "area": {"type": "Polygon", "coordinates": SQUARE}}},
        {
            "scope": {"groups": ["a", "b"]},
            "condition": {"kind": "geofence", "area": {"type": "Circle", "center": [-97.7, 30], "radius_m": 250}},
        },
        {"scope": "all", "condition": {"kind": "presence", "after_s": 30}},
        {"scope": "all", "condition": {"kind": "silence", "channel": "c", "after_s": 1}},
        {"scope": "all", "condition": {"kind": "gaps"}},
    ],
}


def offset(minutes):
    return timezone(timedelta(minutes=minutes))


instants = st.datetimes(
    min_value=datetime(1970, 1, 2),
    max_value=datetime(2255, 1, 1),
    timezones=st.integers(-14 * 60, 14 * 60).map(offset),
)
schemathesis.openapi.format("date-time", instants.map(datetime.isoformat))


def micros(value):
    text = str(value)
    if text.isdigit():
        return int(text)
    return (datetime.fromisoformat(text) - EPOCH) // timedelta(microseconds=1)


def is_valid(case):
    meta = case.meta
    return meta is not None and meta.generation.mode.is_positive


# The description has what OpenAPI 3.2 says of such types: a list of what is in the lines.
@schemathesis.deserializer("application/x-ndjson", "application/ndjson", "application/jsonl")
def lines(context, response):
    return [json.loads(line) for line in response.content.splitlines()]


# Anything may be in a column, so this is all that its description says.
@schemathesis.deserializer("text/csv")
def table(context, response):
    return response.content.decode()


# A table, which other tests read.
@schemathesis.deserializer("application/vnd.apache.parquet", "application/vnd.apache.arrow.stream")
def columns(context, response):
    return ""


def pointers(given):
    """Not longer than allowed in bytes, and no more than allowed where a comma divides them."""
    short = [one if len(one.encode()) <= POINTER_BYTES_MAX else "/lat" for one in given]
    divided = ",".join(short).split(",/")
    return short if len(divided) <= FIELDS_MAX else short[:1] if short[0].count(",/") < FIELDS_MAX else ["/lat"]


def combined(query):
    """What belongs together, and what excludes each other."""
    if "every" in query:
        query["every"] = ["500ms", "60s", "5m", "1h", "3652d"][len(query["every"]) % 5]
        query.setdefault("agg", "count")
        if query["agg"] != "count":
            query.setdefault("value", "/lat")
        for name in ("fields", "after", "order"):
            query.pop(name, None)
    else:
        query.pop("agg", None)
        query.pop("value", None)
    if len(query.get("value", "").encode()) > POINTER_BYTES_MAX:
        query["value"] = "/lat"
    if "fields" in query:
        query["fields"] = pointers(query["fields"])
    return query


@schemathesis.hook
def map_case(context, case):
    if not is_valid(case):
        # More than allowed, and still no more than a request's head has room for.
        given_devices = (case.query or {}).get("device")
        if isinstance(given_devices, list) and len(given_devices) > DEVICES_MAX:
            case.query["device"] = ["a"] * (DEVICES_MAX + 1)
        given_fields = (case.query or {}).get("fields")
        if isinstance(given_fields, list) and len(quote(repr(given_fields))) > FIELDS_CHARS:
            too_many = len(given_fields) > FIELDS_MAX
            case.query["fields"] = ["/a"] * (FIELDS_MAX + 1) if too_many else ["/" * (POINTER_BYTES_MAX + 1)]
        return case
    path, query = case.operation.path, dict(case.query or {})
    parameters = case.path_parameters or {}
    choice = sum(map(ord, repr(sorted(parameters.items()) + sorted(map(repr, query.items())))))
    if "id" in parameters and choice % 4:
        parameters["id"] = DEVICES[choice // 4 % len(DEVICES)]
    for name in ids.keys() & parameters.keys():
        if ids[name] and choice % 4:
            parameters[name] = ids[name][choice // 4 % len(ids[name])]
    if query.get("subscription") and ids["subscription"] and choice % 4:
        query["subscription"] = ids["subscription"][choice // 4 % len(ids["subscription"])]
    if "device" in query and "group" in query and path == "/v1/events":
        del query["group"]
    bodies = BODIES.get((case.method.upper(), path))
    if bodies:
        case.body = bodies[choice % len(bodies)]
    if "file" in parameters and choice % 4:
        parameters["file"] = ["start.js", "page.css", "swagger-ui.css", "icon.png"][choice // 4 % 4]
    if "from" in query and "to" in query and micros(query["from"]) > micros(query["to"]):
        query["from"], query["to"] = query["to"], query["from"]
    if "channel" in query:
        query["channel"] = ",".join(query["channel"]).split(",")[:CHANNELS_MAX]
    if isinstance(query.get("device"), list):
        # What fits into a request's head, which has 16 KiB.
        query["device"] = query["device"][:100]
    if isinstance(query.get("device"), str) and choice % 4:
        query["device"] = DEVICES[choice // 4 % len(DEVICES)]
    if isinstance(query.get("device"), list) and choice % 4:
        query["device"] = [DEVICES[(choice + at) // 4 % len(DEVICES)] for at in range(len(query["device"]))]
    if "after" in query:
        *device, epoch, seq = query["after"].rsplit(":", 2)
        query["after"] = ":".join([*device, *(str(min(int(number), INT_MAX)) for number in (epoch, seq))])
    if "within" in query:
        query["within"] = ["1m", "50m", "0700m", "10km"][choice % 4]
    if "during" in query:
        query["during"] = ["1ms", "60s", "5m", "1h"][choice % 4]
    query = combined(query)
    if "cursor" in query:
        known = [one for one in given if one[0] == path]
        del query["cursor"]
        if known:
            _, target, cursor, rest = known[choice % len(known)]
            query = {key: value for key, value in query.items() if key not in QUERY and key != "after"}
            query |= rest | {"cursor": cursor}
            if "every" in query:
                query.pop("fields", None)
            if "id" in parameters:
                parameters["id"] = target
    if case.query:
        case.query = query
    content = case.operation.definition.raw["responses"].get("200", {}).get("content", {})
    if content and not (case.headers or {}).get("Accept"):
        types = [*content, "*/*"]
        case.headers["Accept"] = types[choice % len(types)]
    return case


@schemathesis.hook
def after_call(context, case, response):
    if response.status_code not in (200, 201) or response.headers.get("content-type") != ["application/json"]:
        return
    page = json.loads(response.content)
    if not isinstance(page, dict):
        return
    for item in [page] + [one for listed in page.values() if isinstance(listed, list) for one in listed]:
        name = item if isinstance(item, str) else item.get("id", "") if isinstance(item, dict) else ""
        kind = KINDS.get(str(name)[:4])
        if kind and name not in ids[kind]:
            ids[kind].append(name)
            del ids[kind][:-20]
    sent = parse_qs(urlsplit(response.request.url).query, keep_blank_values=True)
    rest = {key: values if key in LISTS else values[0] for key, values in sent.items() if key in QUERY}
    target = (case.path_parameters or {}).get("id")
    for name in ("next_cursor", "resume_cursor"):
        if page.get(name):
            given.append((case.operation.path, target, page[name], rest))
            del given[:-100]
