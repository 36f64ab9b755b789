//! The emulator, held against Microsoft's own client (`tests/vendor-clients/azure-devops`).

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use emulator_azure_devops::Options;
use serde_json::json;
use tokio::io::AsyncWriteExt;
use tokio::process::Command;

use crate::support::{PAT, world};

#[tokio::test]
async fn microsofts_client_finds_everything_that_it_expects() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../vendor-clients/azure-devops");
    assert!(
        folder.join("node_modules/azure-devops-node-api").is_dir(),
        "the client is not installed: run `npm ci` in tests/vendor-clients/azure-devops (tests/run does it)"
    );
    let world = world(Options::default()).await;
    let given = json!({
        "organization": world.devops.organization_url(),
        "server": world.devops.url(),
        "pat": PAT,
    });
    let mut child = Command::new("node")
        .arg("check.mjs")
        .current_dir(&folder)
        .env("NO_PROXY", "127.0.0.1")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(given.to_string().as_bytes()).await.unwrap();
    let output =
        tokio::time::timeout(Duration::from_secs(60), child.wait_with_output()).await.unwrap().unwrap();
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{out}{err}");
    assert_eq!(out.lines().filter(|line| line.starts_with("ok ")).count(), 8, "{out}");
}
