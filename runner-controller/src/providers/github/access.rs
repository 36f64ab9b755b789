//! As whom a call is made: a token, or a GitHub App's installation, found per scope and remembered by account.
//!
//! octocrab keeps each installation's token and gets another shortly before it expires. It repeats a call once, with
//! a new token, where GitHub answered 401: such a call was refused before it did anything.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use http::{Method, Request, StatusCode};
use http_body_util::BodyExt as _;
use octocrab::auth::{AppAuth, EncodingKey};
use octocrab::models::{AppId, InstallationId};
use octocrab::{AuthState, Octocrab, OctocrabBuilder};
use runner_core::setup::Scope;
use secrecy::ExposeSecret as _;

use super::errors::{Answer, Call, failure};
use super::rate_limits::{Bucket, RateLimits};
use super::transport::Transport;
use super::{GitHubAuth, GitHubSettingsError, checked, repository_path, wire};
use crate::ports::{CallError, CallErrorKind, CallResult};

pub(super) struct Access {
    who: Who,
    rate_limits: Arc<RateLimits>,
}

enum Who {
    Token(Arc<Octocrab>),
    App { app: Arc<Octocrab>, installations: Mutex<Installations> },
}

#[derive(Default)]
pub(super) struct Installations {
    by_scope: HashMap<Scope, u64>,
    /// By account, in lower case. An App is installed on an account once at most, so that the installation of one of its
    /// repositories is that of all that the App may see; which those are is known only to GitHub.
    by_owner: HashMap<String, u64>,
    /// Shared, not cloned: a clone of octocrab's client keeps a token of its own.
    clients: HashMap<u64, Arc<Octocrab>>,
}

impl Access {
    pub(super) fn new(
        transport: Transport,
        rate_limits: Arc<RateLimits>,
        auth: &GitHubAuth,
    ) -> Result<Self, GitHubSettingsError> {
        let client = |auth| match OctocrabBuilder::new_empty().with_service(transport).with_auth(auth).build()
        {
            Ok(client) => client,
            Err(never) => match never {},
        };
        let who = match auth {
            GitHubAuth::Token(token) => {
                if token.expose_secret().is_empty() {
                    return Err(GitHubSettingsError::new("token", "it is empty"));
                }
                Who::Token(Arc::new(client(AuthState::AccessToken { token: token.clone() })))
            }
            GitHubAuth::App { app_id, private_key } => {
                // Not the parser's own words: they might repeat part of the key.
                let key =
                    EncodingKey::from_rsa_pem(private_key.expose_secret().as_bytes()).map_err(|_| {
                        GitHubSettingsError::new("privateKey", "it is not an RSA private key in PEM")
                    })?;
                let app = Arc::new(client(AuthState::App(AppAuth { app_id: AppId(*app_id), key })));
                Who::App { app, installations: Mutex::default() }
            }
        };
        Ok(Self { who, rate_limits })
    }

    /// Whether calls are made as a GitHub App.
    pub(super) fn is_app(&self) -> bool {
        match &self.who {
            Who::App { .. } => true,
            Who::Token(_) => false,
        }
    }

    /// Makes a call about something within a scope, once: GitHub carries out no call that it answers with 401, 403 or 404.
    pub(super) async fn send(&self, scope: &Scope, call: Call) -> CallResult<Answer> {
        let Installed { client, bucket, assumed } = self.client(scope).await?;
        let again = assumed.map(|assumed| (assumed, call.clone()));
        let sent = self.sent(&client, &bucket, call).await;
        if let Err(error) = &sent
            && matches!(error.kind, CallErrorKind::NotFound | CallErrorKind::Refused)
        {
            // The installation's token was refused: it may have been removed and made anew.
            self.forget(scope);
        }
        let Some((assumed, call)) = again else { return sent };
        let shut = match &sent {
            // GitHub also answers 403 where a rate limit is used up, which says nothing of the installation.
            Ok(answer) if matches!(answer.error("").kind, CallErrorKind::Throttled(_)) => false,
            Ok(answer) => matches!(answer.status, StatusCode::FORBIDDEN | StatusCode::NOT_FOUND),
            Err(error) => matches!(error.kind, CallErrorKind::NotFound | CallErrorKind::Refused),
        };
        if !shut {
            if sent.is_ok() {
                self.remember(scope, assumed);
            }
            return sent;
        }
        // The account's installation may not be this repository's (any longer), so GitHub is asked for it after all.
        let found = self.look_up(scope).await?;
        if found.bucket == bucket && sent.is_ok() {
            return sent;
        }
        self.sent(&found.client, &found.bucket, call).await
    }

    /// Makes a call as the App itself, once.
    ///
    /// # Errors
    /// `Refused` where calls are made with a token.
    pub(super) async fn send_as_app(&self, call: Call) -> CallResult<Answer> {
        match &self.who {
            Who::App { app, .. } => self.sent(app, &Bucket::App, call).await,
            Who::Token(_) => Err(CallError::new(
                CallErrorKind::Refused,
                format!("{}: a token cannot, only a GitHub App can", call.what),
            )),
        }
    }

    async fn sent(&self, client: &Octocrab, bucket: &Bucket, call: Call) -> CallResult<Answer> {
        let answer = send(client, call).await?;
        self.rate_limits.note(bucket, &answer.headers);
        Ok(answer)
    }

