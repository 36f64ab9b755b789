//! Path patterns: `*` stands for any run of characters, slashes included; everything else is literal.

/// Whether `text` matches `pattern`, in which `*` stands for any run of characters.
pub fn glob_matches(pattern: &str, text: &str) -> bool {
    let mut parts = pattern.split('*');
    let first = parts.next().unwrap_or_default();
    let Some(mut rest) = text.strip_prefix(first) else { return false };
    let mut parts = parts.peekable();
    if parts.peek().is_none() {
        return rest.is_empty();
    }
    while let Some(part) = parts.next() {
        if parts.peek().is_none() {
            return rest.ends_with(part);
        }
        match rest.find(part) {
            Some(at) => rest = &rest[at + part.len()..],
            None => return false,
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use super::glob_matches;

    #[test]
    fn star_stands_for_any_run_of_characters() {
        for (pattern, text, expected) in [
            ("/a", "/a", true),
            ("/a", "/ab", false),
            ("*", "/anything/at/all", true),
            ("/orgs/*/runners", "/orgs/acme/actions/runners", true),
            ("/orgs/*/runners", "/orgs/acme/actions/runners/1", false),
            ("/orgs/*", "/repos/acme", false),
            ("*jit*config", "/x/generate-jitconfig", true),
            ("a*a", "a", false),
            ("", "", true),
        ] {
            assert_eq!(glob_matches(pattern, text), expected, "{pattern} on {text}");
        }
    }
}
