//! What every [`Registry`](crate::Registry), [`Catalog`](crate::Catalog), [`ObjectStore`](crate::ObjectStore),
//! [`ObjectCatalog`](crate::ObjectCatalog), [`SegmentCatalog`](crate::SegmentCatalog), [`Outbox`](crate::Outbox) and
//! [`Subscriptions`](crate::Subscriptions) must do, as tests that any implementation runs: `registry_suite!(fixture)` and so on, where `fixture` makes a [`Fixture`] on new, empty storage.
//! Times are manual; real time passes only where another process is waited for, and then a predicate is polled against
//! a deadline.

#![allow(clippy::unwrap_used, reason = "these are tests, compiled into the library for other crates")]
#![allow(missing_docs, reason = "the names of the tests say what they check")]

pub mod catalog;
pub mod commands;
pub mod object_catalog;
pub mod objects;
pub mod outbox;
pub mod presence;
pub mod registry;
pub mod segment_catalog;
pub mod subscriptions;

use std::any::Any;
use std::sync::Arc;

use trough_protocol::Micros;
use trough_runtime::clock::Clock;

/// When the manual clock of a fixture starts, in µs since 1970.
pub const START: Micros = 1_700_000_000_000_000;

/// Storage that can be opened again and again, also several times at once: each is what another process would
/// have.
pub struct Fixture<T: ?Sized> {
    /// What the storage takes for the time; at first [`START`].
    pub clock: Clock,
    /// Opens the storage.
    pub open: Box<dyn Fn() -> Arc<T> + Send + Sync>,
    /// Kept until the test is over: a directory, a server.
    pub keep: Box<dyn Any + Send + Sync>,
}

/// Makes one test of each case of a suite, or one of all: where a server must be started first, it is started once,
/// and each case gets new storage on it.
#[macro_export]
macro_rules! suite_cases {
    ($module:ident, (on $server:expr, $fixture:expr), $($case:ident),* $(,)?) => {
        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn all_cases() {
            let server = $server.await;
            $({
                println!("{}", stringify!($case));
                let fixture = $fixture(&server).await;
                $crate::conformance::$module::$case(&fixture).await;
            })*
        }
    };
    ($module:ident, ($fixture:expr), $($case:ident),* $(,)?) => {$(
        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn $case() {
            $crate::conformance::$module::$case(&$fixture).await;
        }
    )*};
}

/// Runs the cases of a suite one after another, in an async function, and says which.
#[macro_export]
macro_rules! suite_in_one {
    ($module:ident, ($fixture:expr), $($case:ident),* $(,)?) => {$(
        println!("{}", stringify!($case));
        $crate::conformance::$module::$case(&$fixture).await;
    )*};
}

/// The tests of a registry: `registry_suite!(fixture)`, or `registry_suite!(on server, fixture)` for one test of all
/// cases, where `server` is a future and `fixture` is called with what it gives.
#[macro_export]
macro_rules! registry_suite {
    ($($fixture:tt)*) => {
        $crate::suite_cases!(
            registry,
            ($($fixture)*),
            a_token_opens_its_own_device_only,
            damaged_and_foreign_tokens_are_unknown,
            devices_are_listed_in_order_by_page_and_group,
            an_id_is_never_reused,
            an_import_is_all_or_nothing,
            limits_are_refused_by_name,
            rotation_ends_old_tokens_at_once_or_in_time,
            revocation_ends_every_token_for_good,
            ended_tokens_are_told_apart_from_live_ones,
            groups_are_replaced_whole,
            epochs_rise_and_never_repeat,
            epochs_of_many_devices_at_once,
            two_processes_never_grant_the_same_epoch,
            what_was_returned_survives_a_restart,
            readers_have_scopes_and_groups,
            a_revoked_reader_can_be_added_again,
            a_retention_policy_is_enforced_when_it_was_counted,
            what_a_longer_policy_kept_is_not_removed_with_it,
            retention_limits_are_refused_by_name,
            channels_carry_positions_as_they_were_told,
            changes_of_this_and_of_other_processes_are_noticed,
            an_expiry_is_noticed,
        );
    };
}

/// The tests of presence, called as [`registry_suite`](crate::registry_suite) is.
#[macro_export]
macro_rules! presence_suite {
    ($($fixture:tt)*) => {
        $crate::suite_cases!(
            presence,
            ($($fixture)*),
            a_feeder_is_known_after_its_first_report,
            sessions_are_entered_and_change,
            an_older_session_changes_nothing,
            a_session_that_moved_is_not_closed_by_the_feeder_it_left,
            changes_are_paged_in_order,
            a_feeder_is_buried_with_its_sessions_unless_it_lives,
            too_many_notes_are_refused,
            two_feeders_at_once_lose_nothing,
        );
    };
}

