//! `/v1/rules`: what of all that happens is an event.
//!
//! Rules belong to nobody. Whoever may manage all that a rule is about sees it and may change it; to others it is not there.

use std::sync::Arc;

use axum::extract::{FromRequestParts, State};
use axum::response::Response;
use http::request::Parts;
use serde::{Deserialize, Serialize};
use trough_store::rule::{Condition, NewRule, Rule, Scope as RuleScope};
use trough_store::{ReaderName, RegistryError, RuleName, Scope};
use utoipa::{IntoParams, ToSchema};

use super::answer::{JsonAnswer, created, json, nothing};
use super::auth::Caller;
use super::body::{self, Sent};
use super::encode::time_text;
use super::mark;
use super::no_parameters::NoParameters;
use super::notice_refusal::{NoticeRefusal, shown};
use super::notices::{ItemName, ScopeForm};
use super::openapi::schemas;
use super::params::{BadParameter, Params};
use super::patience::{within, within_as};
use super::refusal::Refusal;
use super::rule_forms::ConditionForm;
use super::sight::Sight;
use super::state::Api;
use super::subscriptions::PageParameters;

/// Largest body, in bytes: an area of 10,000 corners takes less than half of it.
pub(super) const RULE_BYTES_MAX: usize = 1024 * 1024;
/// A page of rules ends early when so many devices were looked up for it.
const LOOKED_UP_MAX: usize = 2_000;
/// How often a rule is looked at again that changes while it is being replaced.
const TRIES: usize = 5;

/// Who asks, if it may manage rules.
#[derive(Debug)]
pub(super) struct Manager(Caller);

impl Manager {
    /// Its name.
    fn name(&self) -> &ReaderName {
        &self.0.grant.name
    }

    /// Which devices it sees.
    fn sight<'a>(&'a self, api: &'a Api) -> Sight<'a> {
        Sight::new(&api.auth, &self.0)
    }
}

impl FromRequestParts<Arc<Api>> for Manager {
    /// [`Refusal::MissingScope`]; and as of [`Caller`].
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, api: &Arc<Api>) -> Result<Self, Refusal> {
        let caller = Caller::from_request_parts(parts, api).await?;
        caller.require(Scope::RulesManage)?;
        Ok(Self(caller))
    }
}

/// What to look at, and what to wait for.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = NewRule, example = json!({
    "scope": {"groups": ["buses"]}, "condition": {"kind": "compare", "channel": "can", "when": "/speed > 30 for 60s"},
}))]
pub(super) struct NewJson {
    /// Whose frames.
    #[schema(value_type = ScopeForm)]
    scope: RuleScope,
    /// What it waits for.
    #[schema(value_type = ConditionForm)]
    condition: Condition,
}

/// A rule.
#[derive(Serialize, ToSchema)]
#[schema(as = Rule)]
struct RuleJson {
    /// What it is called: it stands in each of its events.
    name: String,
    /// Whose frames.
    #[schema(value_type = ScopeForm)]
    scope: RuleScope,
    /// What it waits for.
    #[schema(value_type = ConditionForm)]
    condition: Condition,
    /// Rises whenever a rule of this name is set with other content.
    version: u64,
    /// When it was set. Frames that were received earlier are none of its business.
    #[schema(format = DateTime)]
    set_at: String,
}

impl RuleJson {
    fn of(rule: Rule) -> Self {
        let Rule { rule: NewRule { name, scope, condition }, version, set_at } = rule;
        Self { name: name.to_string(), scope, condition, version, set_at: time_text(set_at) }
    }
}

/// A page of rules.
#[derive(Serialize, ToSchema)]
#[schema(as = RulesPage)]
struct RulesJson {
    /// By name.
    rules: Vec<RuleJson>,
    /// Where the next page begins; `null` if there is none.
    #[schema(required)]
    next_cursor: Option<String>,
}

/// The rule in a path.
#[derive(IntoParams)]
#[into_params(parameter_in = Path)]
#[expect(dead_code, reason = "it is only described")]
struct RulePath {
    /// The rule's name.
    #[param(inline, example = "fast")]
    rule: schemas::RuleName,
}

/// The rules that you may manage.
///
/// A page may have fewer than `limit`, and still a `next_cursor`.
#[utoipa::path(
    get, path = "/v1/rules", operation_id = "list_rules", tag = "rules",
    security(("reader" = ["rules:manage"])),
    params(PageParameters),
    responses(
        (status = 200, description = "A page of rules", body = RulesJson),
        (status = 304, description = "Nothing has changed"),
    )
)]
pub(super) async fn list(
    State(api): State<Arc<Api>>,
    manager: Manager,
    request: Parts,
) -> Result<Response, Refusal> {
    let params = Params::parse(request.uri.query(), &["limit", "cursor"])?;
    let limit = params.items()?;
    let query = format!("rules|{}", manager.name());
    let after = params.one("cursor")?.map(|cursor| mark::read(&query, cursor)).transpose()?;
    let answer = JsonAnswer::to(request.headers)?;
    // All rules are in memory meanwhile, and some have large areas.
    let _permit = api.pages.permit()?;
    let mut all = within(api.notices.subscriptions.list_rules()).await?;
    all.retain(|rule| after.as_ref().is_none_or(|after| rule.rule.name.as_str().as_bytes() > &after[..]));
    let (mut sight, mut last, mut rules, mut next) = (manager.sight(&api), None, Vec::new(), None);
    for rule in all {
        if rules.len() == limit || sight.looked_up() >= LOOKED_UP_MAX {
            next = last.map(|name: RuleName| mark::write(&query, name.as_str().as_bytes()));
            break;
        }
        last = Some(rule.rule.name.clone());
        if sight.manages(&rule.rule.scope).await? {
            rules.push(RuleJson::of(rule));
        }
    }
    Ok(answer.tagged(json(&RulesJson { rules, next_cursor: next })))
}

