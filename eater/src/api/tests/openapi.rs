//! 1. The description has every path of the router, and no other.
//! 2. It is as the server behaves: whose token, which scope, which parameters and media types, which limits.
//! 3. Its codes are those of refusals, and of `docs/api.md`.
//! 4. It needs no token, and has a tag.
//! 5. The page for it loads nothing from elsewhere.

use std::collections::BTreeSet;

use serde_json::Value;
use trough_store::commands::{CommandFilter, CommandPayload, Commands, NewCommand};
use trough_store::rule::{Condition, NewRule, Scope::All};
use trough_store::{Scope, Subscriptions};

use super::support::{NOW, Server, device};
use crate::api::code::Code;
use crate::api::routes::{CHANGES, PATHS, allowed};

/// What stands in the examples of ids.
const NOTHING: &str = "00000000000000000000000000000000";

/// One operation of the description.
struct Described {
    /// The path, with the examples of the description in place of its parameters.
    target: String,
    path: String,
    operation: Value,
}

impl Described {
    async fn all(server: &Server) -> Vec<Self> {
        let document = document(server).await;
        let filter = CommandFilter { device: device("bus-2301"), state: None, before: None, limit: 1 };
        let commands = server.registry.list_commands(filter).await.unwrap();
        let command = commands[0].id.to_string();
        let paths = document["paths"].as_object().unwrap();
        let one = |(path, item): (&String, &Value)| {
            let item = item.as_object().unwrap();
            let changes = CHANGES.iter().filter(|(_, changed)| changed == path).map(|(method, _)| *method);
            let methods: BTreeSet<&str> = changes.chain(["get"]).collect();
            assert_eq!(item.keys().map(String::as_str).collect::<BTreeSet<_>>(), methods, "{path}");
            let operation = item["get"].clone();
            let mut target = path.clone();
            for parameter in parameters(&operation, "path") {
                let example = parameter["example"].as_str().expect("parameters in paths have examples");
                let example = if parameter["name"] == "command" { &command } else { example };
                target = target.replace(&format!("{{{}}}", parameter["name"].as_str().unwrap()), example);
            }
            Self { target, path: path.clone(), operation }
        };
        paths.iter().filter(|(path, _)| PATHS.contains(&path.as_str())).map(one).collect()
    }

    /// The same for somebody with this token: of what is only theirs, there is one.
    async fn target_of(&self, server: &Server, token: &str) -> String {
        let mut target = self.target.clone();
        if target.contains("/sub_") || target.contains("/dlv_") {
            let subscription = server.subscribe(token).await;
            target = target.replace(&format!("sub_{NOTHING}"), &subscription);
            if target.contains("/dlv_") {
                server.register(token, 1).await;
                target = target.replace(&format!("dlv_{NOTHING}"), &server.test(token, &subscription).await);
            }
        }
        if target.contains("/psh_") {
            target = target.replace(&format!("psh_{NOTHING}"), &server.register(token, 2).await);
        }
        target
    }

    /// The scope that it needs; `None` if it needs no token.
    fn scope(&self) -> Option<&str> {
        self.operation["security"][0]["reader"][0].as_str()
    }

    fn query(&self) -> Vec<&str> {
        parameters(&self.operation, "query").map(|parameter| parameter["name"].as_str().unwrap()).collect()
    }

    fn statuses(&self) -> BTreeSet<&str> {
        self.operation["responses"].as_object().unwrap().keys().map(String::as_str).collect()
    }
}

fn parameters<'a>(operation: &'a Value, place: &str) -> impl Iterator<Item = &'a Value> {
    let all = operation["parameters"].as_array().expect("every operation has parameters");
    all.iter().filter(move |parameter| parameter["in"] == place)
}

async fn document(server: &Server) -> Value {
    let reply = server.get("/openapi.json").send().await;
    assert_eq!((reply.status.as_u16(), reply.header("content-type")), (200, "application/json"));
    reply.json()
}

/// A server that has the device of the examples, and a reader of everything.
async fn server() -> (Server, String) {
    let server = Server::start().await;
    server.health.set_ready();
    let token = server.device_and_reader("bus-2301").await;
    let payload = CommandPayload { content_type: "a/b".into(), bytes: Vec::new() };
    let (device, expires_at) = (device("bus-2301"), NOW + 1_000_000);
    let command = NewCommand { device, payload, expires_at, key: None, made_by: "a test".into() };
    server.registry.add_command(command).await.unwrap();
    let rule = NewRule { name: "fast".parse().unwrap(), scope: All, condition: Condition::Gaps };
    server.registry.set_rule(rule).await.unwrap();
    (server, token)
}