/// The tests of commands, called as [`registry_suite`](crate::registry_suite) is. Their fixture also opens the registry
/// that they are kept beside: `Fixture<dyn RegistryWithCommands>`.
#[macro_export]
macro_rules! commands_suite {
    ($($fixture:tt)*) => {
        $crate::suite_cases!(
            commands,
            ($($fixture)*),
            a_command_is_sent_and_answered_once,
            a_key_is_one_command,
            what_cannot_be_is_refused_by_name,
            of_a_device_so_many_are_pending,
            commands_are_listed_newest_first_by_page_and_state,
            what_is_cancelled_is_not_sent,
            what_has_expired_is_not_sent,
            the_word_of_the_device_counts,
            finished_commands_are_forgotten_after_a_week,
            what_is_left_to_be_swept_is_said,
            devices_with_commands_are_found_page_by_page,
            what_was_returned_survives_a_restart,
            of_many_requests_with_one_key_one_makes_a_command,
        );
    };
}

/// The tests of a catalog.
#[macro_export]
macro_rules! catalog_suite {
    ($fixture:expr) => {
        $crate::suite_cases!(
            catalog,
            ($fixture),
            a_sealed_file_is_recorded_once,
            other_figures_of_a_known_file_are_a_conflict,
            files_merge_the_same_in_any_order,
            devices_are_paged_with_all_their_heads,
            the_first_copy_of_a_channels_last_frame_stays,
            removed_files_leave_the_devices,
            clearing_forgets_everything,
            what_was_recorded_survives_a_restart,
            a_value_that_does_not_fit_changes_nothing,
        );
    };
}

/// The tests of an object store, called as [`registry_suite`](crate::registry_suite) is; or
/// `objects_suite!(in_one, fixture)` as statements of a test that does more, such as being skipped.
#[macro_export]
macro_rules! objects_suite {
    (in_one, $fixture:expr) => {
        $crate::objects_suite!(@cases suite_in_one, $fixture)
    };
    (@cases $run:ident, $($fixture:tt)*) => {
        $crate::$run!(
            objects,
            ($($fixture)*),
            what_is_put_is_got_by_anybody,
            ranges_are_exact,
            ranges_that_make_no_sense_are_invalid,
            an_object_may_be_empty,
            an_object_of_8_mib,
            the_same_bytes_may_be_put_again,
            what_is_not_there_is_not_found,
            what_is_deleted_is_gone,
            listings_begin_with_a_prefix_and_go_on_behind_a_key,
            names_beside_a_directorys_are_listed_once_in_any_order,
            a_listing_longer_than_a_page_is_complete,
            odd_keys_are_ordinary_ones,
            many_puts_at_once_all_arrive,
            a_put_that_is_dropped_is_whole_or_nothing,
        );
    };
    ($($fixture:tt)*) => {
        $crate::objects_suite!(@cases suite_cases, $($fixture)*);
    };
}

/// The tests of a catalog of journal objects, called as [`registry_suite`](crate::registry_suite) is.
#[macro_export]
macro_rules! object_catalog_suite {
    ($($fixture:tt)*) => {
        $crate::suite_cases!(
            object_catalog,
            ($($fixture)*),
            the_same_row_again_is_a_success_and_other_content_is_not,
            a_row_needs_the_one_before_it,
            nothing_is_entered_behind_a_closing_row,
            closing_twice_is_closing_once,
            of_an_eater_and_those_who_close_it_one_gets_the_number,
            of_two_rows_with_one_number_one_is_entered,
            a_heartbeat_moves_the_time_and_a_beat_more_is_later,
            spans_are_found_in_order_between_the_bounds,
            wide_rows_stand_at_the_front,
            what_was_entered_is_seen_by_everybody_at_once,
            rows_are_read_in_order_page_by_page,
            removed_rows_are_found_by_nobody,
            removed_numbers_stay_taken,
            the_last_row_can_be_entered_again_though_it_is_removed,
            rows_are_entered_while_others_are_removed,
            heads_only_rise,
            devices_are_paged_with_their_newest_head,
            what_was_returned_survives_a_restart,
            a_lost_incarnation_is_restored_and_closed,
            what_was_lost_has_no_holes,
            a_row_lists_as_many_devices_as_it_may,
            a_value_that_does_not_fit_changes_nothing,
        );
    };
}

