//! What all paths have in common: how they refuse, request ids, entity tags, the token.

use serde_json::{Value, json};

use crate::api::code::Code;
use crate::api::routes::allowed;

const INTRODUCTION: &str = "\
How an app, a script or a notebook reads what devices sent, and says what it wants to be told of.

Every path under `/v1` wants the token of a reader: `Authorization: Bearer trdr_…` (`trough readers add` makes one). \
A reader sees the devices of its groups, and with each operation stands the scope that it needs.

Every path answers HEAD as it answers GET, without the body. Which of several media types an answer has is chosen with \
`Accept`; without it, it is the first one. A parameter that is not known, is given twice or has another form is refused, \
and the refusal says what is accepted. In a query string `+` means `+`.

Texts of time are RFC 3339 in UTC with six decimals; integers are microseconds since 1970.";

const TOKEN: &str = "\
The token of a reader. With each operation stand the scopes that it needs: `devices:read` (list devices, see when they \
were last heard), `frames:read` (read frames and gaps), `commands:send` (ask devices to do something), \
`notifications:manage` (say what you want to be told of, and see what you were told), `rules:manage` (set rules).";

/// What a path answers that changes nothing.
const GET_ONLY: &str = "GET, HEAD";

/// What is kept beside the frames.
const IN_STORES: [&str; 4] = ["commands", "notifications", "events", "rules"];

/// Paths of probes are answered before everything else, and carry no request id.
const PROBES: &str = "health";

/// The whole description, from what the handlers say.
pub(super) fn complete(mut document: Value) -> Value {
    document["info"] = json!({
        "title": "Trough API",
        "version": env!("CARGO_PKG_VERSION"),
        "license": {"name": "MIT OR Apache-2.0", "identifier": "MIT OR Apache-2.0"},
        "description": INTRODUCTION,
    });
    document["tags"] = json!([
        {"name": "devices", "description": "Which devices there are"},
        {"name": "frames", "description": "What they sent"},
        {"name": "live", "description": "What they send now"},
        {"name": "commands", "description": "What devices are asked to do"},
        {"name": "notifications", "description": "What you are told of, and where"},
        {"name": "events", "description": "What happened"},
        {"name": "rules", "description": "What of all that happens is an event"},
        {"name": "encounters", "description": "Which devices were near one another"},
        {"name": "health", "description": "For probes"},
        {"name": "about", "description": "This description"},
    ]);
    let components = &mut document["components"];
    components["securitySchemes"] = json!({"reader": {"type": "http", "scheme": "bearer", "bearerFormat": "trdr_…", "description": TOKEN}});
    components["parameters"] = parameters();
    components["headers"] = headers();
    components["responses"]["TooLarge"] =
        json!({"description": "The request's head is over 16 KiB. There is no body."});
    let schemas = &mut components["schemas"];
    schemas["Problem"]["properties"]["code"]["enum"] = Code::ALL.iter().map(|code| code.as_str()).collect();
    schemas["Frame"]["oneOf"] =
        json!([{"required": ["json"]}, {"required": ["text"]}, {"required": ["b64", "content_type"]}]);
    schemas["NewCommand"]["oneOf"] =
        json!([{"required": ["json"]}, {"required": ["text"]}, {"required": ["b64"]}]);
    schemas["NewCommand"]["additionalProperties"] = false.into();
    let paths = document["paths"].as_object_mut().expect("there are paths");
    for (path, item) in paths {
        for operation in item.as_object_mut().expect("a path has operations").values_mut() {
            complete_operation(path, operation);
        }
    }
    document
}

fn parameters() -> Value {
    json!({
        "If-None-Match": {
            "name": "If-None-Match", "in": "header", "schema": {"type": "string"},
            "description": "The `ETag` of an earlier answer, or several with commas: if nothing has changed, the \
                answer is 304 without a body.",
        },
        "X-Request-Id": {
            "name": "X-Request-Id", "in": "header", "schema": {"type": "string"},
            "description": "A name for this request, in the answer and in the server's log: 1 to 64 visible ASCII \
                characters. Anything else, or nothing, is replaced by a new one.",
        },
    })
}

fn headers() -> Value {
    let text = |description: &str, schema: Value| json!({"required": true, "description": description, "schema": schema});
    json!({
        "Allow": allow(GET_ONLY),
        "Cache-Control": text("Keep the answer, but ask before using it again",
            json!({"type": "string", "const": "private, no-cache"})),
        "ETag": text("Names this answer, for `If-None-Match`",
            json!({"type": "string", "pattern": "^W/\"[0-9a-f]{16}\"$"})),
        "ETagIfAny": {"description": "Names this answer, for `If-None-Match`; not of more than 64 devices",
            "schema": {"type": "string", "pattern": "^W/\"[0-9a-f]{16}\"$"}},
        "Retry-After": text("Seconds to wait", json!({"type": "integer", "minimum": 1})),
        "WWW-Authenticate": text("What is wanted (RFC 6750)", json!({"type": "string", "pattern": "^Bearer "})),
        "X-Request-Id": text("The name of this request; say it when you report something",
            json!({"type": "string", "minLength": 1, "maxLength": 64})),
    })
}

fn allow(methods: &str) -> Value {
    json!({"required": true, "description": "The methods that there are",
        "schema": {"type": "string", "const": methods}})
}

