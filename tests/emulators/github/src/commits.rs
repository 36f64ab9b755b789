//! What hangs on commits: branches, and the check-runs that Apps show. There is no git: a branch is the list of commits
//! that were pushed to it here.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::payload::{Writer, commit_sha, node_id, time, time_or_null};
use crate::state::State;

/// A branch of a repository.
#[derive(Clone, Debug)]
pub(crate) struct Branch {
    pub(crate) protected: bool,
    /// Oldest first; never empty.
    pub(crate) commits: Vec<String>,
}

impl Branch {
    pub(crate) fn tip(&self) -> &str {
        self.commits.last().map_or("", String::as_str)
    }
}

/// A check-run as tests and `/_emulator/check-runs` see it.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CheckRunView {
    /// Its id.
    pub id: u64,
    /// `owner/name`, in lower case.
    pub repository: String,
    /// The commit.
    pub head_sha: String,
    /// Its name.
    pub name: String,
    /// What its App calls it.
    pub external_id: Option<String>,
    /// Where it leads.
    pub details_url: Option<String>,
    /// `queued`, `in_progress` or `completed`.
    pub status: String,
    /// How it ended.
    pub conclusion: Option<String>,
    /// When it began, or was made.
    pub started_at: Option<Timestamp>,
    /// When it ended.
    pub completed_at: Option<Timestamp>,
    /// Title of its output.
    pub title: Option<String>,
    /// Summary of its output.
    pub summary: Option<String>,
    /// Text of its output.
    pub text: Option<String>,
    /// How often it was written.
    pub writes: u32,
}

impl State {
    /// Adds a branch with one commit, or changes whether it is protected.
    pub(crate) fn set_branch(&mut self, repository: &str, name: &str, protected: bool) {
        let first = commit_sha(self.next("commit") + 1_000_000_000);
        let key = (repository.to_owned(), name.to_owned());
        let branch = self.branches.entry(key).or_insert_with(|| Branch { protected, commits: vec![first] });
        branch.protected = protected;
    }

    /// Puts a commit on a branch, where there is one of that name.
    pub(crate) fn push_to(&mut self, repository: &str, branch: &str, sha: &str) {
        if let Some(branch) = self.branches.get_mut(&(repository.to_owned(), branch.to_owned())) {
            branch.commits.push(sha.to_owned());
        }
    }

    /// Whether a repository has a commit: one that was pushed or built there.
    pub(crate) fn has_commit(&self, repository: &str, sha: &str) -> bool {
        self.runs.values().any(|run| run.repository.eq_ignore_ascii_case(repository) && run.head_sha == sha)
            || self.branches.iter().any(|((of, _), branch)| {
                of == repository && branch.commits.iter().any(|commit| commit == sha)
            })
    }

    /// How `head` stands to `base`, with by how many commits it is ahead and behind.
    pub(crate) fn compare(&self, repository: &str, base: &str, head: &str) -> (&'static str, usize, usize) {
        if base == head {
            return ("identical", 0, 0);
        }
        let of_repository = self.branches.iter().filter(|((of, _), _)| of == repository);
        for (_, branch) in of_repository {
            let place = |sha: &str| branch.commits.iter().position(|commit| commit == sha);
            match (place(base), place(head)) {
                (Some(base), Some(head)) if base < head => return ("ahead", head - base, 0),
                (Some(base), Some(head)) => return ("behind", 0, base - head),
                (None, _) | (_, None) => {}
            }
        }
        ("diverged", 1, 1)
    }
}

impl Writer<'_> {
    /// A commit of `repository`.
    pub(crate) fn commit(self, repository: &str, sha: &str) -> Value {
        let api = format!("{}/repos/{repository}", self.base);
        let author =
            json!({"name": "octocat", "email": "octocat@example.com", "date": "2026-01-01T00:00:00Z"});
        json!({
            "sha": sha,
            "node_id": node_id("C", 1),
            "url": format!("{api}/commits/{sha}"),
            "html_url": format!("{}/{repository}/commit/{sha}", self.base),
            "comments_url": format!("{api}/commits/{sha}/comments"),
            "commit": {
                "url": format!("{api}/git/commits/{sha}"),
                "author": author,
                "committer": author,
                "message": "Change",
                "comment_count": 0,
                "tree": {"sha": sha, "url": format!("{api}/git/trees/{sha}")},
            },
            "author": self.sender(),
            "committer": self.sender(),
            "parents": [],
        })
    }

    /// A branch with what protects it.
    pub(crate) fn branch(self, repository: &str, name: &str, branch: &Branch) -> Value {
        let url = format!("{}/repos/{repository}/branches/{name}", self.base);
        json!({
            "name": name,
            "commit": self.commit(repository, branch.tip()),
            "_links": {"self": url, "html": format!("{}/{repository}/tree/{name}", self.base)},
            "protected": branch.protected,
            "protection": {"enabled": branch.protected},
            "protection_url": format!("{url}/protection"),
        })
    }

    /// A check-run of `app`.
    pub(crate) fn check_run(self, run: &CheckRunView, app: &Value) -> Value {
        let url = format!("{}/repos/{}/check-runs/{}", self.base, run.repository, run.id);
        json!({
            "id": run.id,
            "node_id": node_id("CR", run.id),
            "head_sha": run.head_sha,
            "external_id": run.external_id,
            "url": url,
            "html_url": format!("{}/{}/runs/{}", self.base, run.repository, run.id),
            "details_url": run.details_url,
            "status": run.status,
            "conclusion": run.conclusion,
            "started_at": time_or_null(run.started_at),
            "completed_at": time_or_null(run.completed_at),
            "output": {
                "title": run.title,
                "summary": run.summary,
                "text": run.text,
                "annotations_count": 0,
                "annotations_url": format!("{url}/annotations"),
            },
            "name": run.name,
            "check_suite": {"id": run.id + 1},
            "app": app,
            "pull_requests": [],
        })
    }
}

/// A time that GitHub was given, as it shows it.
pub(crate) fn given_time(text: &str) -> Option<Timestamp> {
    text.parse().ok().and_then(|at: Timestamp| time(at).parse().ok())
}