/// The tests of a catalog of segments, called as [`registry_suite`](crate::registry_suite) is.
#[macro_export]
macro_rules! segment_catalog_suite {
    ($($fixture:tt)*) => {
        $crate::suite_cases!(
            segment_catalog,
            ($($fixture)*),
            a_change_makes_the_next_manifest_whole,
            segments_are_listed_by_date_level_and_id,
            a_change_for_another_manifest_is_outdated,
            the_same_change_again_is_made_once,
            a_refused_change_changes_nothing,
            removed_segments_are_listed_until_they_are_forgotten,
            what_was_returned_survives_a_restart,
            a_claim_is_somebodys_until_it_is_given_back,
            a_claim_runs_out_and_is_taken_over_for_good,
            the_format_level_only_rises,
            a_claim_is_kept_from_who_looked_at_the_clock_before_it,
            a_claim_that_was_taken_over_commits_nothing,
            a_claim_is_neither_too_short_nor_too_long,
            of_many_changes_for_one_manifest_one_is_made,
            all_changes_are_made_one_after_another,
            of_many_who_claim_one_gets_it,
            of_a_change_and_who_takes_its_claim_over_one_is_first,
            a_manifest_is_of_one_moment,
            a_lost_catalog_is_restored,
            a_catalog_that_has_something_is_replaced_only_if_that_is_said,
            a_change_has_as_much_as_it_may,
        );
    };
}

/// The tests of an outbox, called as [`registry_suite`](crate::registry_suite) is.
#[macro_export]
macro_rules! outbox_suite {
    ($($fixture:tt)*) => {
        $crate::suite_cases!(
            outbox,
            ($($fixture)*),
            a_claim_is_somebodys_until_it_is_given_back,
            a_claim_runs_out_and_is_taken_over_for_good,
            a_claim_is_kept_from_who_looked_at_the_clock_before_it,
            of_many_who_claim_one_gets_it,
            who_was_taken_over_gets_through_with_nothing,
            a_claim_gives_the_right_to_its_own_part_only,
            a_claim_is_neither_too_long_nor_of_a_part_that_there_is_not,
            a_step_is_entered_whole,
            states_are_listed_by_device_and_rule,
            an_event_is_entered_once,
            what_waits_to_be_routed_is_in_the_order_in_which_it_was_entered,
            limits_of_a_step_are_refused_by_name,
            a_delivery_is_made_once_for_each_subscription_and_phone,
            an_event_may_be_routed_in_parts,
            what_is_dropped_is_noted_and_does_not_wait,
            what_is_not_due_waits,
            what_waits_is_bounded,
            what_is_resumed_may_be_full_for_a_while,
            what_waits_for_a_phone_is_bounded,
            a_test_is_delivered_at_once_and_is_no_event,
            positions_rise_whoever_routes,
            limits_of_routing_are_refused_by_name,
            of_one_key_one_goes_at_a_time_and_the_others_together,
            what_was_tried_takes_no_further_events,
            other_keys_and_phones_are_told_by_themselves,
            quiet_hours_hold_what_is_told_of_together,
            tries_are_noted,
            tries_are_noted_all_or_none,
            a_try_that_is_noted_twice_counts_once,
            a_replay_goes_to_the_back,
            what_is_held_counts_no_try,
            what_is_resumed_is_tried_at_once,
            what_there_is_not_is_not_found,
            what_is_finished_is_forgotten_after_a_while,
            news_rise_with_events_and_deliveries,
            deliveries_are_listed_newest_first,
            events_are_listed_newest_first,
        );
    };
}

/// The tests of rules, subscriptions and push tokens, called as [`registry_suite`](crate::registry_suite) is; the fixture
/// is of an [`InRegistry`](subscriptions::InRegistry).
#[macro_export]
macro_rules! subscriptions_suite {
    ($($fixture:tt)*) => {
        $crate::suite_cases!(
            subscriptions,
            ($($fixture)*),
            rules_are_replaced_under_rising_versions,
            a_rule_is_replaced_and_removed_only_as_it_was_seen,
            rules_that_are_not_sound_are_refused_by_name,
            a_subscription_is_added_once,
            a_subscription_is_replaced_under_its_id_and_owner,
            of_several_reasons_the_first_stays,
            subscriptions_that_are_not_sound_are_refused_by_name,
            a_phone_that_registers_again_is_one,
            of_too_many_phones_the_oldest_goes,
            what_a_reader_has_is_its_own_whatever_the_clock_showed,
            each_change_is_noticed_and_what_changes_nothing_is_not,
        );
    };
}
