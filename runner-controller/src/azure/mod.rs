//! Container groups in Azure: a thin typed client of the few calls to Azure Resource Manager (ARM) that Stint makes.
//!
//! Nothing here decides or remembers anything but an access token, and no type of the Azure SDK leaves this folder.

mod credentials;
mod http;
mod token;
mod wire;

use std::time::Duration;

use async_trait::async_trait;
use reqwest::Method;
use secrecy::SecretString;

pub use self::credentials::CredentialKind;
use self::http::{Http, join_url};
use crate::ports::{CallError, CallErrorKind, CallResult, Group, GroupAddress, GroupOrder, Groups, Usage};

/// The version of the container groups API that is spoken: the newest that every Azure cloud has had for years.
pub const API_VERSION: &str = "2023-05-01";
/// Name of the one container in a group that [`ArmClient`] creates.
pub const CONTAINER: &str = "runner";
/// Name of the secret volume in such a group.
pub const VOLUME: &str = "stint-runner";

/// The most that is answered of a log, in bytes.
const LOG_LIMIT: usize = 64 * 1024;
/// How many lines of a log are asked for.
const LOG_LINES: &str = "2000";
/// A listing of more pages than this is not believed.
const MOST_PAGES: usize = 200;

/// How ARM is reached.
#[derive(Clone, Debug)]
pub struct ArmOptions {
    /// Where ARM is, such as `https://management.azure.com`.
    pub endpoint: String,
    /// For whom access tokens are made out: their scope is `{audience}/.default`.
    pub audience: String,
    /// URL of an HTTP proxy. Absent: what the environment's `HTTPS_PROXY` and `NO_PROXY` say.
    pub proxy: Option<SecretString>,
    /// Certificates, as PEM, that are trusted besides the system's.
    pub ca_bundle: Option<String>,
    /// How long a connection may take to be made.
    pub connect_timeout: Duration,
    /// How long one call may take from end to end. Getting a token may take as long once more.
    pub timeout: Duration,
}

impl Default for ArmOptions {
    fn default() -> Self {
        Self {
            endpoint: "https://management.azure.com".to_owned(),
            audience: "https://management.azure.com".to_owned(),
            proxy: None,
            ca_bundle: None,
            connect_timeout: Duration::from_secs(5),
            timeout: Duration::from_secs(30),
        }
    }
}

/// A client of ARM.
///
/// Calls that only read are tried a second time where ARM was unavailable; no other call is ever repeated.
#[derive(Debug)]
pub struct ArmClient {
    http: Http,
}

impl ArmClient {
    /// Makes a client. Nothing is sent yet.
    ///
    /// # Errors
    /// `Refused` where the endpoint, the proxy or the certificates are malformed, or the environment lacks what the
    /// credential needs.
    pub fn new(options: &ArmOptions, credential: &CredentialKind) -> CallResult<Self> {
        Ok(Self { http: Http::new(options, credential)? })
    }

    async fn list_pages(&self, subscription: &str, resource_group: &str) -> CallResult<Vec<Group>> {
        let doing = format!("list container groups of {resource_group}");
        let provider = ["providers", "Microsoft.ContainerInstance", "containerGroups"];
        let in_group = ["subscriptions", subscription, "resourceGroups", resource_group];
        let mut url = join_url(self.http.endpoint(), in_group.iter().chain(&provider), &[])?;
        let mut groups = Vec::new();
        for _ in 0..MOST_PAGES {
            let page = wire::read_page(&self.http.read(&doing, &url).await?)
                .map_err(|error| self.http.unreadable(&doing, &error))?;
            groups.extend(page.groups);
            match page.next_link {
                Some(next) => url = self.http.next_page(&doing, &next)?,
                None => return Ok(groups),
            }
        }
        Err(CallError::new(CallErrorKind::Refused, format!("{doing}: more than {MOST_PAGES} pages")))
    }
}

