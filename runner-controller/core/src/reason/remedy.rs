//! What would have to change for a job that waits, is refused or was given up, or to keep a runner from the same end.
//!
//! Names the object and the field to edit, in one line. A name comes from admins' documents or from the job; none is
//! meant to be run by a shell without being read.

use super::Reason;
use super::sentence::join_labels;
use crate::labels::GENERIC;
use crate::limit::Capped;

impl Reason {
    /// What would have to change, in one line: what ends the wait by itself, or which object and field to edit.
    pub fn remedy(&self) -> String {
        let class_cap = |class: &str, field: &str| {
            format!("one ends by itself; for more at once: kubectl edit runnerclass {class}: raise {field}")
        };
        match self {
            Reason::InstallationFull { .. } => {
                "one ends by itself; for more at once: start Stint with a higher --max-runners".to_owned()
            }
            Reason::ClassFull { class, .. } => class_cap(class, "spec.maxRunners"),
            Reason::SizeFull { label, .. } => format!(
                "one ends by itself; for more at once: raise maxRunners of this size, under spec.sizes of the RunnerClass that offers the label {label}"
            ),
            Reason::LimitReached { limit, what, .. } if self.never_fits() => format!(
                "ask for a smaller size, or: kubectl edit concurrencylimit {limit}: raise spec.max.{} to what the job needs",
                field(*what)
            ),
            Reason::LimitReached { limit, what, .. } => format!(
                "a runner that counts there ends by itself; for more at once: kubectl edit concurrencylimit {limit}: raise spec.max.{}",
                field(*what)
            ),
            Reason::LimitPaused { limit } => {
                format!("kubectl edit concurrencylimit {limit}: set spec.paused to false")
            }
            Reason::ReservedForAnother { limit, .. } => format!(
                "nothing to do: the larger job starts first; for more at once: kubectl edit concurrencylimit {limit}: raise spec.max"
            ),
            Reason::BudgetSpent { budget, .. } if self.never_fits() => format!(
                "ask for a smaller size, or: `kubectl edit budget {budget}`: raise spec.amount to what the job is expected \
                 to cost, or set spec.whenSpent to Warn; if its class's runners take less time, set the class's \
                 spec.expectedDuration"
            ),
            Reason::BudgetSpent { budget, .. } => format!(
                "it starts once runners end that cost less than was reserved, or when the next period begins; sooner: \
                 `kubectl edit budget {budget}`: raise spec.amount, or set spec.whenSpent to Warn"
            ),
            Reason::BudgetUnknown { .. } => {
                "make the ledger readable again: the controller's log tells what is wrong with it".to_owned()
            }
            Reason::AwaitingApproval => {
                "approve the deployment, or what else holds the job back, at its source".to_owned()
            }
            Reason::ConfirmingWithSource => {
                "nothing to do: the answer comes within a minute, unless the source cannot be reached".to_owned()
            }
            Reason::ReadingBranch => "nothing to do: the answer comes by itself; the controller's log tells if the source \
                                      refuses to say"
                .to_owned(),
            Reason::SourceUnavailable { source, .. } => {
                format!("kubectl describe runnersource {source}: mend what its status names")
            }
            Reason::RegistrationsSpent { .. } => "nothing to do: it starts once the limit is given anew; for more at once, \
                                                  serve part of the repositories by a RunnerSource with a GitHub App of \
                                                  its own"
                .to_owned(),
            Reason::NoPlace => {
                "enable the cluster's virtual node, or create a RunnerPlace with spec.nodePool or spec.virtualNode"
                    .to_owned()
            }
            Reason::PlaceUnknown { class, place } => format!(
                "kubectl edit runnerclass {class}: correct spec.places.order, or create the RunnerPlace {place}"
            ),
            Reason::PlaceAmbiguous { class, .. } => {
                format!("kubectl edit runnerclass {class}: name the places to use in spec.places.order")
            }
            Reason::PlaceNotReady { place, .. } => format!(
                "make place {place} ready (its node, or spec.state of the RunnerPlace {place}), or name a further place in the class's spec.places.order"
            ),
            Reason::PlaceUnsuitable { class, need, .. } => format!(
                "`kubectl edit runnerclass {class}`: name a node pool in spec.places.order, or do without {} in spec.needs \
                 and spec.podTemplate",
                need.as_str()
            ),
            Reason::PlaceFull { place, .. } => format!(
                "room at {place} comes by itself as runners end; for more: a larger quota or pool, or a further place in the class's spec.places.order"
            ),
            Reason::QuotaReached { place, .. } if self.never_fits() => format!(
                "ask for a smaller size, or have Azure raise the quota and spec.quota of place {place} with it, or name a \
                 further place in the class's spec.places.order"
            ),
            Reason::QuotaReached { place, .. } => format!(
                "room comes by itself as groups end and time passes; for more: have Azure raise the quota and say so in \
                 spec.quota of place {place}, or name a further place in the class's spec.places.order"
            ),
            Reason::RetryPause { .. } => {
                "nothing to do: the next runner comes by itself; `kubectl get runners` tells why the last one failed"
                    .to_owned()
            }
            Reason::NoClassNamed { labels } => {
                // A class cannot have the labels that every runner carries.
                let own = labels.iter().filter(|label| !GENERIC.contains(&label.to_lowercase().as_str()));
                let own: Vec<&str> = own.map(String::as_str).collect();
                let or = if own.is_empty() {
                    String::new()
                } else {
                    format!(", or create a RunnerClass named {}", own.join(" or "))
                };
                format!("name a class's label in the workflow's runs-on{or}")
            }
            Reason::SeveralClassesNamed { .. } => {
                "leave one of these labels in the workflow's runs-on".to_owned()
            }
            Reason::SizeMissing { class, sizes } | Reason::SizeUnknown { class, sizes, .. } => {
                format!(
                    "write one of {} in the workflow's runs-on, or: kubectl edit runnerclass {class}: add the size to spec.sizes",
                    join_labels(class, sizes)
                )
            }
            Reason::CustomSizeRefused { .. } => {
                "change the label in the workflow, or spec.customSize of the RunnerClass".to_owned()
            }
            Reason::LabelNotCarried { label, .. } => format!(
                "take {label} out of the workflow's runs-on, or add it to spec.labels of the RunnerClass that the job names"
            ),
            Reason::SourceMissing { source } => format!("create the RunnerSource {source} again"),
            Reason::RepositoryNotServed { source, repository } => format!(
                "kubectl edit runnersource {source}: add {repository} to spec.github.repositories, or its owner to spec.github.owners"
            ),
            Reason::PublicRepository { source, .. } => format!(
                "anyone may propose code to a public repository: make it private, or, knowing that, kubectl edit runnersource {source}: set spec.github.publicRepositories to Allow"
            ),
            Reason::AttemptsExhausted { .. } => {
                "mend what its runners failed of (`kubectl get runners`, `stint logs RUNNER`), then run the job again at its source"
                    .to_owned()
            }
            Reason::ContainerEnded | Reason::AgentExited => "nothing to do: a runner takes one job".to_owned(),
            Reason::RunnerTooOld => {
                "build the image with a newer runner (GitHub wants an update within 30 days of a release), and name it in spec.image of the class"
                    .to_owned()
            }
            Reason::IdleRemoved => "nothing to do: another runner comes after a pause".to_owned(),
            Reason::Restarted => {
                "see with `stint logs RUNNER` why the container ended at first: its entrypoint should always exit with 0"
                    .to_owned()
            }
            Reason::StartFailed { .. } => {
                "read the cause: mostly an image that cannot be pulled, or a pod that the platform refuses (spec.image and spec.podTemplate of the class)"
                    .to_owned()
            }
            Reason::NoCapacity { .. } => {
                "room comes by itself; for more: a larger quota of the subscription, or a further place in the class's spec.places.order"
                    .to_owned()
            }
            Reason::Unschedulable { .. } => {
                "room comes by itself; for more: a larger pool, or a further place in the class's spec.places.order"
                    .to_owned()
            }
            Reason::Vanished => {
                "find out who deleted its pod or group; Stint started another runner if the job still waited"
                    .to_owned()
            }
            Reason::Interrupted { .. } => "nothing to do: the job's next runner comes by itself".to_owned(),
            Reason::RegistrationFailed { .. } => {
                "read the cause: mostly a permission that the App or token lacks for runners".to_owned()
            }
            Reason::NameTaken { .. } => {
                "nothing to do after a restore: the next runner has another name; else see whether two installations share an id (--installation)"
                    .to_owned()
            }
            Reason::NotScheduled => {
                "give the place room, or raise spec.deadlines.scheduled of the class".to_owned()
            }
            Reason::NotRunning => {
                "see whether the image can be pulled in time, or raise spec.deadlines.running of the class"
                    .to_owned()
            }
            Reason::NotOnline => {
                "see with `stint logs RUNNER` whether the agent reaches its source, or raise spec.deadlines.online of the class"
                    .to_owned()
            }
            Reason::Idle | Reason::Surplus => "nothing to do: another runner took the job".to_owned(),
            Reason::Deleted => "nothing to do, if an admin meant it".to_owned(),
        }
    }
}

/// The field of `spec.max` that caps it.
fn field(what: Capped) -> &'static str {
    match what {
        Capped::Runners => "runners",
        Capped::Cpu => "cpu",
        Capped::Memory => "memory",
    }
}
