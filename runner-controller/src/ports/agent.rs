//! What the agent inside a runner's machine finds there: files, environment, and where it reports.

use std::collections::BTreeMap;

use crate::config::Callback;

/// Directory with the credential's files.
pub const DIRECTORY: &str = "/run/stint";
/// File with the JIT configuration.
pub const JIT_CONFIG: &str = "jitconfig";
/// File with the token that call-backs carry.
pub const CALLBACK_TOKEN: &str = "callback-token";
/// File with the certificates to trust for call-backs.
pub const CALLBACK_CA: &str = "callback-ca.crt";

/// The environment of the agent. It holds no secret: on a virtual node all of it reaches Azure in plain text.
pub fn environment(runner: &str, callback: Option<&Callback>) -> BTreeMap<String, String> {
    let file = |name: &str| format!("{DIRECTORY}/{name}");
    let mut env = BTreeMap::from([
        ("STINT_RUNNER".to_owned(), runner.to_owned()),
        ("STINT_JITCONFIG_FILE".to_owned(), file(JIT_CONFIG)),
    ]);
    if let Some(callback) = callback {
        env.insert("STINT_CALLBACK_URL".to_owned(), callback.url.trim_end_matches('/').to_owned());
        env.insert("STINT_CALLBACK_TOKEN_FILE".to_owned(), file(CALLBACK_TOKEN));
        if callback.ca_bundle.is_some() {
            env.insert("STINT_CALLBACK_CA_FILE".to_owned(), file(CALLBACK_CA));
        }
    }
    env
}
