//! What went wrong with a call to PostgreSQL, in words that an admin can act on.

use std::io::ErrorKind;

use super::settings::PostgresSettings;
use crate::ports::{CallError, CallErrorKind};

/// Says what went wrong while `doing` something, and what to do about it. Codes: PostgreSQL's appendix A.
pub(super) fn failed(at: &PostgresSettings, doing: &str, error: &sqlx::Error) -> CallError {
    let (kind, why) = if let Some(said) = error.as_database_error() {
        of_code(said.code().as_deref().unwrap_or_default())
    } else if is_of_tls(error) {
        NO_TLS
    } else if let sqlx::Error::ColumnDecode { .. } | sqlx::Error::ColumnNotFound(_) = error {
        NO_LEDGER
    } else {
        // Of the connection or the pool.
        UNREACHABLE
    };
    // PostgreSQL's own words name role and database, and never a password.
    CallError::new(kind, format!("{doing} at {at}: {why} ({error})"))
}

/// What rustls refuses arrives as invalid data.
fn is_of_tls(error: &sqlx::Error) -> bool {
    let invalid = |error: &sqlx::Error| matches!(error, sqlx::Error::Io(error) if error.kind() == ErrorKind::InvalidData);
    matches!(error, sqlx::Error::Tls(_)) || invalid(error)
}

type Meaning = (CallErrorKind, &'static str);

const UNREACHABLE: Meaning = (
    CallErrorKind::Unavailable,
    "the server of --ledger does not answer; it is asked again: see that it runs and that this host reaches it",
);
const NO_TLS: Meaning = (
    CallErrorKind::Refused,
    "no trusted connection by TLS: see that the server offers TLS with a certificate for its name, and name its CA's file in \
     --ledger by sslrootcert if it is a private one",
);
const NO_LEDGER: Meaning = (
    CallErrorKind::Refused,
    "the database of --ledger does not hold Stint's ledger as this program knows it: see that it names the right database",
);

fn of_code(code: &str) -> Meaning {
    use CallErrorKind::{Refused, Unavailable};
    match code {
        "28P01" => (
            Refused,
            "the server does not accept the password: correct it in --ledger-password-file or in --ledger",
        ),
        "28000" => (
            Refused,
            "the server does not let this role in from here: see the role and sslmode in --ledger, and the server's rules \
             for who may connect",
        ),
        "3D000" => (Refused, "the server has no such database: create it, or correct its name in --ledger"),
        "42501" => (
            Refused,
            "the role of --ledger lacks a right: make it the owner of the database, or have an admin grant what is missing",
        ),
        "25006" => (
            Unavailable,
            "the server takes no writes; it is asked again: --ledger must name the primary server, not a replica",
        ),
        _ => match code.get(..2).unwrap_or_default() {
            "3F" | "42" => NO_LEDGER,
            "22" => (Refused, "the server does not take such a value"),
            "23" => (Refused, "against the rules of the schema"),
            "53" => (Unavailable, "the server of --ledger has no room for it now; it is asked again"),
            "40" | "55" | "57" => (Unavailable, "the server of --ledger broke it off; it is asked again"),
            _ => (Unavailable, "the server of --ledger failed; it is asked again"),
        },
    }
}
