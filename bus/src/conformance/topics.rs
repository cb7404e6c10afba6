//! The cases of topics.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::time::timeout;

use super::{Fixture, SOON, topic};
use crate::{Bus, BusError, Cause, Event, MESSAGE_BYTES_MAX, Subscription, Topic};

async fn next(subscription: &mut Subscription) -> Event {
    timeout(SOON, subscription.next()).await.expect("an event comes in time")
}

/// A subscription that has begun.
async fn subscribed(bus: &Arc<dyn Bus>, topic: &Topic) -> Subscription {
    let mut subscription = bus.subscribe(topic);
    assert_eq!(next(&mut subscription).await, Event::Rescan(Cause::Began));
    subscription
}

fn message(text: impl std::fmt::Display) -> Bytes {
    Bytes::from(text.to_string())
}

/// The next events, all of which must be messages.
async fn messages(subscription: &mut Subscription, count: usize) -> Vec<String> {
    let mut heard = Vec::new();
    while heard.len() < count {
        match next(subscription).await {
            Event::Message(message) => heard.push(String::from_utf8(message.to_vec()).unwrap()),
            other => panic!("{other:?} after {} messages, though nobody has wiped anything", heard.len()),
        }
    }
    heard
}

pub async fn messages_arrive_in_order_at_everybody(on: &Fixture) {
    let (publisher, topic) = ((on.open)(), topic("order"));
    let mut subscribers = Vec::new();
    for _ in 0..5 {
        subscribers.push(subscribed(&(on.open)(), &topic).await);
    }
    for n in 0..500 {
        publisher.publish(&topic, message(n)).await.unwrap();
    }
    let expected: Vec<_> = (0..500).map(|n| n.to_string()).collect();
    for subscriber in &mut subscribers {
        assert_eq!(messages(subscriber, 500).await, expected);
    }
}

pub async fn numbers_of_messages_rise_and_are_the_same_to_everybody(on: &Fixture) {
    let (one, other, topic) = ((on.open)(), (on.open)(), topic("numbers"));
    // Also while nobody listens.
    let mut last = one.publish(&topic, message("unheard")).await.unwrap();
    for _ in 0..3 {
        let mut subscribers = [subscribed(&one, &topic).await, subscribed(&other, &topic).await];
        for publisher in [&one, &other, &one] {
            let number = publisher.publish(&topic, message("heard")).await.unwrap();
            assert!(number > last, "{number} after {last}");
            assert!(subscribers.iter().all(|subscriber| subscriber.number() < number));
            last = number;
            for subscriber in &mut subscribers {
                assert_eq!(messages(subscriber, 1).await, ["heard"]);
                assert_eq!(subscriber.number(), number);
            }
        }
        drop(subscribers);
        last = other.publish(&topic, message("unheard")).await.unwrap();
    }
}

pub async fn messages_of_many_publishers_arrive_once_and_in_their_order(on: &Fixture) {
    let topic = topic("many");
    let mut subscriber = subscribed(&(on.open)(), &topic).await;
    let publishers = (0..8).map(|publisher| {
        let (bus, topic) = ((on.open)(), topic.clone());
        tokio::spawn(async move {
            for n in 0..50 {
                bus.publish(&topic, message(format!("{publisher}:{n:03}"))).await.unwrap();
            }
        })
    });
    let publishers: Vec<_> = publishers.collect();
    let heard = messages(&mut subscriber, 8 * 50).await;
    for publisher in 0..8 {
        let own: Vec<_> = heard.iter().filter(|text| text.starts_with(&format!("{publisher}:"))).collect();
        assert!(own.len() == 50 && own.is_sorted(), "{own:?}");
    }
    for publisher in publishers {
        publisher.await.unwrap();
    }
}

pub async fn a_topic_hears_nothing_of_another(on: &Fixture) {
    let bus = (on.open)();
    let [mut one, mut other] =
        [subscribed(&bus, &topic("one")).await, subscribed(&bus, &topic("other")).await];
    bus.publish(&topic("one"), message("for one")).await.unwrap();
    bus.publish(&topic("other"), message("for the other")).await.unwrap();
    assert_eq!(messages(&mut one, 1).await, ["for one"]);
    assert_eq!(messages(&mut other, 1).await, ["for the other"]);
}

