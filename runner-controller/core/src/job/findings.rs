//! What Stint itself found out about a job, or did for it at its source, each thing set once.

use jiff::Timestamp;

/// Findings about a job. What is set is never changed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Findings {
    /// Whether it runs the code of a protected branch, as its source said when it was asked.
    pub protected_branch: Option<bool>,
    /// When the first notice of it was about to be published: one may be there from then on.
    pub notice_begun: Option<Timestamp>,
    /// The source's id of that notice (GitHub: of the check-run).
    pub notice_id: Option<String>,
    /// When the notice was given its last word, or nothing could be published any more.
    pub notice_ended: Option<Timestamp>,
}

/// One of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Finding {
    /// Whether the job runs the code of a protected branch.
    ProtectedBranch(bool),
    /// A notice is about to be published.
    NoticeBegun(Timestamp),
    /// The notice has this id.
    NoticeId(String),
    /// The notice has its last word.
    NoticeEnded(Timestamp),
}

impl Findings {
    /// Adds a finding, unless there is one of its kind.
    pub fn add(&mut self, finding: Finding) {
        match finding {
            Finding::ProtectedBranch(is) => self.protected_branch = self.protected_branch.or(Some(is)),
            Finding::NoticeBegun(at) => self.notice_begun = self.notice_begun.or(Some(at)),
            Finding::NoticeId(id) => self.notice_id = self.notice_id.take().or(Some(id)),
            Finding::NoticeEnded(at) => self.notice_ended = self.notice_ended.or(Some(at)),
        }
    }
}