#[tokio::test]
async fn every_path_is_described_and_no_other() {
    let (server, token) = server().await;
    let document = document(&server).await;
    assert_eq!(document["openapi"], "3.1.0");
    let described: BTreeSet<&str> =
        document["paths"].as_object().unwrap().keys().map(String::as_str).collect();
    let changed = CHANGES.iter().map(|(_, path)| *path);
    assert_eq!(described, PATHS.iter().copied().chain(changed).collect());
    let all = Described::all(&server).await;
    let ids: BTreeSet<_> = all.iter().map(|one| one.operation["operationId"].as_str().unwrap()).collect();
    assert_eq!(ids.len(), all.len(), "{ids:?}");
    for one in all {
        for text in ["summary", "operationId"] {
            assert!(!one.operation[text].as_str().unwrap_or_default().is_empty(), "{}: {text}", one.path);
        }
        for parameter in parameters(&one.operation, "query") {
            assert!(!parameter["description"].as_str().unwrap_or_default().is_empty(), "{parameter}");
            assert!(!parameter["schema"]["type"].is_array(), "null cannot be given: {parameter}");
        }
        assert!(one.statuses().is_superset(&["200", "405", "431"].into()), "{}", one.path);
        let reply = server.get(&one.target_of(&server, &token).await).token(&token).begin().await;
        assert_eq!(reply.status(), 200, "{}", one.target);
        let content = &one.operation["responses"]["200"]["content"];
        let sent = reply.headers()["content-type"].to_str().unwrap().split(';').next().unwrap();
        assert!(content[sent].is_object(), "{}: {sent} in {content}", one.path);
    }
}

#[tokio::test]
async fn tokens_and_scopes_are_as_described() {
    let (server, _) = server().await;
    for one in Described::all(&server).await {
        let missing = server.get(&one.target).begin().await.status().as_u16();
        let Some(scope) = one.scope() else {
            assert_eq!(missing, 200, "{} wants no token", one.path);
            assert!(!one.statuses().contains("401"), "{}", one.path);
            continue;
        };
        assert_eq!(missing, 401, "{} wants a token", one.path);
        let scope: Scope = scope.parse().unwrap();
        let name = one.path.replace(['/', '{', '}'], "-");
        let others: Vec<Scope> = Scope::ALL.into_iter().filter(|other| *other != scope).collect();
        let less = server.add_reader(&format!("{name}.less"), &others, &[]).await;
        let (status, _, detail) = server.get(&one.target).token(&less).send().await.problem();
        assert!(status == 403 && detail.contains(scope.as_str()), "{}: {detail}", one.path);
        let just = server.add_reader(&format!("{name}.just"), &[scope], &[]).await;
        let target = one.target_of(&server, &just).await;
        let enough = server.get(&target).token(&just).begin().await.status();
        assert_eq!(enough, 200, "{} wants {scope} only", one.path);
        let statuses = ["400", "401", "403", "406", "500", "503"].into();
        assert!(one.statuses().is_superset(&statuses), "{}", one.path);
    }
}

#[tokio::test]
async fn parameters_limits_and_media_types_are_as_described() {
    let (server, token) = server().await;
    let all = Described::all(&server).await;
    for one in all.iter().filter(|one| one.scope().is_some()) {
        let target = one.target_of(&server, &token).await;
        let refusal = async |query: &str, accept: &str| {
            let ask = server.get(&format!("{target}{query}")).token(&token).header("accept", accept);
            let (status, _, detail) = ask.send().await.problem();
            (status, detail)
        };
        let (status, detail) = refusal("?nonsense=1", "*/*").await;
        let known: BTreeSet<&str> = detail.split_once(": use ").unwrap().1.split(", ").collect();
        let mut described: BTreeSet<&str> = one.query().into_iter().collect();
        if described.is_empty() {
            described.insert("none");
        }
        assert_eq!((status, known), (400, described), "{}", one.path);

        for parameter in parameters(&one.operation, "query").filter(|one| one["name"] == "limit") {
            let (_, detail) = refusal("?limit=0", "*/*").await;
            let max = parameter["schema"]["maximum"].as_u64().unwrap();
            assert!(detail.ends_with(&format!("from 1 to {max}")), "{}: {detail}", one.path);
        }

        let (status, detail) = refusal("", "image/none").await;
        let offered: BTreeSet<&str> = detail.split_once(": accept ").unwrap().1.split(", ").collect();
        let content = one.operation["responses"]["200"]["content"].as_object().unwrap();
        assert_eq!((status, offered), (406, content.keys().map(String::as_str).collect()), "{}", one.path);
    }
}

