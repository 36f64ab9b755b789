//! `stint simulate`: jobs that were, or might be, replayed through the planner in virtual time.
//!
//! Every decision is `runner-core`'s own: the engine shows its planner a snapshot, carries its plans out in memory, and
//! lets a model of Azure, of node pools and of GitHub answer. Nothing here reaches any outside, reads a clock, or decides
//! for the planner; the same inputs and seed give the same bytes.

mod chance;
mod engine;
mod gauges;
mod generate;
mod github;
mod history;
mod ledger_history;
mod quota;
mod record;
mod report;
mod scenario;
mod spending;
mod start_model;
mod statistics;

pub use engine::run;
pub use generate::Generator;
pub use history::{PastJob, of_csv, of_json_lines, read as read_jobs};
pub use ledger_history::{LedgerHistory, read as read_ledger};
pub use quota::Quota;
pub use record::{BillRecord, Bin, GaugeKey, GaugeRecord, JobRecord, Outcome, Ran, STARTING};
pub use report::{Report, Trial};
pub use scenario::Scenario;
pub use start_model::{KEYS as START_MODEL_KEYS, StartModel};
pub use statistics::{Change, Cost, Summary, Use, WaitedFor, Waits, difference, summary};
