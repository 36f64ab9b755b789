//! GitHub's signature of a delivery: HMAC-SHA256 over the raw body, in `X-Hub-Signature-256`.

use hmac::{Hmac, KeyInit as _, Mac as _};
use secrecy::{ExposeSecret as _, SecretString};
use sha2::Sha256;

/// The header that carries it. The older `X-Hub-Signature` (SHA-1) is not accepted.
pub(super) const HEADER: &str = "x-hub-signature-256";

/// Why a delivery is not believed, in words that tell an admin more than an attacker.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum SignatureError {
    #[error("X-Hub-Signature-256 is missing: set a secret for the webhook")]
    Missing,
    #[error("X-Hub-Signature-256 is not sha256= and 64 hexadecimal digits")]
    Malformed,
    #[error("X-Hub-Signature-256 was not made with a secret of this source")]
    Wrong,
}

/// Checks the signature against every secret, in a time that does not depend on where they differ.
pub(super) fn verify(
    given: Option<&str>,
    body: &[u8],
    secrets: &[SecretString],
) -> Result<(), SignatureError> {
    let given = given.ok_or(SignatureError::Missing)?;
    let digits = given.trim().strip_prefix("sha256=").ok_or(SignatureError::Malformed)?;
    let mut tag = [0; 32];
    hex::decode_to_slice(digits, &mut tag).map_err(|_| SignatureError::Malformed)?;
    let matches = secrets
        .iter()
        .map(|secret| secret.expose_secret().as_bytes())
        // Anybody can sign with nothing.
        .filter(|secret| !secret.is_empty())
        .filter_map(|secret| Hmac::<Sha256>::new_from_slice(secret).ok())
        .map(|mac| mac.chain_update(body).verify_slice(&tag).is_ok())
        .fold(false, |any, matches| any | matches);
    if matches { Ok(()) } else { Err(SignatureError::Wrong) }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BODY: &[u8] = b"Hello, World!";
    const DOCUMENTED: &str = "sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17";

    fn check(given: Option<&str>, body: &[u8], secrets: &[&str], expect: Result<(), SignatureError>) {
        let secrets: Vec<SecretString> = secrets.iter().map(|secret| SecretString::from(*secret)).collect();
        assert_eq!(verify(given, body, &secrets), expect, "{given:?}");
    }

    #[test]
    fn the_documented_vector_passes() {
        check(Some(DOCUMENTED), BODY, &["It's a Secret to Everybody"], Ok(()));
    }

    #[test]
    fn any_of_two_secrets_may_sign() {
        check(Some(DOCUMENTED), BODY, &["new", "It's a Secret to Everybody"], Ok(()));
        check(Some(DOCUMENTED), BODY, &["It's a Secret to Everybody", "new"], Ok(()));
    }

    #[test]
    fn whatever_else_does_not_pass() {
        let secrets = ["It's a Secret to Everybody"];
        check(None, BODY, &secrets, Err(SignatureError::Missing));
        check(Some(""), BODY, &secrets, Err(SignatureError::Malformed));
        check(Some(&DOCUMENTED[..70]), BODY, &secrets, Err(SignatureError::Malformed));
        check(Some(&format!("{DOCUMENTED}00")), BODY, &secrets, Err(SignatureError::Malformed));
        check(Some(&DOCUMENTED.replace("sha256=", "sha1=")), BODY, &secrets, Err(SignatureError::Malformed));
        check(Some(&DOCUMENTED.replace("sha256=", "")), BODY, &secrets, Err(SignatureError::Malformed));
        check(Some(&DOCUMENTED.replace('e', "f")), BODY, &secrets, Err(SignatureError::Wrong));
        check(Some(DOCUMENTED), b"Hello, World?", &secrets, Err(SignatureError::Wrong));
        check(Some(DOCUMENTED), BODY, &["another"], Err(SignatureError::Wrong));
        check(Some(DOCUMENTED), BODY, &[], Err(SignatureError::Wrong));
    }

    #[test]
    fn an_empty_secret_signs_nothing() {
        let mac = Hmac::<Sha256>::new_from_slice(b"").unwrap().chain_update(BODY).finalize();
        let signed = format!("sha256={}", hex::encode(mac.into_bytes()));
        check(Some(&signed), BODY, &[""], Err(SignatureError::Wrong));
    }
}
