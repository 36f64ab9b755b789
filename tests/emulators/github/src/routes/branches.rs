//! Branches, and how commits stand to each other.

use axum::Extension;
use axum::extract::{Path as FromPath, State};
use serde_json::json;

use super::{By, Path, Shares, allowed};
use crate::answer::{Answer, ApiError, ok};

pub(super) async fn branch(
    State(shared): Shares,
    Extension(by): By,
    FromPath((owner, repo, name)): Path<(String, String, String)>,
) -> Answer {
    let key = allowed(&shared, &by, (&owner, &repo), "contents", false)?;
    shared.read(|state| {
        let found = state.branches.get(&(key.clone(), name.clone()));
        let branch =
            found.ok_or_else(|| ApiError::new(axum::http::StatusCode::NOT_FOUND, "Branch not found"))?;
        ok(state.writer().branch(&key, &name, branch))
    })
}

pub(super) async fn compare(
    State(shared): Shares,
    Extension(by): By,
    FromPath((owner, repo, basehead)): Path<(String, String, String)>,
) -> Answer {
    let key = allowed(&shared, &by, (&owner, &repo), "contents", false)?;
    let (base, head) = basehead.split_once("...").ok_or_else(ApiError::not_found)?;
    shared.read(|state| {
        if !state.has_commit(&key, base) || !state.has_commit(&key, head) {
            return Err(ApiError::not_found());
        }
        let (status, ahead, behind) = state.compare(&key, base, head);
        let url = format!("{}/repos/{key}/compare/{base}...{head}", shared.base());
        let html = format!("{}/{key}/compare/{base}...{head}", shared.base());
        let writer = state.writer();
        ok(json!({
            "url": url,
            "html_url": html,
            "permalink_url": html,
            "diff_url": format!("{html}.diff"),
            "patch_url": format!("{html}.patch"),
            "base_commit": writer.commit(&key, base),
            "merge_base_commit": writer.commit(&key, base),
            "status": status,
            "ahead_by": ahead,
            "behind_by": behind,
            "total_commits": ahead,
            "commits": [],
            "files": [],
        }))
    })
}
