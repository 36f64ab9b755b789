//! An emulator of Azure Resource Manager and Azure Container Instances, as far as runners need them.
//!
//! It owns: the wire behaviour of `Microsoft.ContainerInstance` (states, codes, quotas, paging, long-running operations), a
//! managed identity endpoint, a meter that says what Azure would bill, and the containers themselves, which run as processes
//! of this machine. It must not depend on any of Stint's code: it is what Stint is tested against.
//!
//! Sources: virtual-kubelet/azure-aci v1.6.4 and its SDK's models for what a client needs to find in an answer, Azure's public
//! documentation for rules and limits; where neither says a word (some codes), the module says so.
//!
//! ```no_run
//! # async fn example() -> anyhow::Result<()> {
//! use emulator_azure::{Azure, Options};
//! let azure = Azure::start(Options::fast(["target/debug/standin-agent"])).await?;
//! azure.set_usage_by_others("westeurope", 99, 0);
//! println!("{} {:?}", azure.url(), azure.meter());
//! # Ok(())
//! # }
//! ```

mod arm;
mod changes;
mod groups;
mod handle;
mod options;
mod quota;
mod scripts;
mod world;

pub mod standin_agent;

pub use groups::meter::MeterRow;
pub use groups::process::EMULATED_ROOT;
pub use groups::view::{ContainerView, GroupView};
pub use groups::{ContainerStatus, GroupState, ProvisioningState};
pub use handle::{Azure, AzureHandle};
pub use options::{Bearer, DeleteAnswer, ImageRule, Limits, Options, Timings};
pub use scripts::Script;
