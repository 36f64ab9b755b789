//! Masks secrets in text that others wrote: what a runner printed, what a peer answered.
//!
//! A net below the rule that no secret is printed, not instead of it: it knows shapes, and can miss.

/// What stands in place of a secret.
pub const MASK: &str = "[redacted]";

/// How GitHub's tokens begin (GitHub documentation, "GitHub's token formats").
const GITHUB_PREFIXES: [&str; 6] = ["ghp_", "gho_", "ghu_", "ghs_", "ghr_", "github_pat_"];
/// Base64 of `{"`: how JWTs and JIT configurations begin.
const JSON_PREFIX: &str = "eyJ";
/// Shorter than any token is; a bare prefix is no secret.
const SHORTEST_TOKEN: usize = 16;
/// Shorter than any JWT or JIT configuration is.
const SHORTEST_JSON: usize = 40;

/// Masks `known` secrets, wherever they stand, and whatever has the shape of a secret.
pub fn text(text: &str, known: &[&str]) -> String {
    let mut text = text.to_owned();
    for secret in known.iter().filter(|secret| !secret.is_empty()) {
        text = text.replace(secret, MASK);
    }
    shapes(&text)
}

/// Masks whatever has the shape of a GitHub token, a JWT or a JIT configuration. One pass, whatever the text.
pub fn shapes(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let (mut at, mut kept) = (0, 0);
    while let Some(rest) = text.as_bytes().get(at..).filter(|rest| !rest.is_empty()) {
        match secret_length(rest) {
            // Secrets are ASCII, so both ends of one are ends of characters.
            Some(length) => {
                out.push_str(text.get(kept..at).unwrap_or_default());
                out.push_str(MASK);
                at += length;
                kept = at;
            }
            None => at += 1,
        }
    }
    out.push_str(text.get(kept..).unwrap_or_default());
    out
}

/// The length of the secret that the text begins with, if it does.
fn secret_length(text: &[u8]) -> Option<usize> {
    let in_token = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.');
    let in_json = |byte: &u8| in_token(byte) || matches!(byte, b'+' | b'/' | b'=');
    let (run, shortest) = if text.starts_with(JSON_PREFIX.as_bytes()) {
        (text.iter().take_while(|byte| in_json(byte)).count(), SHORTEST_JSON)
    } else if GITHUB_PREFIXES.iter().any(|prefix| text.starts_with(prefix.as_bytes())) {
        (text.iter().take_while(|byte| in_token(byte)).count(), SHORTEST_TOKEN)
    } else {
        return None;
    };
    (run >= shortest).then_some(run)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(input: &str, expect: &str) {
        assert_eq!(text(input, &["canary-token"]), expect);
    }

    #[test]
    fn known_secrets_are_masked_wherever_they_stand() {
        check("a canary-token, and xcanary-tokenx", "a [redacted], and x[redacted]x");
    }

    #[test]
    fn github_tokens_are_masked_whole() {
        check("token=ghs_16C7e42F292c6912E7710c838347Ae178B4a;", "token=[redacted];");
        check("https://x:ghp_abcdefghijklmnopqrst@github.com", "https://x:[redacted]@github.com");
        check("github_pat_11ABCDEFG0abcdefghijkl_mnopqrs end", "[redacted] end");
        check("ghs_12345_eyJhbGciOi.JIUzI1.NiJ9abcd\n", "[redacted]\n");
    }

    #[test]
    fn jwts_and_jit_configurations_are_masked() {
        let jwt = format!("eyJhbGciOiJSUzI1NiJ9.{}.sig-_x", "e".repeat(40));
        check(&format!("Bearer {jwt} done"), "Bearer [redacted] done");
        let jit = format!("eyJ{}+/==", "Ab1".repeat(200));
        check(&format!("--jitconfig {jit}"), "--jitconfig [redacted]");
    }

    #[test]
    fn other_text_stays() {
        check("the prefix ghs_ and eyJ alone, ünïcode", "the prefix ghs_ and eyJ alone, ünïcode");
        check("", "");
    }
}
