//! Rules, subscriptions and push tokens of the registry in MongoDB.

use trough_protocol::Micros;

use super::registry::{CHANGE_MAX, MongoRegistry};
use super::rules::Over;
use super::{push_tokens, rules, subscription_rows as rows};
use crate::BoxFuture;
use crate::checks::{self, no_rule, no_subscription};
use crate::error::RegistryError;
use crate::names::{ReaderName, RuleName};
use crate::rule::{NewRule, Rule};
use crate::subscription::{
    NewSubscription, PushToken, PushTokenId, Subscription, SubscriptionId, Subscriptions,
};

// A change is counted before it is known whether there is one: what changes nothing is found before.
impl Subscriptions for MongoRegistry {
    fn set_rule(&self, rule: NewRule) -> BoxFuture<'_, Result<Rule, RegistryError>> {
        Box::pin(async move {
            rule.check()?;
            let name = rule.name.clone();
            let found = self.run(async move |database| rules::find(&database, &name).await).await?;
            if let Some(found) = found.filter(|found| found.rule == rule) {
                return Ok(found);
            }
            let now = self.time().await?;
            self.change(CHANGE_MAX, move |database, session| {
                let rule = rule.clone();
                Box::pin(async move { rules::set(database, session, &rule, Over::Any, now).await })
            })
            .await
        })
    }

    fn replace_rule(
        &self,
        rule: NewRule,
        version: Option<u64>,
    ) -> BoxFuture<'_, Result<Rule, RegistryError>> {
        Box::pin(async move {
            rule.check()?;
            let name = rule.name.clone();
            let found = self.run(async move |database| rules::find(&database, &name).await).await?;
            let same = |found: &Rule| Some(found.version) == version && found.rule == rule;
            if let Some(found) = found.filter(same) {
                return Ok(found);
            }
            let now = self.time().await?;
            self.change(CHANGE_MAX, move |database, session| {
                let rule = rule.clone();
                let over = Over::Version(version);
                Box::pin(async move { rules::set(database, session, &rule, over, now).await })
            })
            .await
        })
    }

    fn list_rules(&self) -> BoxFuture<'_, Result<Vec<Rule>, RegistryError>> {
        Box::pin(async move { Ok(self.run(async |database| rules::list(&database).await).await?) })
    }

    fn get_rule<'a>(&'a self, name: &'a RuleName) -> BoxFuture<'a, Result<Rule, RegistryError>> {
        let wanted = name.clone();
        Box::pin(async move {
            let found = self.run(async move |database| rules::find(&database, &wanted).await).await?;
            found.ok_or_else(|| no_rule(name))
        })
    }

    fn remove_rule<'a>(
        &'a self,
        name: &'a RuleName,
        version: Option<u64>,
    ) -> BoxFuture<'a, Result<(), RegistryError>> {
        let name = name.clone();
        Box::pin(self.change(CHANGE_MAX, move |database, session| {
            let name = name.clone();
            Box::pin(async move { rules::remove(database, session, &name, version).await })
        }))
    }

    fn add_subscription(
        &self,
        wanted: NewSubscription,
    ) -> BoxFuture<'_, Result<Subscription, RegistryError>> {
        Box::pin(async move {
            wanted.check()?;
            let now = self.time().await?;
            self.change(CHANGE_MAX, move |database, session| {
                let wanted = wanted.clone();
                Box::pin(async move { rows::add(database, session, &wanted, now).await })
            })
            .await
        })
    }

    fn replace_subscription(
        &self,
        before: NewSubscription,
        wanted: NewSubscription,
    ) -> BoxFuture<'_, Result<Option<Subscription>, RegistryError>> {
        Box::pin(async move {
            wanted.check()?;
            self.change(CHANGE_MAX, move |database, session| {
                let (before, wanted) = (before.clone(), wanted.clone());
                Box::pin(async move { rows::replace(database, session, &before, &wanted).await })
            })
            .await
        })
    }

    fn list_subscriptions<'a>(
        &'a self,
        owner: Option<&'a ReaderName>,
    ) -> BoxFuture<'a, Result<Vec<Subscription>, RegistryError>> {
        let owner = owner.cloned();
        Box::pin(async move {
            Ok(self.run(async move |database| rows::list(&database, owner.as_ref()).await).await?)
        })
    }

    fn get_subscription(&self, id: SubscriptionId) -> BoxFuture<'_, Result<Subscription, RegistryError>> {
        Box::pin(async move {
            let found = self.run(async move |database| rows::find(&database, id).await).await?;
            found.ok_or_else(|| no_subscription(id))
        })
    }

    fn remove_subscription(&self, id: SubscriptionId) -> BoxFuture<'_, Result<(), RegistryError>> {
        Box::pin(self.change(CHANGE_MAX, move |database, session| {
            Box::pin(async move { rows::remove(database, session, id).await })
        }))
    }

    fn disable_subscription<'a>(
        &'a self,
        id: SubscriptionId,
        reason: Option<&'a str>,
    ) -> BoxFuture<'a, Result<(), RegistryError>> {
        let reason = reason.map(|reason| checks::reason(reason).to_owned());
        Box::pin(async move {
            let found = self.get_subscription(id).await?;
            if found.disabled.is_some() == reason.is_some() {
                return Ok(());
            }
            let now = self.time().await?;
            self.change(CHANGE_MAX, move |database, session| {
                let reason = reason.clone();
                Box::pin(async move { rows::disable(database, session, id, reason.as_deref(), now).await })
            })
            .await
        })
    }

    fn set_push_token(&self, token: PushToken) -> BoxFuture<'_, Result<(), RegistryError>> {
        Box::pin(async move {
            checks::push_token(&token)?;
            let registered_at = self.database_time().await?.unwrap_or(token.registered_at);
            let token = PushToken { registered_at, ..token };
            self.change(CHANGE_MAX, move |database, session| {
                let token = token.clone();
                Box::pin(async move { push_tokens::set(database, session, &token).await })
            })
            .await
        })
    }

    fn list_push_tokens<'a>(
        &'a self,
        owner: Option<&'a ReaderName>,
    ) -> BoxFuture<'a, Result<Vec<PushToken>, RegistryError>> {
        let owner = owner.cloned();
        Box::pin(async move {
            Ok(self.run(async move |database| push_tokens::list(&database, owner.as_ref()).await).await?)
        })
    }

    fn remove_push_token(
        &self,
        id: PushTokenId,
        registered_at: Option<Micros>,
    ) -> BoxFuture<'_, Result<(), RegistryError>> {
        Box::pin(async move {
            let is_there = async move |database| push_tokens::is_there(&database, id, registered_at).await;
            if !self.run(is_there).await? {
                return Ok(());
            }
            self.change(CHANGE_MAX, move |database, session| {
                Box::pin(async move { push_tokens::remove(database, session, id, registered_at).await })
            })
            .await
        })
    }
}
