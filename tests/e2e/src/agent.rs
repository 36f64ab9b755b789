//! An agent beside the cluster, for pods on nodes that run nothing.

use anyhow::{Context, Result};
use base64::Engine as _;
use serde_json::Value;

use crate::bed::{Bed, NAMESPACE};
use crate::stint::beside;

/// A stand-in agent on this machine.
pub struct Agent {
    child: std::process::Child,
    _root: tempfile::TempDir,
}

impl Drop for Agent {
    fn drop(&mut self) {
        drop(self.child.stdin.take());
        let _ = self.child.wait();
    }
}

/// The stand-in agent's program.
pub(crate) fn agent_program() -> Result<std::path::PathBuf> {
    beside("standin-agent", "STANDIN_AGENT_BIN", "cargo build -p emulator-azure")
}

impl Bed {
    /// Runs an agent with a runner's credential on this machine, for a pod in which nothing runs; it ends with the handle.
    ///
    /// # Errors
    /// When the runner has no Secret.
    pub fn agent(&self, runner: &str) -> Result<Agent> {
        let secret = self.cluster.kubectl(&["get", "secret", runner, "-n", NAMESPACE, "-o", "json"])?;
        let secret: Value = serde_json::from_str(&secret)?;
        let root = tempfile::tempdir()?;
        let directory = root.path().join("run/stint");
        std::fs::create_dir_all(&directory)?;
        for (file, content) in secret.get("data").and_then(Value::as_object).context("an empty Secret")? {
            let content =
                base64::engine::general_purpose::STANDARD.decode(content.as_str().unwrap_or_default())?;
            std::fs::write(directory.join(file), content)?;
        }
        // It ends when its input does.
        let child = std::process::Command::new(agent_program()?)
            .env("EMULATED_ROOT", root.path())
            .env("STINT_RUNNER", runner)
            .env("STINT_CALLBACK_URL", self.stint.url())
            .stdin(std::process::Stdio::piped())
            .stdout(std::process::Stdio::null())
            .spawn()?;
        Ok(Agent { child, _root: root })
    }
}
