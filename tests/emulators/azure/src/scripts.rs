//! Scripted misbehaviour of Azure: what goes wrong, for which groups, how many times.
//!
//! One enum serves tests in the same process and `POST /_emulator/scripts` alike.

use std::collections::{BTreeMap, BTreeSet};

use emulator_common::glob_matches;
use serde::{Deserialize, Serialize};

use crate::options::{Limits, Timings};

/// One instruction. `group` and `image` may hold `*`; `count` is how many requests or groups are hit.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(tag = "script", rename_all = "kebab-case", rename_all_fields = "camelCase", deny_unknown_fields)]
pub enum Script {
    /// Groups are accepted, and end in `provisioningState: Failed` after the deployment time.
    FailProvisioning {
        /// Which groups.
        group: String,
        /// Error code, such as `ServiceUnavailable`; shown in the group's events and the operation.
        code: String,
        /// How many.
        count: u32,
    },
    /// Groups are accepted and stay Pending for ever.
    NeverProvision {
        /// Which groups.
        group: String,
        /// How many.
        count: u32,
    },
    /// PUTs are refused with this error.
    RefusePut {
        /// Which groups.
        group: String,
        /// HTTP status.
        status: u16,
        /// Error code.
        code: String,
        /// Seconds in `Retry-After`.
        #[serde(default)]
        retry_after: Option<u32>,
        /// How many.
        count: u32,
    },
    /// PUTs answer 503 although the group is created and runs (azure-aci#132).
    AnswerPutWith503 {
        /// Which groups.
        group: String,
        /// How many.
        count: u32,
    },
    /// A region has no capacity: PUTs answer 409 `ServiceUnavailable` until `short` is false again.
    NoCapacity {
        /// The region.
        region: String,
        /// Whether capacity is short.
        short: bool,
    },
    /// An image cannot be pulled: the PUT answers 400 `InaccessibleImage`, or, `at_pull`, provisioning fails later.
    MakeUnpullable {
        /// Which images.
        image: String,
        /// Whether it only shows when the image is pulled.
        #[serde(default)]
        at_pull: bool,
    },
    /// Undoes `MakeUnpullable` for that pattern.
    MakePullable {
        /// The pattern.
        image: String,
    },
    /// Groups vanish at once, with no DELETE.
    Vanish {
        /// Which groups.
        group: String,
    },
    /// Running containers are ended and started again, whatever the restart policy.
    RestartContainers {
        /// Which groups.
        group: String,
    },
    /// A container under `Never` is started again after a non-zero exit, as ACI may do (facts/aci.md, fact 4).
    IgnoreNever {
        /// Which groups.
        group: String,
        /// How many times.
        count: u32,
    },
    /// DELETE is accepted, and the group stays `Deleting` until released.
    HoldDelete {
        /// Which groups.
        group: String,
        /// Whether the containers (and the meter) go on meanwhile.
        #[serde(default)]
        keeps_running: bool,
    },
    /// Lets held DELETEs of that pattern go on.
    ReleaseDelete {
        /// The pattern given to `HoldDelete`.
        group: String,
    },
    /// DELETE is answered as if it worked, and nothing happens (azure-aci#32, #378, #409).
    LoseDelete {
        /// Which groups.
        group: String,
        /// How many.
        count: u32,
    },
    /// Replaces all limits.
    SetLimits {
        /// The new ones.
        limits: Limits,
    },
    /// What other tenants of the subscription use of a region's standing quota.
    SetUsageByOthers {
        /// The region.
        region: String,
        /// Their groups.
        groups: u32,
        /// Their cores.
        cores: u32,
    },
    /// Replaces all modelled durations for what starts from now on.
    SetTimings {
        /// The new ones.
        timings: Timings,
    },
}

/// An instruction that wears out.
#[derive(Debug)]
pub(crate) struct Armed<T> {
    pattern: String,
    left: u32,
    what: T,
}

/// What a PUT is refused with.
#[derive(Debug, Clone)]
pub(crate) struct Refusal {
    pub(crate) status: u16,
    pub(crate) code: String,
    pub(crate) retry_after: Option<u32>,
}

/// The instructions in force.
#[derive(Debug, Default)]
pub(crate) struct Scripts {
    pub(crate) fail_provisioning: Vec<Armed<String>>,
    pub(crate) never_provision: Vec<Armed<()>>,
    pub(crate) refuse_put: Vec<Armed<Refusal>>,
    pub(crate) answer_put_with_503: Vec<Armed<()>>,
    pub(crate) ignore_never: Vec<Armed<()>>,
    pub(crate) lose_delete: Vec<Armed<()>>,
    /// Pattern, and whether the containers go on.
    pub(crate) hold_delete: Vec<(String, bool)>,
    pub(crate) no_capacity: BTreeSet<String>,
    /// Pattern, and whether it only shows at the pull.
    pub(crate) unpullable: BTreeMap<String, bool>,
}

impl Scripts {
    /// Whether DELETE of `group` is held, and if so whether its containers go on.
    pub(crate) fn held(&self, group: &str) -> Option<bool> {
        self.hold_delete.iter().find(|(pattern, _)| glob_matches(pattern, group)).map(|(_, runs)| *runs)
    }

    /// Whether `image` cannot be pulled, as it shows at the pull or already at the PUT.
    pub(crate) fn is_unpullable(&self, image: &str, at_pull: bool) -> bool {
        self.unpullable.iter().any(|(pattern, when)| *when == at_pull && glob_matches(pattern, image))
    }
}

pub(crate) fn arm<T>(list: &mut Vec<Armed<T>>, pattern: String, left: u32, what: T) {
    list.push(Armed { pattern, left, what });
}

/// Uses up one count of the first instruction that fits `group`.
pub(crate) fn take<T: Clone>(list: &mut Vec<Armed<T>>, group: &str) -> Option<T> {
    list.retain(|armed| armed.left > 0);
    let armed = list.iter_mut().find(|armed| glob_matches(&armed.pattern, group))?;
    armed.left -= 1;
    Some(armed.what.clone())
}