    /// Finds the scope's installation anew, where there is one to be found.
    ///
    /// # Errors
    /// `Refused` where the App is not installed there (any longer).
    pub(super) async fn confirm(&self, scope: &Scope) -> CallResult<()> {
        self.forget(scope);
        match &self.who {
            Who::Token(_) => Ok(()),
            Who::App { .. } => self.look_up(scope).await.map(|_| ()),
        }
    }

    /// As whom a call within a scope is made: what is remembered of it, else of its account, else what GitHub says.
    async fn client(&self, scope: &Scope) -> CallResult<Installed> {
        match &self.who {
            Who::Token(client) => {
                Ok(Installed { client: Arc::clone(client), bucket: Bucket::Token, assumed: None })
            }
            Who::App { installations, .. } => match known(installations, scope) {
                Some(known) => Ok(known),
                None => self.look_up(scope).await,
            },
        }
    }

    /// Asks GitHub for a scope's installation.
    async fn look_up(&self, scope: &Scope) -> CallResult<Installed> {
        let (app, installations) = match &self.who {
            Who::Token(client) => {
                return Ok(Installed { client: Arc::clone(client), bucket: Bucket::Token, assumed: None });
            }
            Who::App { app, installations } => (app, installations),
        };
        let id = self.find_installation(app, scope).await?;
        let bucket = Bucket::Installation(id);
        self.remember(scope, id);
        let mut installations = installations.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(client) = installations.clients.get(&id) {
            return Ok(Installed { client: Arc::clone(client), bucket, assumed: None });
        }
        let client =
            app.installation(InstallationId(id)).map_err(|error| failure("use installation", &error))?;
        let client = Arc::new(client);
        installations.clients.insert(id, Arc::clone(&client));
        Ok(Installed { client, bucket, assumed: None })
    }

    async fn find_installation(&self, app: &Octocrab, scope: &Scope) -> CallResult<u64> {
        let path = match scope {
            Scope::Owner(owner) => format!("/orgs/{}/installation", checked(owner)?),
            Scope::Repository(repository) => format!("{}/installation", repository_path(repository)?),
        };
        let answer = self.sent(app, &Bucket::App, Call::get("find installation", path)).await?;
        match answer.status {
            StatusCode::OK => Ok(answer.read::<wire::Installation>()?.id),
            StatusCode::NOT_FOUND => {
                let (Scope::Owner(name) | Scope::Repository(name)) = scope;
                Err(CallError::new(
                    CallErrorKind::Refused,
                    format!(
                        "find installation: the App is not installed on {name}: install it, and grant it the repository"
                    ),
                ))
            }
            _ => Err(answer.error("the App's id and private key must be those of the App that is installed")),
        }
    }

    fn remember(&self, scope: &Scope, id: u64) {
        match &self.who {
            Who::Token(_) => {}
            Who::App { installations, .. } => {
                let mut installations = installations.lock().unwrap_or_else(PoisonError::into_inner);
                installations.by_scope.insert(scope.clone(), id);
                installations.by_owner.insert(account(scope), id);
            }
        }
    }

    fn forget(&self, scope: &Scope) {
        match &self.who {
            Who::Token(_) => {}
            Who::App { installations, .. } => {
                let mut installations = installations.lock().unwrap_or_else(PoisonError::into_inner);
                installations.by_scope.remove(scope);
                installations.by_owner.remove(&account(scope));
            }
        }
    }
}

/// As whom calls are made.
struct Installed {
    client: Arc<Octocrab>,
    bucket: Bucket,
    /// The installation, where it is that of the account and GitHub has not confirmed that it is the scope's.
    assumed: Option<u64>,
}

fn known(installations: &Mutex<Installations>, scope: &Scope) -> Option<Installed> {
    let installations = installations.lock().unwrap_or_else(PoisonError::into_inner);
    let (id, assumed) = match installations.by_scope.get(scope) {
        Some(id) => (*id, None),
        None => installations.by_owner.get(&account(scope)).map(|id| (*id, Some(*id)))?,
    };
    let client = Arc::clone(installations.clients.get(&id)?);
    Some(Installed { client, bucket: Bucket::Installation(id), assumed })
}

/// The account to which a scope belongs.
fn account(scope: &Scope) -> String {
    let (Scope::Owner(name) | Scope::Repository(name)) = scope;
    name.split('/').next().unwrap_or_default().to_ascii_lowercase()
}

async fn send(client: &Octocrab, call: Call) -> CallResult<Answer> {
    let what = call.what;
    let mut request = Request::builder().method(call.method.clone()).uri(call.path);
    if matches!(call.method, Method::POST | Method::PATCH) {
        request = request.header(http::header::CONTENT_TYPE, "application/json");
    }
    if let Some(tag) = &call.unless {
        request = request.header(http::header::IF_NONE_MATCH, tag);
    }
    // octocrab adds its credentials only where the address names no host; the transport adds that.
    let request = request
        .body(call.body.map_or_else(Bytes::new, Bytes::from))
        .map_err(|error| CallError::new(CallErrorKind::Refused, format!("{what}: {error}")))?;
    let response = client.execute(request).await.map_err(|error| failure(what, &error))?;
    let (parts, body) = response.into_parts();
    let body = body.collect().await.map_err(|error| failure(what, &error))?.to_bytes();
    Ok(Answer { what, status: parts.status, headers: parts.headers, body })
}
