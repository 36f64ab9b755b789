//! The ledger: its laws, held in each database, and what holds for one database alone.

#![expect(clippy::unwrap_used, reason = "a test ends at its first surprise")]

mod laws;
mod postgres;
mod sqlite;

use std::sync::Arc;

use stint::ports::Ledger;

/// Where one ledger is kept for the time of a test.
trait Bed: Sized {
    /// An empty one.
    async fn new() -> Self;
    /// Opens the ledger anew, as another process would.
    async fn open(&self) -> Arc<dyn Ledger>;
}

macro_rules! laws {
    ($($law:ident),* $(,)?) => {
        mod in_sqlite {
            use crate::{Bed, laws, sqlite};
            $(#[tokio::test]
            async fn $law() {
                laws::$law(&sqlite::File::new().await).await;
            })*
        }

        mod in_postgres {
            use crate::{Bed, laws, postgres};
            $(#[tokio::test]
            async fn $law() {
                laws::$law(&postgres::Database::new().await).await;
            })*
        }
    };
}

laws! {
    a_row_is_new_once_and_reads_back_as_committed,
    the_key_is_group_and_machine_together,
    a_runner_without_a_job_has_none_in_its_row,
    the_rows_of_a_job_are_those_it_ran_on_and_those_that_ran_nothing_for_it,
    more_seconds_than_the_table_holds_are_refused,
    concurrent_commits_of_one_row_are_new_exactly_once,
    charges_are_exact_sums_of_what_stopped_in_a_period_by_what_budgets_tell_apart,
    charges_go_on_from_the_newest_row_that_was_seen,
    absurd_amounts_are_summed_up_as_the_most_there_is,
    the_latest_rows_of_each_class_tell_how_long_they_took_however_many_another_has,
    later_logs_of_a_runner_replace_earlier_ones,
    logs_are_cut_to_their_last_64_kib_between_characters,
    logs_are_found_by_runner_and_by_the_job_it_was_started_for_newest_first,
    logs_are_found_by_the_job_that_the_runner_ran_instead,
    logs_kept_before_a_moment_are_forgotten_and_those_of_that_moment_stay,
    any_row_reads_back_as_committed,
}