/// A group that is not there; or, where what should hold it is not either, most likely a wrong setting, which must not
/// pass for a group that is gone.
fn not_there(error: CallError) -> CallResult<Option<Group>> {
    let wrong = ["SubscriptionNotFound", "ResourceGroupNotFound", "InvalidSubscriptionId"];
    if wrong.iter().any(|code| error.message.contains(code)) {
        let message = format!("{}; check --azure-subscription and --azure-resource-group", error.message);
        return Err(CallError::new(CallErrorKind::Refused, message));
    }
    Ok(None)
}

#[async_trait]
impl Groups for ArmClient {
    async fn get(&self, group: &GroupAddress) -> CallResult<Option<Group>> {
        let doing = format!("get container group {}", group.name);
        let url = group_url(self.http.endpoint(), group, &[], &[])?;
        match self.http.read(&doing, &url).await {
            Ok(body) => {
                wire::read_group(&body).map(Some).map_err(|error| self.http.unreadable(&doing, &error))
            }
            Err(error) if error.kind == CallErrorKind::NotFound => not_there(error),
            Err(error) => Err(error),
        }
    }

    async fn create(&self, group: &GroupAddress, order: &GroupOrder) -> CallResult<()> {
        let doing = format!("create container group {}", group.name);
        let url = group_url(self.http.endpoint(), group, &[], &[])?;
        let body = wire::create_body(order).map_err(|error| {
            CallError::new(CallErrorKind::Refused, format!("{doing}: the request cannot be written: {error}"))
        })?;
        self.http.send(&doing, Method::PUT, &url, Some(body)).await.map(drop)
    }

    async fn delete(&self, group: &GroupAddress) -> CallResult<()> {
        let doing = format!("delete container group {}", group.name);
        let url = group_url(self.http.endpoint(), group, &[], &[])?;
        match self.http.send(&doing, Method::DELETE, &url, None).await {
            Err(error) if error.kind != CallErrorKind::NotFound => Err(error),
            Ok(_) | Err(_) => Ok(()),
        }
    }

    async fn logs(&self, group: &GroupAddress, container: &str) -> CallResult<String> {
        let doing = format!("read the log of container {container} of group {}", group.name);
        let below = ["containers", container, "logs"];
        let url = group_url(self.http.endpoint(), group, &below, &[("tail", LOG_LINES)])?;
        match self.http.read(&doing, &url).await {
            Ok(body) => {
                let text = wire::read_log(&body).map_err(|error| self.http.unreadable(&doing, &error))?;
                Ok(tail(text))
            }
            // The group is gone, or has no container yet.
            Err(error) if matches!(error.kind, CallErrorKind::NotFound | CallErrorKind::Conflict) => {
                Ok(String::new())
            }
            Err(error) => Err(error),
        }
    }

    async fn list(&self, subscription: &str, resource_group: &str) -> CallResult<Vec<Group>> {
        self.list_pages(subscription, resource_group).await
    }

    async fn usage(&self, subscription: &str, region: &str) -> CallResult<Usage> {
        let doing = format!("read the usage of container groups in {region}");
        let segments = [
            "subscriptions",
            subscription,
            "providers",
            "Microsoft.ContainerInstance",
            "locations",
            region,
            "usages",
        ];
        let url = join_url(self.http.endpoint(), segments.iter(), &[])?;
        let body = self.http.read(&doing, &url).await?;
        wire::read_usage(&body).map_err(|error| self.http.unreadable(&doing, &error))
    }
}

/// The URL of a group, or of something below it.
fn group_url(
    endpoint: &reqwest::Url,
    group: &GroupAddress,
    below: &[&str],
    query: &[(&str, &str)],
) -> CallResult<reqwest::Url> {
    let segments = [
        "subscriptions",
        &group.subscription,
        "resourceGroups",
        &group.resource_group,
        "providers",
        "Microsoft.ContainerInstance",
        "containerGroups",
        &group.name,
    ];
    join_url(endpoint, segments.iter().chain(below), query)
}

/// The last [`LOG_LIMIT`] bytes of a text, or a few less, so that no character is cut.
fn tail(mut text: String) -> String {
    let from = text.ceil_char_boundary(text.len().saturating_sub(LOG_LIMIT));
    text.split_off(from)
}

#[cfg(test)]
mod tests;
