//! Keys and signatures, all from aws-lc-rs, the one crypto provider that Stint links.
//!
//! The App's RSA key is made when an emulator starts and lives in memory only.

use anyhow::{Context, anyhow};
use aws_lc_rs::encoding::{AsDer, Pkcs8V1Der};
use aws_lc_rs::rsa::{KeyPair, KeySize};
use aws_lc_rs::signature::{KeyPair as _, RSA_PKCS1_2048_8192_SHA256, UnparsedPublicKey};
use aws_lc_rs::{digest, hmac};
use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use emulator_common::ids::hex;
use jiff::Timestamp;
use serde::Deserialize;

/// The key pair of the emulated GitHub App.
pub(crate) struct AppKey {
    private_pem: String,
    public_der: Vec<u8>,
}

impl AppKey {
    pub(crate) fn generate() -> anyhow::Result<Self> {
        let pair = KeyPair::generate(KeySize::Rsa2048).map_err(|_| anyhow!("cannot generate an RSA key"))?;
        let der: Pkcs8V1Der<'_> = pair.as_der().map_err(|_| anyhow!("cannot encode the RSA key"))?;
        Ok(Self { private_pem: pem(der.as_ref()), public_der: pair.public_key().as_ref().to_vec() })
    }

    pub(crate) fn from_pem(private_pem: &str) -> anyhow::Result<Self> {
        let body: String =
            private_pem.lines().filter(|line| !line.starts_with("-----")).map(str::trim).collect();
        let der = STANDARD.decode(body).context("the App's key is not PEM")?;
        let pair = KeyPair::from_pkcs8(&der)
            .or_else(|_| KeyPair::from_der(&der))
            .map_err(|error| anyhow!("the App's key is not an RSA key: {error}"))?;
        Ok(Self { private_pem: private_pem.to_owned(), public_der: pair.public_key().as_ref().to_vec() })
    }

    pub(crate) fn private_pem(&self) -> &str {
        &self.private_pem
    }

    fn verify(&self, message: &[u8], signature: &[u8]) -> bool {
        UnparsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, &self.public_der)
            .verify(message, signature)
            .is_ok()
    }
}

fn pem(der: &[u8]) -> String {
    let body = STANDARD.encode(der);
    let lines: Vec<&str> =
        body.as_bytes().chunks(64).filter_map(|line| std::str::from_utf8(line).ok()).collect();
    format!("-----BEGIN PRIVATE KEY-----\n{}\n-----END PRIVATE KEY-----\n", lines.join("\n"))
}

#[derive(Deserialize)]
struct Header {
    alg: String,
}

#[derive(Deserialize)]
struct Claims {
    iat: Option<serde_json::Value>,
    exp: Option<serde_json::Value>,
    iss: Option<serde_json::Value>,
}

/// Why a JSON web token is refused. The texts are those of GitHub's answers, as its troubleshooting pages and many
/// public issues quote them.
pub(crate) enum JwtError {
    /// 401 with this text.
    Unauthorized(&'static str),
    /// The issuer is no App: 404.
    NoSuchApp,
}

const UNDECODABLE: JwtError = JwtError::Unauthorized("A JSON web token could not be decoded");

/// Checks an App's token: RS256, `iat` in the past (60 s of drift allowed), `exp` at most 10 minutes ahead, `iss` one of
/// `issuers` (the App's id or its client id).
pub(crate) fn verify_app_jwt(
    key: &AppKey,
    jwt: &str,
    issuers: &[String],
    now: Timestamp,
) -> Result<(), JwtError> {
    let (signed, signature) = jwt.rsplit_once('.').ok_or(UNDECODABLE)?;
    let (header, claims) = signed.split_once('.').ok_or(UNDECODABLE)?;
    let header: Header = decode(header)?;
    let signature = URL_SAFE_NO_PAD.decode(signature).map_err(|_| UNDECODABLE)?;
    if header.alg != "RS256" || !key.verify(signed.as_bytes(), &signature) {
        return Err(UNDECODABLE);
    }
    let claims: Claims = decode(claims)?;
    let now = now.as_second();
    let exp = claims.exp.as_ref().and_then(serde_json::Value::as_i64).filter(|exp| *exp > now).ok_or(
        JwtError::Unauthorized(
            "'Expiration time' claim ('exp') must be a numeric value representing the future time at which the \
             assertion expires",
        ),
    )?;
    if exp > now + 600 + 30 {
        return Err(JwtError::Unauthorized("'Expiration time' claim ('exp') is too far in the future"));
    }
    claims.iat.as_ref().and_then(serde_json::Value::as_i64).filter(|iat| *iat <= now + 30).ok_or(
        JwtError::Unauthorized(
            "'Issued at' claim ('iat') must be an Integer representing the time that the assertion was issued",
        ),
    )?;
    let issuer = match claims.iss {
        Some(serde_json::Value::String(text)) => text,
        Some(other) => other.to_string(),
        None => return Err(UNDECODABLE),
    };
    if issuers.contains(&issuer) { Ok(()) } else { Err(JwtError::NoSuchApp) }
}

fn decode<T: serde::de::DeserializeOwned>(part: &str) -> Result<T, JwtError> {
    let bytes = URL_SAFE_NO_PAD.decode(part).map_err(|_| UNDECODABLE)?;
    serde_json::from_slice(&bytes).map_err(|_| UNDECODABLE)
}

/// The value of `X-Hub-Signature-256`.
pub(crate) fn webhook_signature(secret: &str, body: &[u8]) -> String {
    let key = hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes());
    format!("sha256={}", hex(hmac::sign(&key, body).as_ref()))
}

/// The value of `X-Hub-Signature`, which GitHub still sends next to the other.
pub(crate) fn webhook_signature_sha1(secret: &str, body: &[u8]) -> String {
    let key = hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, secret.as_bytes());
    format!("sha1={}", hex(hmac::sign(&key, body).as_ref()))
}

/// The SHA-256 of `bytes`, in hex.
pub(crate) fn fingerprint(bytes: &[u8]) -> String {
    hex(digest::digest(&digest::SHA256, bytes).as_ref())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The test vector of GitHub's page "Validating webhook deliveries".
    #[test]
    fn the_signature_is_githubs() {
        assert_eq!(
            webhook_signature("It's a Secret to Everybody", b"Hello, World!"),
            "sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17"
        );
    }

    #[test]
    fn a_key_survives_its_pem() {
        let key = AppKey::generate().unwrap();
        let again = AppKey::from_pem(key.private_pem()).unwrap();
        assert_eq!(key.public_der, again.public_der);
    }
}
