//! Listing the runners that are registered at a scope: all, or the one of a name.

use http::StatusCode;
use runner_core::setup::Scope;

use super::errors::Call;
use super::{GitHubProvider, encode, runners_path, runners_remedy, wire};
use crate::ports::{CallError, CallErrorKind, CallResult, RegisteredRunner};

/// Runners on one page of a listing, the most that GitHub gives.
const PAGE: usize = 100;
/// Pages that are read at most: as many runners as a group holds.
const MAX_PAGES: usize = 100;

impl GitHubProvider {
    /// All runners of a scope.
    pub(super) async fn list_runners(&self, scope: &Scope) -> CallResult<Vec<RegisteredRunner>> {
        let mut all = Vec::new();
        for page in 1..=MAX_PAGES {
            let runners = self.runners_page(scope, "", page).await?;
            let last = runners.len() < PAGE;
            all.extend(runners.into_iter().map(RegisteredRunner::from));
            if last {
                // A runner that goes while pages are read moves the others: one may stand on two pages, or on none, which
                // the next reading finds.
                all.sort_by_key(|runner| runner.id);
                all.dedup_by_key(|runner| runner.id);
                return Ok(all);
            }
        }
        let message = format!("list runners: more than {} runners", PAGE * MAX_PAGES);
        Err(CallError::new(CallErrorKind::Refused, message))
    }

    /// The runner of this name, or `None` if GitHub lists none. Not every server filters by name.
    pub(super) async fn look_up(&self, scope: &Scope, name: &str) -> CallResult<Option<RegisteredRunner>> {
        let filter = format!("name={}&", encode(name));
        for page in 1..=MAX_PAGES {
            let runners = self.runners_page(scope, &filter, page).await?;
            let last = runners.len() < PAGE;
            let found = runners.into_iter().find(|runner| runner.name.eq_ignore_ascii_case(name));
            if found.is_some() || last {
                return Ok(found.map(RegisteredRunner::from));
            }
        }
        let message = format!("list runners: more than {} runners, none of them {name}", PAGE * MAX_PAGES);
        Err(CallError::new(CallErrorKind::Refused, message))
    }

    async fn runners_page(&self, scope: &Scope, filter: &str, page: usize) -> CallResult<Vec<wire::Runner>> {
        let path = format!("{}?{filter}per_page={PAGE}&page={page}", runners_path(scope)?);
        let answer = self.send(scope, Call::get("list runners", path)).await?;
        let list: wire::Runners = match answer.status {
            StatusCode::OK => answer.read()?,
            _ => return Err(answer.error(runners_remedy(scope))),
        };
        self.prove(scope);
        Ok(list.runners)
    }
}

impl From<wire::Runner> for RegisteredRunner {
    fn from(runner: wire::Runner) -> Self {
        Self {
            id: runner.id,
            name: runner.name,
            busy: runner.busy,
            online: runner.status == "online",
            labels: runner.labels,
        }
    }
}
