//! Who Stint is towards Azure.

use std::path::Path;
use std::sync::Arc;

use azure_core::credentials::{AccessToken, Secret, TokenCredential, TokenRequestOptions};
use azure_core::http::{ClientOptions, RetryOptions, Transport};
use azure_core::time::{Duration, OffsetDateTime};
use azure_identity::{
    ClientAssertionCredentialOptions, ClientSecretCredential, ClientSecretCredentialOptions,
    DeveloperToolsCredential, ManagedIdentityCredential, ManagedIdentityCredentialOptions, UserAssignedId,
    WorkloadIdentityCredential, WorkloadIdentityCredentialOptions,
};
use reqwest::Client;
use secrecy::{ExposeSecret, SecretString};

use super::http::one_line;
use crate::ports::{CallError, CallErrorKind, CallResult};

/// Where the firmware of a machine in Azure says so.
const ASSET_TAG: &str = "/sys/class/dmi/id/chassis_asset_tag";
/// What it says: the same on every machine in Azure.
const AZURE_ASSET_TAG: &str = "7783-7084-3265-9085-8269-3286-77";

/// Where access tokens come from.
#[derive(Clone, Debug)]
pub enum CredentialKind {
    /// A Kubernetes service account that an Entra identity trusts: `AZURE_TENANT_ID`, `AZURE_CLIENT_ID` and
    /// `AZURE_FEDERATED_TOKEN_FILE`, as the workload identity webhook sets them.
    WorkloadIdentity,
    /// The identity of the machine or App Service that Stint runs on; or, where `IDENTITY_ENDPOINT` and
    /// `IDENTITY_HEADER` are set, what answers there.
    ManagedIdentity {
        /// Client id of a user-assigned identity; absent: the system-assigned one.
        client_id: Option<String>,
    },
    /// Whoever is logged in with the Azure CLI (`az`), else with the Azure Developer CLI (`azd`).
    AzureCli,
    /// An app registration with a client secret.
    ClientSecret {
        /// Tenant id.
        tenant_id: String,
        /// Client id.
        client_id: String,
        /// The secret.
        client_secret: SecretString,
    },
    /// One token that never changes, for an emulator in the same process.
    Token(SecretString),
}

impl CredentialKind {
    /// What the surroundings offer: workload identity where its token file is named, else a managed identity where
    /// its endpoint is named or the machine is in Azure, else the developer tools.
    ///
    /// `AZURE_CLIENT_ID` chooses a user-assigned identity.
    pub fn auto() -> Self {
        let in_azure =
            std::fs::read_to_string(Path::new(ASSET_TAG)).is_ok_and(|tag| tag.trim() == AZURE_ASSET_TAG);
        Self::choose(|name| std::env::var(name).ok(), in_azure)
    }

    pub(super) fn choose(variable: impl Fn(&str) -> Option<String>, in_azure: bool) -> Self {
        let set = |name| variable(name).filter(|value| !value.is_empty());
        if set("AZURE_FEDERATED_TOKEN_FILE").is_some() {
            Self::WorkloadIdentity
        } else if set("IDENTITY_ENDPOINT").is_some() || in_azure {
            Self::ManagedIdentity { client_id: set("AZURE_CLIENT_ID") }
        } else {
            Self::AzureCli
        }
    }
}

/// Makes the SDK's credential. `outside` reaches Entra as it does ARM, `direct` what is on this machine.
pub(super) fn build(
    kind: &CredentialKind,
    outside: &Client,
    direct: &Client,
) -> CallResult<Arc<dyn TokenCredential>> {
    let built: azure_core::Result<Arc<dyn TokenCredential>> = match kind {
        CredentialKind::WorkloadIdentity => {
            let credential_options = ClientAssertionCredentialOptions { client_options: options(outside) };
            let options = WorkloadIdentityCredentialOptions { credential_options, ..Default::default() };
            WorkloadIdentityCredential::new(Some(options)).map(|made| made as _)
        }
        CredentialKind::ManagedIdentity { client_id } => {
            let options = ManagedIdentityCredentialOptions {
                user_assigned_id: client_id.clone().map(UserAssignedId::ClientId),
                client_options: options(direct),
            };
            ManagedIdentityCredential::new(Some(options)).map(|made| made as _)
        }
        CredentialKind::AzureCli => DeveloperToolsCredential::new(None).map(|made| made as _),
        CredentialKind::ClientSecret { tenant_id, client_id, client_secret } => {
            let secret = Secret::new(client_secret.expose_secret().to_owned());
            let options = ClientSecretCredentialOptions { client_options: options(outside) };
            ClientSecretCredential::new(tenant_id, client_id.clone(), secret, Some(options))
                .map(|made| made as _)
        }
        CredentialKind::Token(token) => Ok(Arc::new(Fixed(token.clone()))),
    };
    built.map_err(|error| {
        let message = format!("no Azure credential: {}", one_line(&super::http::with_causes(&error)));
        CallError::new(CallErrorKind::Refused, message)
    })
}

/// The SDK repeats nothing: who asks for a token is repeated as a whole.
fn options(client: &Client) -> ClientOptions {
    ClientOptions {
        transport: Some(Transport::new(Arc::new(client.clone()))),
        retry: RetryOptions::none(),
        ..ClientOptions::default()
    }
}

/// A token that never changes.
#[derive(Debug)]
struct Fixed(SecretString);

#[async_trait::async_trait]
impl TokenCredential for Fixed {
    async fn get_token(
        &self,
        _scopes: &[&str],
        _options: Option<TokenRequestOptions<'_>>,
    ) -> azure_core::Result<AccessToken> {
        let now = crate::clock::now().as_second();
        let now = OffsetDateTime::from_unix_timestamp(now).unwrap_or(OffsetDateTime::UNIX_EPOCH);
        Ok(AccessToken::new(self.0.expose_secret().to_owned(), now.saturating_add(Duration::days(1))))
    }
}
