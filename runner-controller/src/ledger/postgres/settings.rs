//! Where a PostgreSQL ledger is and who signs in, from a URL and a password file. The password is never shown.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr as _;

use reqwest::Url;
use secrecy::{ExposeSecret as _, SecretString};
use sqlx::postgres::{PgConnectOptions, PgSslMode};

use crate::ports::{CallError, CallErrorKind, CallResult};

/// How the URL of a PostgreSQL database begins.
const SCHEMES: [&str; 2] = ["postgres", "postgresql"];
/// The query parameters of the URL that are understood; others would be ignored.
const PARAMETERS: [&str; 5] = ["sslmode", "sslrootcert", "sslcert", "sslkey", "application_name"];

/// Where a PostgreSQL ledger is, and who signs in.
#[derive(Clone)]
pub struct PostgresSettings {
    url: SecretString,
    password_file: Option<PathBuf>,
    shown: String,
    /// Whether the URL says how TLS is used.
    says_tls: bool,
    /// Whether the server is on this machine.
    local: bool,
}

/// Without the password, as people are shown it.
impl fmt::Display for PostgresSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.shown)
    }
}

impl fmt::Debug for PostgresSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("PostgresSettings").field(&self.shown).finish()
    }
}

impl PostgresSettings {
    /// Whether this is meant as the URL of a PostgreSQL database.
    pub fn is_url(text: &str) -> bool {
        SCHEMES.iter().any(|scheme| text.strip_prefix(scheme).is_some_and(|rest| rest.starts_with("://")))
    }

    /// Settings from a URL such as `postgres://stint@host/stint?sslmode=verify-full`, and a file with the password, which
    /// is read at each new connection. Where the URL does not say how TLS is used, servers elsewhere must prove who they
    /// are (`verify-full`).
    ///
    /// # Errors
    /// What of the URL cannot be used and what to write instead; never the password.
    pub fn new(url: &SecretString, password_file: Option<&Path>) -> CallResult<Self> {
        let parsed = Url::parse(url.expose_secret())
            .map_err(|error| refused(format!("it is not a URL ({error}); {FORM}")))?;
        let host = parsed.host_str().filter(|host| !host.is_empty());
        let Some(host) = host else { return Err(refused(format!("it names no host; {FORM}"))) };
        let database = parsed.path().trim_start_matches('/');
        if database.is_empty() || parsed.username().is_empty() {
            return Err(refused(format!("it must name a role and a database; {FORM}")));
        }
        for (name, _) in parsed.query_pairs() {
            if !PARAMETERS.contains(&&*name) {
                let known = PARAMETERS.join(", ");
                return Err(refused(format!("the parameter {name} is not known; there are {known}")));
            }
        }
        if parsed.password().is_some() && password_file.is_some() {
            return Err(refused(
                "it holds a password, and --ledger-password-file names a file with one: give one of them",
            ));
        }
        let socket = host.to_ascii_lowercase().starts_with("%2f");
        let port = parsed.port().map(|port| format!(":{port}")).unwrap_or_default();
        let settings = Self {
            shown: format!("postgres://{}@{host}{port}/{database}", parsed.username()),
            says_tls: parsed.query_pairs().any(|(name, _)| name == "sslmode"),
            local: socket || matches!(host, "localhost" | "127.0.0.1" | "[::1]"),
            url: url.clone(),
            password_file: password_file.map(Path::to_owned),
        };
        for (name, path) in
            parsed.query_pairs().filter(|(name, _)| name.starts_with("ssl") && name != "sslmode")
        {
            std::fs::metadata(&*path)
                .map_err(|error| refused(format!("{name}: {path} cannot be read ({error})")))?;
        }
        settings.options()?;
        Ok(settings)
    }

    /// How to connect, with the password as the file holds it now.
    ///
    /// # Errors
    /// `Refused` where a part of the URL or the file cannot be used.
    pub(super) fn options(&self) -> CallResult<PgConnectOptions> {
        let mut options = PgConnectOptions::from_str(self.url.expose_secret())
            .map_err(|error| refused(format!("it cannot be used ({error}); {FORM}")))?;
        if !self.says_tls {
            options = options.ssl_mode(if self.local { PgSslMode::Prefer } else { PgSslMode::VerifyFull });
        }
        if let Some(path) = &self.password_file {
            let read = std::fs::read_to_string(path).map(SecretString::from).map_err(|error| {
                let message =
                    format!("--ledger-password-file {}: it cannot be read: {error}", path.display());
                CallError::new(CallErrorKind::Refused, message)
            })?;
            options = options.password(read.expose_secret().trim_end_matches(['\r', '\n']));
        }
        Ok(if options.get_application_name().is_none() { options.application_name("stint") } else { options })
    }
}

/// What a URL looks like, for messages.
const FORM: &str = "write it as postgres://ROLE@HOST/DATABASE?sslmode=verify-full, with % and two digits for special characters";

fn refused(why: impl fmt::Display) -> CallError {
    CallError::new(CallErrorKind::Refused, format!("--ledger: {why}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const URL: &str = "postgres://stint:canary@db.example.com:5433/ledger";

    fn settings(url: &str) -> CallResult<PostgresSettings> {
        PostgresSettings::new(&url.to_owned().into(), None)
    }

    #[test]
    fn the_password_is_never_shown() {
        let fine = settings(URL).unwrap();
        assert_eq!(fine.to_string(), "postgres://stint@db.example.com:5433/ledger");
        for bad in [
            "postgres://stint:canary@/ledger",
            "postgres://stint:canary@host",
            "postgres://stint:canary@host:x/ledger",
            "postgres://stint:canary@host/ledger?password=canary",
            "postgres://stint:canary@host/ledger?sslmode=canary2",
            "postgres://stint:canary@host/ledger?sslrootcert=nowhere.pem",
        ] {
            let error = settings(bad).unwrap_err();
            assert!(error.message.starts_with("--ledger: "), "{error}");
            assert!(!format!("{error:?}").contains("canary@"), "{error}");
            assert!(!format!("{error:?}").contains("=canary"), "{error}");
        }
        assert!(!format!("{fine:?}").contains("canary"));
    }

    #[test]
    fn servers_elsewhere_must_prove_who_they_are_unless_the_url_says_otherwise() {
        for (url, expect) in [
            ("postgres://stint@db.example.com/ledger", "VerifyFull"),
            ("postgres://stint@db.example.com/ledger?sslmode=require", "Require"),
            ("postgres://stint@127.0.0.1/ledger", "Prefer"),
            ("postgres://stint@%2Frun%2Fpostgresql/ledger", "Prefer"),
        ] {
            let mode = settings(url).unwrap().options().unwrap().get_ssl_mode();
            assert_eq!(format!("{mode:?}"), expect, "{url}");
        }
    }

    #[test]
    fn a_password_is_given_once() {
        let error = PostgresSettings::new(&URL.to_owned().into(), Some(Path::new("file"))).unwrap_err();
        assert!(error.message.contains("give one of them"), "{error}");
        let missing =
            PostgresSettings::new(&"postgres://a@b/c".to_owned().into(), Some(Path::new("nowhere")));
        let error = missing.unwrap_err();
        assert!(error.message.starts_with("--ledger-password-file nowhere: "), "{error}");
    }
}