#[tokio::test]
async fn what_changes_something_is_described() {
    let (server, token) = server().await;
    let document = document(&server).await;
    let nothing = server.add_reader("nothing", &[Scope::FramesRead], &[]).await;
    for (method, path) in CHANGES {
        let operation = &document["paths"][*path][*method];
        let scope = operation["security"][0]["reader"][0].as_str().unwrap();
        let target = path.replace("{id}", "bus-2301").replace(['{', '}'], "");
        let method = http::Method::from_bytes(method.to_ascii_uppercase().as_bytes()).unwrap();
        let (status, _, detail) = server.ask(method.clone(), &target).token(&nothing).send().await.problem();
        assert!(status == 403 && detail.contains(scope), "{target}: {detail}");
        let query = format!("{target}?nonsense=1");
        let (status, code, _) = server.ask(method, &query).token(&token).send().await.problem();
        assert_eq!((status, code.as_str()), (400, "bad_parameter"), "{target}");
        for status in ["400", "401", "403", "405", "500", "503"] {
            assert!(operation["responses"][status].is_object(), "{path}: {status}");
        }
        if path.contains('{') {
            assert!(operation["responses"]["404"].is_object(), "{path}");
        }
        let has_content = !operation["responses"]["204"].is_object();
        assert_eq!(operation["responses"]["406"].is_object(), has_content, "{path}");
        let allow = &operation["responses"]["405"]["headers"]["Allow"]["schema"]["const"];
        assert_eq!(allow, &allowed(path));
    }
}

#[tokio::test]
async fn codes_are_those_of_refusals_and_of_the_documents() {
    let (server, _) = server().await;
    let document = document(&server).await;
    let known: Vec<&str> = Code::ALL.iter().map(|code| code.as_str()).collect();
    let described = &document["components"]["schemas"]["Problem"]["properties"]["code"]["enum"];
    assert_eq!(described, &Value::from(known));

    // In `docs/api.md`: | 400 | `bad_parameter` | … |, or several codes in one line.
    let manual = include_str!("../../../../docs/api.md");
    let table = manual.split_once("| status | `code` |").unwrap().1.split("\n\n").next().unwrap();
    let mut written = BTreeSet::new();
    for row in table.lines() {
        let cells: Vec<&str> = row.split('|').map(str::trim).collect();
        let [_, status, codes, ..] = cells[..] else { continue };
        written.extend(codes.split(", ").filter(|code| code.starts_with('`')).map(|code| (status, code)));
    }
    let all: Vec<(String, String)> = Code::ALL
        .iter()
        .map(|code| (code.status().as_u16().to_string(), format!("`{}`", code.as_str())))
        .collect();
    let all: BTreeSet<(&str, &str)> = all.iter().map(|(status, code)| (&**status, &**code)).collect();
    assert_eq!(written, all);
}

#[tokio::test]
async fn the_description_has_a_tag() {
    let (server, _) = server().await;
    let first = server.get("/openapi.json").send().await;
    let again = server.get("/openapi.json").header("if-none-match", first.header("etag")).send().await;
    assert_eq!((again.status.as_u16(), again.body.len()), (304, 0));
    let refused = server.get("/openapi.json?format=yaml").send().await.problem();
    assert_eq!((refused.0, refused.1.as_str()), (400, "bad_parameter"));
    let refused = server.get("/openapi.json").header("accept", "text/yaml").send().await.problem();
    assert_eq!((refused.0, refused.1.as_str()), (406, "not_acceptable"));
}

#[tokio::test]
async fn the_page_loads_nothing_from_elsewhere() {
    let (server, _) = server().await;
    let page = server.get("/docs").send().await;
    assert_eq!((page.status.as_u16(), page.header("content-type")), (200, "text/html; charset=utf-8"));
    let policy = page.header("content-security-policy");
    assert!(policy.starts_with("default-src 'none';") && !policy.contains("http"), "{policy}");
    assert!(!page.text().contains("://") && !page.text().contains("\"/"), "only relative: {}", page.text());
    let mut files = 0;
    for part in page.text().split('"').filter(|part| part.starts_with("docs/")) {
        let file = server.get(&format!("/{part}")).send().await;
        assert_eq!(file.status, 200, "{part}");
        assert_eq!(file.header("content-security-policy"), policy, "{part}");
        assert!(!file.body.is_empty(), "{part}");
        files += 1;
    }
    assert_eq!(files, 5);
    let script = server.get("/docs/start.js").send().await;
    assert!(script.text().contains("url: \"openapi.json\""), "{}", script.text());
    for nothing in ["/docs/", "/docs/index.html", "/docs/x/start.js", "/docs/..%2Fstart.js"] {
        let (status, code, _) = server.get(nothing).send().await.problem();
        assert_eq!((status, code.as_str()), (404, "no_such_path"), "{nothing}");
    }
}
