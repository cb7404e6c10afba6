//! What every [`Bus`] must do, as tests that any implementation runs: `bus_suite!(fixture)`, where `fixture` makes a
//! [`Fixture`] on a new bus. Time is real, as a server's is; a predicate is polled against a deadline, and nothing is
//! concluded from how long something took, but that a lease was not held too long.

#![allow(clippy::unwrap_used, reason = "these are tests, compiled into the library for other crates")]
#![allow(missing_docs, reason = "the names of the tests say what they check")]

pub mod leases;
pub mod topics;
pub mod values;

use std::any::Any;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep};

use crate::{Bus, Environment, Key, Topic};

/// A bus that can be opened again and again: each is what another process would have.
pub struct Fixture {
    /// Opens it.
    pub open: Box<dyn Fn() -> Arc<dyn Bus> + Send + Sync>,
    /// Makes it forget everything, as a restart would.
    pub wipe: Box<dyn Fn() + Send + Sync>,
    /// Kept until the test is over: a server.
    pub keep: Box<dyn Any + Send + Sync>,
}

/// The deadline of what takes moments when all is well.
const SOON: Duration = Duration::from_secs(30);

fn environment() -> Environment {
    Environment::new("sandbox").unwrap()
}

fn key(name: &str) -> Key {
    Key::new(&environment(), name)
}

fn topic(name: &str) -> Topic {
    Topic::new(&environment(), name)
}

async fn until<T>(what: &str, mut ask: impl AsyncFnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + SOON;
    loop {
        if let Some(answer) = ask().await {
            return answer;
        }
        assert!(Instant::now() < deadline, "waited {SOON:?} in vain until {what}");
        sleep(Duration::from_millis(10)).await;
    }
}

/// The tests of a bus.
#[macro_export]
macro_rules! bus_suite {
    ($fixture:expr) => {
        $crate::bus_suite_cases!(
            topics,
            $fixture,
            messages_arrive_in_order_at_everybody,
            numbers_of_messages_rise_and_are_the_same_to_everybody,
            messages_of_many_publishers_arrive_once_and_in_their_order,
            a_topic_hears_nothing_of_another,
            a_message_is_as_large_as_the_limit_and_no_larger,
            a_slow_subscriber_misses_nothing_in_silence,
            a_wiped_bus_tells_every_subscriber_to_rescan,
            an_event_that_nobody_waited_for_is_kept,
        );
        $crate::bus_suite_cases!(
            leases,
            $fixture,
            of_many_that_race_one_holds,
            a_lease_outlives_its_first_life,
            a_released_lease_is_free_at_once,
            a_dropped_lease_is_given_back,
            whoever_asks_is_told_whether_somebody_has_a_lease,
            a_wiped_lease_is_noticed_before_its_life_is_over,
            a_lease_and_a_value_of_one_name_are_two_things,
        );
        $crate::bus_suite_cases!(
            values,
            $fixture,
            a_value_is_seen_by_everybody_until_it_is_deleted,
            a_value_expires,
            many_values_are_got_in_order,
            many_values_are_set_and_deleted_at_once,
            names_and_values_at_their_limits,
            environments_share_nothing,
            a_wiped_bus_has_no_values,
        );
    };
}

/// Makes one test of each case.
#[macro_export]
macro_rules! bus_suite_cases {
    ($module:ident, $fixture:expr, $($case:ident),* $(,)?) => {
        mod $module {
            #[allow(unused_imports, reason = "where the fixture comes from")]
            use super::*;
            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $case() {
                    $crate::conformance::$module::$case(&$fixture).await;
                }
            )*
        }
    };
}