pub async fn a_message_is_as_large_as_the_limit_and_no_larger(on: &Fixture) {
    let (bus, topic) = ((on.open)(), topic("large"));
    let mut subscriber = subscribed(&bus, &topic).await;
    let largest = Bytes::from(vec![7; MESSAGE_BYTES_MAX]);
    for message in [largest.clone(), Bytes::new()] {
        bus.publish(&topic, message.clone()).await.unwrap();
        assert_eq!(next(&mut subscriber).await, Event::Message(message));
    }
    let refused = bus.publish(&topic, [&largest[..], b"!"].concat().into()).await;
    assert!(matches!(&refused, Err(BusError::Invalid(told)) if told.contains("65537")), "{refused:?}");
}

pub async fn a_slow_subscriber_misses_nothing_in_silence(on: &Fixture) {
    let (bus, topic) = ((on.open)(), topic("slow"));
    let mut subscriber = subscribed(&bus, &topic).await;
    // More than an in-process bus keeps.
    let count = 3000_u32;
    let publishing = async {
        for n in 0..count {
            bus.publish(&topic, message(format!("{n:04}"))).await.unwrap();
        }
    };
    publishing.await;
    bus.publish(&topic, message("end")).await.unwrap();
    let mut expected = Some(0);
    loop {
        match next(&mut subscriber).await {
            Event::Message(message) if message == "end" => break,
            Event::Message(message) => {
                let n: u32 = std::str::from_utf8(&message).unwrap().parse().unwrap();
                assert!(expected.is_none_or(|expected| n == expected), "{n} where {expected:?} was due");
                expected = Some(n + 1);
            }
            Event::Rescan(cause) => {
                assert!(matches!(cause, Cause::Hole | Cause::Periodic), "{cause:?}");
                if cause == Cause::Hole {
                    expected = None;
                    // The end may be among what was lost.
                    bus.publish(&topic, message("end")).await.unwrap();
                }
            }
        }
    }
    assert!(expected.is_none_or(|expected| expected == count), "{expected:?} was due at the end");
}

pub async fn a_wiped_bus_tells_every_subscriber_to_rescan(on: &Fixture) {
    let (bus, topic) = ((on.open)(), topic("wiped"));
    let mut subscribers = [subscribed(&(on.open)(), &topic).await, subscribed(&(on.open)(), &topic).await];
    for round in 0..3 {
        bus.publish(&topic, message(round)).await.unwrap();
        for subscriber in &mut subscribers {
            assert_eq!(messages(subscriber, 1).await, [round.to_string()]);
        }
        (on.wipe)();
        // Also whoever publishes before a subscriber has looked.
        bus.publish(&topic, message("after the wipe")).await.unwrap();
        for subscriber in &mut subscribers {
            let event = next(subscriber).await;
            assert!(matches!(event, Event::Rescan(Cause::Reset | Cause::Hole)), "{event:?}");
        }
        // From there on nothing is missed again.
        bus.publish(&topic, message("last")).await.unwrap();
        for subscriber in &mut subscribers {
            while next(subscriber).await != Event::Message(message("last")) {}
        }
    }
}

pub async fn an_event_that_nobody_waited_for_is_kept(on: &Fixture) {
    let (bus, topic) = ((on.open)(), topic("cancelled"));
    let mut subscriber = subscribed(&bus, &topic).await;
    let mut heard = Vec::new();
    for n in 0..100_u32 {
        bus.publish(&topic, message(n)).await.unwrap();
        // Given up at any point of a poll.
        let patience = Duration::from_micros(u64::from(n) * 37);
        while let Ok(event) = timeout(patience, subscriber.next()).await {
            heard.push(event);
        }
    }
    while heard.len() < 100 {
        heard.push(next(&mut subscriber).await);
    }
    let expected: Vec<_> = (0..100).map(|n| Event::Message(message(n))).collect();
    assert_eq!(heard, expected);
}
