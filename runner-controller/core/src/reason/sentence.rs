//! What each reason says to the person who asks why.

use super::Reason;

impl Reason {
    /// One sentence for the person who asks why.
    pub fn sentence(&self) -> String {
        match self {
            Reason::InstallationFull { running, limit } => {
                format!("{running} of {limit} runners are in use; the job starts when one ends")
            }
            Reason::ClassFull { class, running, limit } => {
                format!(
                    "{running} of {limit} runners of class {class} are in use; the job starts when one ends"
                )
            }
            Reason::SizeFull { label, running, limit } => {
                format!(
                    "{running} of {limit} runners of size {label} are in use; the job starts when one ends"
                )
            }
            Reason::LimitReached { limit, group, what, used, cap, needs } => {
                let of_group = if group.is_empty() { String::new() } else { format!(" for {group}") };
                let (figures, unit) =
                    (format!("{} of {}", what.figure(*used), what.figure(*cap)), what.unit());
                let needed = what.figure(*needs);
                if needs > cap {
                    format!(
                        "limit {limit} allows {} {unit}{of_group}, and the job alone needs {needed}",
                        what.figure(*cap)
                    )
                } else {
                    format!(
                        "limit {limit}{of_group}: {figures} {unit} are in use, and the job needs {needed}"
                    )
                }
            }
            Reason::LimitPaused { limit } => {
                format!("limit {limit} is paused: nothing that it matches is started")
            }
            Reason::ReservedForAnother { limit, job } => {
                format!(
                    "what room limit {limit} has is kept for job {job}, which is larger and has waited for long"
                )
            }
            Reason::BudgetSpent { budget, figures } => format!("budget {budget}{}", figures.sentence()),
            Reason::BudgetUnknown { budget } => {
                format!("what is spent of budget {budget} is not known: the ledger cannot be read")
            }
            Reason::AwaitingApproval => "the source holds the job back, as for an approval".to_owned(),
            Reason::ConfirmingWithSource => {
                "the source is asked whether the job still waits, before a runner is started for it"
                    .to_owned()
            }
            Reason::ReadingBranch => {
                "the source is asked whether the job's branch is protected, which a limit or priority turns on"
                    .to_owned()
            }
            Reason::SourceUnavailable { source, why } => {
                format!("no runner can register with source {source}: {why}")
            }
            Reason::RegistrationsSpent { source, until } => {
                format!("source {source} lets no more runners register for now; the next may at {until}")
            }
            Reason::NoPlace => {
                "no place to run: no virtual node was found and no RunnerPlace is configured".to_owned()
            }
            Reason::PlaceUnknown { class, place } => {
                format!("class {class} names place {place}, which does not exist")
            }
            Reason::PlaceAmbiguous { class, places } => {
                format!("class {class} must say in places.order which of {} to use", places.join(", "))
            }
            Reason::PlaceNotReady { place, why } => format!("place {place} cannot start a runner: {why}"),
            Reason::PlaceUnsuitable { place, class, need } => {
                format!("place {place} cannot give runners of class {class} what they need: {}", need.as_str())
            }
            Reason::PlaceFull { place, until: Some(until) } => {
                format!(
                    "place {place} has no room; it is tried again at {until}, or once a runner there ends"
                )
            }
            Reason::PlaceFull { place, until: None } => {
                format!("place {place} has no room; one runner already waits for it or tries it again")
            }
            Reason::QuotaReached { place, of, exceeded } if exceeded.never_fits() => {
                format!("place {place} has too little quota for the job: {}", exceeded.sentence(of))
            }
            Reason::QuotaReached { place, of, exceeded } => {
                format!("place {place} has no quota left: {}", exceeded.sentence(of))
            }
            Reason::RetryPause { until, started, limit } => {
                format!(
                    "a runner for it failed ({started} of at most {limit} attempts are used up); the next comes at {until}"
                )
            }
            Reason::NoClassNamed { labels } if labels.is_empty() => "the job asks for no label".to_owned(),
            Reason::NoClassNamed { labels } => format!("no class has the label {}", labels.join(" or ")),
            Reason::SeveralClassesNamed { labels } => {
                format!("the job names {}; it must name one", labels.join(" and "))
            }
            Reason::SizeMissing { class, sizes } => {
                format!("class {class} has sizes: ask for one of {}", join_labels(class, sizes))
            }
            Reason::SizeUnknown { class, size, sizes } => {
                format!("class {class} has no size {size}: ask for one of {}", join_labels(class, sizes))
            }
            Reason::CustomSizeRefused { label, why } => format!("no runner is started for {label}: {why}"),
            Reason::LabelNotCarried { class, label } => {
                format!("runners of {class} do not carry the label {label}")
            }
            Reason::SourceMissing { source } => format!("source {source} is not configured"),
            Reason::RepositoryNotServed { source, repository } => {
                format!("source {source} does not list {repository} or its owner")
            }
            Reason::PublicRepository { source, repository } => {
                format!("{repository} is public, which source {source} does not allow")
            }
            Reason::AttemptsExhausted { started, limit } => {
                format!("{started} of at most {limit} runners were started for the job, and none ran it")
            }
            Reason::ContainerEnded => "its container ended".to_owned(),
            Reason::AgentExited => "its agent said that it is exiting".to_owned(),
            Reason::RunnerTooOld => {
                "its source takes no runner of its version: the image's runner is too old, update it".to_owned()
            }
            Reason::IdleRemoved => {
                "its agent ended while it waited for a job, as when its source removes an idle registration"
                    .to_owned()
            }
            Reason::Restarted => {
                "its container was started again, and a runner's credential works only once".to_owned()
            }
            Reason::StartFailed { why } => format!("its container did not start: {why}"),
            Reason::NoCapacity { why } => format!("there was no room for its container: {why}"),
            Reason::Unschedulable { why } => format!("no node of its place takes its pod: {why}"),
            Reason::Vanished => "its pod or container group vanished".to_owned(),
            Reason::Interrupted { call } => {
                format!("the controller stopped while it {call}; what came of it is removed")
            }
            Reason::RegistrationFailed { why } => format!("the source did not register it: {why}"),
            Reason::NameTaken { why } => format!("its name is another one's: {why}"),
            Reason::NotScheduled => "no node took its pod in time".to_owned(),
            Reason::NotRunning => "its container did not run in time".to_owned(),
            Reason::NotOnline => "its agent did not come online in time".to_owned(),
            Reason::Idle => "it got no job in time".to_owned(),
            Reason::Surplus => "no job needs it".to_owned(),
            Reason::Deleted => "its record was deleted".to_owned(),
        }
    }
}

pub(super) fn join_labels(class: &str, sizes: &[String]) -> String {
    sizes.iter().map(|size| format!("{class}-{size}")).collect::<Vec<_>>().join(", ")
}
