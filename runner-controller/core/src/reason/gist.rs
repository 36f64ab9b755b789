//! What each code means, without names and figures: what a record can keep saying while those change.

/// What a code means, in one sentence; the same as in the list of docs/errors. `None`: it is no code of a reason.
pub fn gist(code: &str) -> Option<&'static str> {
    GISTS.iter().find(|(known, _)| *known == code).map(|(_, gist)| *gist)
}

const GISTS: [(&str, &str); super::Reason::CODES.len()] = [
    ("InstallationFull", "The limit on all runners is reached."),
    ("ClassFull", "The limit of the class is reached."),
    ("SizeFull", "The limit of one size of the class is reached."),
    ("LimitReached", "A ConcurrencyLimit that the job comes under has no room for it."),
    ("LimitPaused", "A ConcurrencyLimit that the job comes under is paused."),
    ("ReservedForAnother", "What room a limit has is kept for a larger job that has waited for long."),
    ("AwaitingApproval", "The source holds the job back."),
    ("ConfirmingWithSource", "The source is asked whether the job still waits."),
    ("SourceUnavailable", "No runner can register with the source now."),
    ("NoPlace", "There is no place to run."),
    ("PlaceUnknown", "The class names a place that does not exist."),
    ("PlaceAmbiguous", "There are several places, and the class does not choose."),
    ("PlaceNotReady", "No place of the class can start a runner now."),
    ("PlaceFull", "No place of the class has room."),
    ("RetryPause", "A runner for the job failed; the next one comes after a pause."),
    ("NoClassNamed", "None of the job's labels names a class."),
    ("SeveralClassesNamed", "The job's labels name more than one class or size."),
    ("SizeMissing", "The job names a class, but none of its sizes."),
    ("SizeUnknown", "The job names a size that the class does not have."),
    ("LabelNotCarried", "The job asks for a label that the class's runners do not carry."),
    ("SourceMissing", "The job's source is not configured."),
    ("RepositoryNotServed", "The source does not serve the job's repository."),
    ("PublicRepository", "The repository is public, which the source does not allow."),
    ("AttemptsExhausted", "As many runners as allowed were started for the job, and none ran it."),
    ("ContainerEnded", "Its container ended."),
    ("AgentExited", "Its agent said that it is exiting."),
    ("StartFailed", "Its container did not start."),
    ("NoCapacity", "The platform had no room or quota for its container."),
    ("Unschedulable", "No node of its pool had room for its pod."),
    ("Vanished", "Its pod or container group vanished, or is being deleted by somebody else."),
    ("Interrupted", "A call that cannot be repeated was begun, and its result is unknown."),
    ("RegistrationFailed", "The source refused to register it."),
    ("NotScheduled", "No node took its pod in time."),
    ("NotRunning", "Its container did not run in time."),
    ("NotOnline", "Its agent did not come online in time."),
    ("Idle", "It got no job in time."),
    ("Surplus", "No job needs it."),
    ("Deleted", "Its record was deleted."),
];