fn complete_operation(path: &str, operation: &mut Value) {
    let is_tracked = operation["tags"][0] != PROBES;
    let has_tag = operation["responses"]["304"].is_object();
    if let Some(scope) = operation["security"][0]["reader"][0].as_str() {
        // Pages that show a description do not show the scopes of a bearer token.
        let text = operation["description"].as_str().unwrap_or_default();
        operation["description"] = format!("{text}\n\nNeeds the scope `{scope}`.").trim_start().into();
    }
    let mut parameters = operation["parameters"].as_array().cloned().unwrap_or_default();
    let common = [("If-None-Match", has_tag), ("X-Request-Id", is_tracked)];
    parameters.extend(common.iter().filter(|(_, has)| *has).map(|(name, _)| reference("parameters", name)));
    operation["parameters"] = parameters.into();

    for code in Code::ALL.iter().copied() {
        if !concerns(code, path, operation) {
            continue;
        }
        let status = code.status().as_u16();
        let response = &mut operation["responses"][status.to_string()];
        if response.is_null() {
            *response = refusal(status);
        }
        add_code(response, code);
    }
    for (status, response) in operation["responses"].as_object_mut().expect("an operation has responses") {
        let names = [
            ("Allow", status == "405"),
            ("Cache-Control", has_tag && matches!(&**status, "200" | "304")),
            ("ETag", has_tag && matches!(&**status, "200" | "304")),
            ("Retry-After", status == "503" && is_tracked),
            ("WWW-Authenticate", matches!(&**status, "401" | "403")),
            ("X-Request-Id", is_tracked),
        ];
        for (name, _) in names.iter().filter(|(_, has)| *has) {
            // An answer of very many devices has none.
            let of = if *name == "ETag" && path == "/v1/frames" { "ETagIfAny" } else { name };
            response["headers"][name] = match *name {
                "Allow" if allowed(path) != GET_ONLY => allow(&allowed(path)),
                _ => reference("headers", of),
            };
        }
    }
    operation["responses"]["431"] = reference("responses", "TooLarge");
}

fn reference(what: &str, name: &str) -> Value {
    json!({"$ref": format!("#/components/{what}/{name}")})
}

/// Whether an operation may be refused with this code, as far as that goes without saying. What else refuses stands
/// beside its handler.
fn concerns(code: Code, path: &str, operation: &Value) -> bool {
    let takes = |name: &str| {
        operation["parameters"].as_array().is_some_and(|all| all.iter().any(|one| one["name"] == name))
    };
    let is = |names: &[&str]| names.iter().any(|name| operation["operationId"] == *name);
    match code {
        Code::MethodNotAllowed => true,
        Code::NoSuchPath => false,
        Code::NoSuchCommand => path.contains("{command}"),
        Code::CommandFinished => is(&["cancel_command"]),
        Code::BadBody | Code::BodyTooLarge | Code::UnsupportedMediaType => {
            operation["requestBody"].is_object()
        }
        Code::TooManyCommands | Code::DeviceRevoked => is(&["send_command"]),
        Code::IdempotencyKeyUsed => takes("Idempotency-Key"),
        Code::NoSuchSubscription => path.contains("{subscription}") || takes("subscription"),
        Code::NoSuchPushToken => path.contains("{push_token}"),
        Code::NoSuchDelivery => path.contains("{delivery}"),
        Code::NoSuchRule => is(&["get_rule", "remove_rule"]),
        Code::NoSealKey => is(&["create_subscription", "rotate_subscription_key", "register_push_token"]),
        Code::TooManySubscriptions => is(&["create_subscription"]),
        Code::SubscriptionDisabled | Code::NoPhone => is(&["test_subscription"]),
        Code::NotAWebhook => is(&["change_subscription", "rotate_subscription_key"]),
        Code::TooManyDeliveries => is(&["test_subscription", "replay_delivery"]),
        Code::RuleNameTaken | Code::TooManyRules => is(&["set_rule"]),
        // Nothing of it is read from journals.
        Code::FramesDamaged | Code::Deadline if IN_STORES.iter().any(|tag| operation["tags"][0] == *tag) => {
            false
        }
        // There is nothing that could be had in another form.
        Code::NotAcceptable if operation["responses"]["204"].is_object() => false,
        Code::NoSuchDevice => {
            let names_devices = is(&["create_subscription", "change_subscription", "set_rule"]);
            path.contains("{id}") || takes("device") || names_devices
        }
        Code::BadCursor | Code::CursorOfOtherQuery => takes("cursor") || takes("Last-Event-ID"),
        Code::CursorExpired => takes("Last-Event-ID"),
        Code::NotAcceptable | Code::FramesDamaged | Code::Deadline if takes("Last-Event-ID") => {
            code == Code::NotAcceptable
        }
        _ => operation["security"].is_array(),
    }
}

fn refusal(status: u16) -> Value {
    let of_status = json!({"properties": {"status": {"const": status}, "code": {"enum": []}}});
    let schema = json!({"allOf": [reference("schemas", "Problem"), of_status]});
    json!({"description": "", "content": {"application/problem+json": {"schema": schema}}})
}

/// Adds a code to the description and to those that the answer may have. Answers that are described beside the handler
/// are left as they are.
fn add_code(response: &mut Value, code: Code) {
    let codes = "/content/application~1problem+json/schema/allOf/1/properties/code/enum";
    let Some(codes) = response.pointer_mut(codes).and_then(Value::as_array_mut) else { return };
    codes.push(code.as_str().into());
    let line = format!("`{}`: {}", code.as_str(), code.advice().trim());
    let before = response["description"].as_str().filter(|before| !before.is_empty());
    response["description"] = before.map_or(line.clone(), |before| format!("{before}  \n{line}")).into();
}