/// A rule that the caller may manage, if the name is one.
async fn find(api: &Api, sight: &mut Sight<'_>, name: &str) -> Result<Rule, Refusal> {
    let none = || Refusal::from(NoticeRefusal::NoSuchRule(shown(name)));
    let parsed = RuleName::new(name).map_err(|_| none())?;
    let found = api.notices.subscriptions.get_rule(&parsed);
    let refused = |error| NoticeRefusal::of_registry(error, NoticeRefusal::TooManyRules);
    let found = within_as(found, refused).await?;
    if sight.manages(&found.rule.scope).await? { Ok(found) } else { Err(none()) }
}

/// One rule.
#[utoipa::path(
    get, path = "/v1/rules/{rule}", operation_id = "get_rule", tag = "rules",
    security(("reader" = ["rules:manage"])),
    params(RulePath),
    responses(
        (status = 200, description = "The rule", body = RuleJson),
        (status = 304, description = "Nothing has changed"),
    )
)]
pub(super) async fn show(
    State(api): State<Arc<Api>>,
    manager: Manager,
    ItemName(name): ItemName,
    _: NoParameters,
    answer: JsonAnswer,
) -> Result<Response, Refusal> {
    let found = find(&api, &mut manager.sight(&api), &name).await?;
    Ok(answer.tagged(json(&RuleJson::of(found))))
}

/// Set a rule, in place of what had its name.
///
/// It looks at frames that are received from now on. With the same content as before nothing changes; with other content it
/// begins anew. Whoever sees only some groups names devices that it sees, or groups that it has access to, and never `"all"`.
#[utoipa::path(
    put, path = "/v1/rules/{rule}", operation_id = "set_rule", tag = "rules",
    security(("reader" = ["rules:manage"])),
    params(RulePath),
    request_body(content = NewJson, content_type = "application/json"),
    responses(
        (status = 201, description = "The rule, which is new", body = RuleJson),
        (status = 200, description = "The rule, in the place of one that there was", body = RuleJson),
    )
)]
pub(super) async fn set(
    State(api): State<Arc<Api>>,
    manager: Manager,
    ItemName(name): ItemName,
    _: NoParameters,
    answer: JsonAnswer,
    sent: Sent,
) -> Result<Response, Refusal> {
    let parsed = RuleName::new(&name)
        .map_err(|_| BadParameter::value("rule", &name, "1 to 64 of A–Z a–z 0–9 . _ - : @"))?;
    // Bodies are large here, and may come slowly: a few at a time, and none in the place of a page.
    let _permit = api.rule_bodies.permit()?;
    let NewJson { scope, condition } = sent.object(RULE_BYTES_MAX).await?;
    let rule = NewRule { name: parsed, scope, condition };
    rule.check().map_err(body::bad)?;
    let mut sight = manager.sight(&api);
    sight.check_named(&rule.scope).await?;
    if !sight.manages(&rule.scope).await? {
        return Err(body::bad(
            "scope: \"all\" is for those who see every device: name devices, or your groups",
        ));
    }
    let (set, is_new) = replace(&api, &mut sight, rule).await?;
    tracing::info!(rule = %name, version = set.version, reader = %manager.name(), "rule set");
    let answer = answer.untagged(json(&RuleJson::of(set)));
    Ok(if is_new { created(answer, &format!("/v1/rules/{name}")) } else { answer })
}

/// Puts a rule in the place of one that the caller may manage, as it was when that was looked at.
async fn replace(api: &Api, sight: &mut Sight<'_>, rule: NewRule) -> Result<(Rule, bool), Refusal> {
    for _ in 0..TRIES {
        let version = match find(api, sight, rule.name.as_str()).await {
            Ok(found) => Some(found.version),
            Err(Refusal::Notice(NoticeRefusal::NoSuchRule(_))) => None,
            Err(refusal) => return Err(refusal),
        };
        let replacing = api.notices.subscriptions.replace_rule(rule.clone(), version);
        match within(async { Ok::<_, Refusal>(replacing.await) }).await? {
            Ok(set) => return Ok((set, version.is_none())),
            Err(RegistryError::AlreadyExists { .. }) => {}
            Err(error) => return Err(NoticeRefusal::of_registry(error, NoticeRefusal::TooManyRules)),
        }
    }
    Err(NoticeRefusal::RuleNameTaken(rule.name.to_string()).into())
}

/// Remove a rule: it finds no further events.
#[utoipa::path(
    delete, path = "/v1/rules/{rule}", operation_id = "remove_rule", tag = "rules",
    security(("reader" = ["rules:manage"])),
    params(RulePath),
    responses((status = 204, description = "It is gone"))
)]
pub(super) async fn remove(
    State(api): State<Arc<Api>>,
    manager: Manager,
    ItemName(name): ItemName,
    _: NoParameters,
) -> Result<Response, Refusal> {
    let found = find(&api, &mut manager.sight(&api), &name).await?;
    // Only the one that was looked at: another may be about devices that the caller does not see.
    let removing = api.notices.subscriptions.remove_rule(&found.rule.name, Some(found.version));
    let refused = |error| NoticeRefusal::of_registry(error, NoticeRefusal::TooManyRules);
    within_as(removing, refused).await?;
    tracing::info!(rule = %name, reader = %manager.name(), "rule removed");
    Ok(nothing())
}
