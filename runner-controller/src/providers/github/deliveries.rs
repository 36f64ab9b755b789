//! Deliveries of hooks, as GitHub keeps them for three days: the App's own hook, or, with a token, those of the
//! organizations and repositories that a source lists.
//!
//! A hook is named by its path, such as `app/hook` or `orgs/acme/hooks/1`.

use http::{StatusCode, Uri, header};
use jiff::Timestamp;
use runner_core::job::JobAction;
use runner_core::setup::Scope;
use runner_core::sweep::{Attempt, Page};

use super::access::Access;
use super::errors::{Answer, Call};
use super::lists::Remembered;
use super::{checked, encode, repository_path, wire};
use crate::ports::{CallError, CallErrorKind, CallResult, Delivery, DeliveryPage, HooksWanted};

/// The App's hook.
const OF_APP: &str = "app/hook";
/// Hooks of an organization or repository that are looked through.
const PAGE: usize = 100;
/// The path of deliveries, before the name of their source.
const WEBHOOKS: &str = "/webhooks/";

/// What is remembered of hooks.
#[derive(Default)]
pub(super) struct Deliveries {
    newest: Remembered<DeliveryPage>,
}

/// The hooks that bring deliveries to a source.
pub(super) async fn hooks(access: &Access, wanted: &HooksWanted) -> CallResult<Vec<String>> {
    if access.is_app() {
        return Ok(hook_of_app(access, wanted).await?.into_iter().collect());
    }
    let owners = wanted.owners.iter().map(|owner| Ok(format!("orgs/{}", checked(owner)?)));
    let repositories = wanted.repositories.iter().map(|name| {
        let path = repository_path(name)?;
        Ok(path.trim_start_matches('/').to_owned())
    });
    let (mut found, mut refused) = (Vec::new(), None);
    for place in owners.chain(repositories) {
        let place: String = place?;
        match hooks_at(access, &place, &wanted.source).await {
            Ok(hooks) => found.extend(hooks),
            Err(error) if matches!(error.kind, CallErrorKind::Refused | CallErrorKind::NotFound) => {
                refused = refused.or(Some(error));
            }
            Err(error) => return Err(error),
        }
    }
    match refused {
        Some(error) if found.is_empty() => Err(error),
        Some(_) | None => Ok(found),
    }
}

/// The App's hook, unless its deliveries go to another source.
async fn hook_of_app(access: &Access, wanted: &HooksWanted) -> CallResult<Option<String>> {
    if wanted.anywhere {
        return Ok(Some(OF_APP.to_owned()));
    }
    let answer = access.send_as_app(Call::get("read the App's hook", "/app/hook/config".to_owned())).await?;
    let config: wire::HookConfig = match answer.status {
        StatusCode::OK => answer.read()?,
        // An App without a hook.
        StatusCode::NOT_FOUND => return Ok(None),
        _ => return Err(answer.error("the App's id and private key must be those of the App")),
    };
    let url = config.url.unwrap_or_default();
    let elsewhere = url.contains(WEBHOOKS) && !leads_to(&url, &wanted.source);
    Ok((!url.is_empty() && !elsewhere).then(|| OF_APP.to_owned()))
}

/// The hooks of an organization or repository whose deliveries go to a source.
async fn hooks_at(access: &Access, place: &str, source: &str) -> CallResult<Vec<String>> {
    let call = Call::get("list hooks", format!("/{place}/hooks?per_page={PAGE}"));
    // A token has no scope.
    let answer = access.send(&Scope::Owner(place.to_owned()), call).await?;
    let hooks: Vec<wire::Hook> = match answer.status {
        StatusCode::OK => answer.read()?,
        _ => return Err(answer.error("needs the scope admin:org_hook, or admin:repo_hook for a repository")),
    };
    let ours = |hook: &wire::Hook| hook.config.url.as_deref().is_some_and(|url| leads_to(url, source));
    Ok(hooks.iter().filter(|hook| ours(hook)).map(|hook| format!("{place}/hooks/{}", hook.id)).collect())
}

/// Whether deliveries that are sent there reach a source.
fn leads_to(url: &str, source: &str) -> bool {
    let path = url.split(['?', '#']).next().unwrap_or_default().trim_end_matches('/');
    path.strip_suffix(source).is_some_and(|rest| rest.ends_with(WEBHOOKS))
}

impl Deliveries {
    /// A page of a hook's deliveries.
    pub(super) async fn page(&self, access: &Access, hook: &str, page: &Page) -> CallResult<DeliveryPage> {
        let path = format!("{}/deliveries?per_page=100", hook_path(hook)?);
        let (path, first) = match page {
            Page::Newest => (path, true),
            Page::Older(cursor) => (format!("{path}&cursor={}", encode(cursor)), false),
        };
        let mut call = Call::get("list deliveries", path);
        if first {
            call.unless = self.newest.tag(hook);
        }
        let answer = send(access, hook, call).await?;
        let remedy =
            "only an App may read its hook's deliveries, and a token those of hooks that it administers";
        if first {
            let read = |answer: &Answer| Ok((read_page(answer)?, true));
            let (page, _) = self.newest.take(hook.to_owned(), &answer, read, remedy)?;
            return Ok((*page).clone());
        }
        match answer.status {
            StatusCode::OK => read_page(&answer),
            _ => Err(answer.error(remedy)),
        }
    }
}

