//! Rules about what a file of the controller may name: no adapter another, and no SDK's types outside their folder.

use crate::Finding;
use crate::rules::{ADAPTERS, ADAPTERS_INSTEAD, CONTROLLER, CRATE_HOMES};

pub(crate) fn check(path: &str, content: &str) -> Vec<Finding> {
    let Some(path) = path.strip_prefix(CONTROLLER) else { return Vec::new() };
    let code: Vec<_> = content.lines().map(without_comment).collect();
    let mut found = foreign_adapters(path, &code);
    found.extend(homeless_crates(path, &code));
    found
}

fn foreign_adapters(path: &str, code: &[&str]) -> Vec<Finding> {
    let here = path.split(['/', '.']).next().unwrap_or_default();
    if !ADAPTERS.contains(&here) {
        return Vec::new();
    }
    let foreign = |name: &str| name != here && ADAPTERS.contains(&name);
    modules_named(code)
        .into_iter()
        .filter(|(_, module)| foreign(module))
        .map(|(line, module)| {
            (line, format!("the adapter {here} must not know the adapter {module}: {ADAPTERS_INSTEAD}"))
        })
        .collect()
}

/// The modules at the crate's top that code names by `crate::…`, each with its line.
fn modules_named(code: &[&str]) -> Vec<(usize, String)> {
    let text = code.join("\n");
    let mut named = Vec::new();
    for (at, path) in text.match_indices("crate::") {
        if text[..at].chars().next_back().is_some_and(is_word) {
            continue; // `other_crate::`
        }
        let line = text[..at].matches('\n').count() + 1;
        let rest = &text[at + path.len()..];
        match rest.strip_prefix('{') {
            None => named.push((line, leading_word(rest))),
            Some(group) => named.extend(group_heads(group).into_iter().map(|head| (line, head))),
        }
    }
    named
}

/// The first words of the items of a `{…}` group, whose opening brace is cut off.
fn group_heads(group: &str) -> Vec<String> {
    let mut heads = Vec::new();
    let mut depth = 0_usize;
    let mut item = String::new();
    for letter in group.chars() {
        match letter {
            '}' if depth == 0 => break,
            ',' if depth == 0 => heads.push(leading_word(std::mem::take(&mut item).trim())),
            _ => {
                depth = match letter {
                    '{' => depth + 1,
                    '}' => depth - 1,
                    _ => depth,
                };
                item.push(letter);
            }
        }
    }
    heads.push(leading_word(item.trim()));
    heads
}

fn homeless_crates(path: &str, code: &[&str]) -> Vec<Finding> {
    let mut found = Vec::new();
    for rule in CRATE_HOMES {
        // A folder's module file may stand beside it: `kubernetes.rs` for `kubernetes/`.
        let at_home =
            |home: &&str| path.starts_with(*home) || path == format!("{}.rs", home.trim_end_matches('/'));
        if rule.homes.iter().any(at_home) {
            continue;
        }
        for (index, line) in code.iter().enumerate() {
            if let Some(name) = rule.crates.iter().find(|name| names_crate(line, name)) {
                let homes = rule.homes.join(" and ");
                found.push((index + 1, format!("{name} stays in {CONTROLLER}{homes}: {}", rule.instead)));
            }
        }
    }
    found
}

/// Whether a line has a path that begins with the crate.
fn names_crate(line: &str, name: &str) -> bool {
    let stem = name.trim_end_matches('*');
    line.match_indices(stem).any(|(at, _)| {
        let begins = !line[..at].chars().next_back().is_some_and(|before| is_word(before) || before == ':');
        let rest = &line[at + stem.len()..];
        let ending = leading_word(rest);
        let whole = name.ends_with('*') || ending.is_empty();
        let after = &rest[ending.len()..];
        let used = line.trim_start().starts_with("use ") && after.starts_with(';');
        begins && whole && (after.starts_with("::") || used)
    })
}

fn leading_word(text: &str) -> String {
    text.chars().take_while(|letter| is_word(*letter)).collect()
}

fn is_word(letter: char) -> bool {
    letter.is_alphanumeric() || letter == '_'
}

fn without_comment(line: &str) -> &str {
    if line.trim_start().starts_with("//") { "" } else { line }
}
