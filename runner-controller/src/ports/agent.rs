//! What the agent inside a runner's machine finds there: files, environment, and where it reports.

use std::collections::BTreeMap;

use runner_core::lifecycle::Runner;
use runner_core::stray::Mark;

use crate::config::Callback;

/// Directory with the credential's files.
pub const DIRECTORY: &str = "/run/stint";
/// File with the JIT configuration.
pub const JIT_CONFIG: &str = "jitconfig";
/// File with the token that call-backs carry.
pub const CALLBACK_TOKEN: &str = "callback-token";
/// File with the certificates to trust for call-backs.
pub const CALLBACK_CA: &str = "callback-ca.crt";

/// The environment of the agent, with the runner's mark. It holds no secret: on a virtual node all of it reaches Azure in
/// plain text.
pub fn environment(runner: &Runner, origin: &str, callback: Option<&Callback>) -> BTreeMap<String, String> {
    let file = |name: &str| format!("{DIRECTORY}/{name}");
    let mut env = Mark::of(runner, origin).environment();
    env.insert("STINT_RUNNER".to_owned(), runner.name.clone());
    env.insert("STINT_JITCONFIG_FILE".to_owned(), file(JIT_CONFIG));
    if let Some(callback) = callback {
        env.insert("STINT_CALLBACK_URL".to_owned(), callback.url.trim_end_matches('/').to_owned());
        env.insert("STINT_CALLBACK_TOKEN_FILE".to_owned(), file(CALLBACK_TOKEN));
        if callback.ca_bundle.is_some() {
            env.insert("STINT_CALLBACK_CA_FILE".to_owned(), file(CALLBACK_CA));
        }
    }
    env
}