/// What a delivery said.
pub(super) async fn read(access: &Access, hook: &str, id: u64) -> CallResult<Option<Delivery>> {
    let call = Call::get("read delivery", format!("{}/deliveries/{id}", hook_path(hook)?));
    let answer = send(access, hook, call).await?;
    let read: wire::Delivery = match answer.status {
        StatusCode::OK => answer.read()?,
        StatusCode::NOT_FOUND => return Ok(None),
        _ => return Err(answer.error("it is one of the hook's deliveries")),
    };
    let payload = serde_json::to_vec(&read.request.payload)
        .map_err(|error| CallError::new(CallErrorKind::Refused, format!("read delivery: {error}")))?;
    Ok(Some(Delivery { guid: read.guid, event: read.event, payload }))
}

async fn send(access: &Access, hook: &str, call: Call) -> CallResult<Answer> {
    if hook == OF_APP {
        access.send_as_app(call).await
    } else {
        access.send(&Scope::Owner(hook.to_owned()), call).await
    }
}

/// A hook's path. Its name was kept, so it must not lead elsewhere.
fn hook_path(hook: &str) -> CallResult<String> {
    for part in hook.split('/') {
        checked(part)?;
    }
    Ok(format!("/{hook}"))
}

fn read_page(answer: &Answer) -> CallResult<DeliveryPage> {
    let listed: Vec<wire::ListedDelivery> = answer.read()?;
    let link = answer.headers.get(header::LINK).and_then(|link| link.to_str().ok());
    Ok(DeliveryPage {
        attempts: attempts(listed).map_err(|problem| answer.unreadable(&problem))?,
        next: link.and_then(next_cursor),
    })
}

/// The attempts of a page. One whose time cannot be read is given that of the attempt listed before it, or after it where
/// there is none, so that it is not lost: the list is in their order.
fn attempts(listed: Vec<wire::ListedDelivery>) -> Result<Vec<Attempt>, String> {
    let time = |one: &wire::ListedDelivery| one.delivered_at.as_deref()?.parse::<Timestamp>().ok();
    let mut near = listed.iter().find_map(time);
    let mut all = Vec::with_capacity(listed.len());
    for one in listed {
        near = time(&one).or(near);
        let at = near.ok_or_else(|| format!("delivered_at of delivery {} is no time", one.id))?;
        all.push(attempt(one, at));
    }
    Ok(all)
}

fn attempt(listed: wire::ListedDelivery, at: Timestamp) -> Attempt {
    let action = match (listed.event.as_str(), listed.action.as_deref()) {
        ("workflow_job", Some("queued")) => Some(JobAction::Queued),
        ("workflow_job", Some("waiting")) => Some(JobAction::Waiting),
        ("workflow_job", Some("in_progress")) => Some(JobAction::InProgress),
        ("workflow_job", Some("completed")) => Some(JobAction::Completed),
        (_, _) => None,
    };
    Attempt {
        id: listed.id,
        guid: listed.guid,
        at,
        delivered: (200..300).contains(&listed.status_code),
        action,
    }
}

/// The cursor of the next page, from a header such as `<https://…/deliveries?per_page=100&cursor=v1_12>; rel="next"`.
fn next_cursor(link: &str) -> Option<String> {
    let next = link.split(',').find(|part| part.contains("rel=\"next\""))?;
    let url = next.split_once('<')?.1.split_once('>')?.0;
    let uri: Uri = url.parse().ok()?;
    let cursor = uri.query()?.split('&').find_map(|pair| pair.strip_prefix("cursor="))?;
    Some(cursor.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hook_leads_to_the_source_that_its_path_ends_with() {
        for (url, expect) in [
            ("https://ci.example/webhooks/acme", true),
            ("https://ci.example/stint/webhooks/acme/?x=1", true),
            ("https://ci.example/webhooks/other-acme", false),
            ("https://ci.example/webhooks/acme2", false),
            ("https://ci.example/acme", false),
        ] {
            assert_eq!(leads_to(url, "acme"), expect, "{url}");
        }
    }

    #[test]
    fn an_attempt_without_a_time_is_taken_to_be_as_old_as_its_neighbour() {
        let listed = |times: &[&str]| {
            let ids = (1..).zip(times);
            let all: Vec<serde_json::Value> = ids
                .map(|(id, at)| {
                    serde_json::json!({
                        "id": id, "guid": id.to_string(), "delivered_at": at, "event": "workflow_job", "action": "queued"
                    })
                })
                .collect();
            let read = attempts(serde_json::from_value(all.into()).unwrap());
            read.map(|all| all.iter().map(|one| one.at.to_string()).collect::<Vec<_>>())
        };
        let (late, early) = ("2026-01-01T00:00:02Z", "2026-01-01T00:00:01Z");
        assert_eq!(listed(&["", late, "soon", early]).unwrap(), [late, late, late, early]);
        assert!(listed(&["soon"]).unwrap_err().contains("delivery 1"));
        assert!(listed(&[]).unwrap().is_empty());
    }

    #[test]
    fn the_next_page_is_named_by_its_cursor_alone() {
        let links = "<https://api.github.com/app/hook/deliveries?per_page=100&cursor=v1_12>; rel=\"next\"";
        assert_eq!(next_cursor(links).as_deref(), Some("v1_12"));
        assert_eq!(next_cursor("<https://api.github.com/x?cursor=v1_1>; rel=\"prev\""), None);
    }
}
