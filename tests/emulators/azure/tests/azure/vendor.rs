//! Microsoft's own client (`@azure/arm-containerinstance`) against the emulator, over TLS.

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use emulator_azure::{Azure, Bearer, ImageRule, Options};
use tokio::process::Command;

use crate::support::{AGENT, certificate};

#[tokio::test]
async fn microsofts_client_finds_everything_that_it_expects() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../vendor-clients/azure");
    assert!(
        folder.join("node_modules/@azure/arm-containerinstance").is_dir(),
        "the client is not installed: run `npm ci` in tests/vendor-clients/azure"
    );
    let (tls, ca) = certificate();
    let ca_file = std::env::temp_dir().join(format!("vendor-azure-{}.pem", std::process::id()));
    std::fs::write(&ca_file, ca).unwrap();
    let azure = Azure::start(Options {
        tls: Some(tls),
        time_scale: 0.005,
        page_size: 2,
        bearer: Bearer::Issued,
        images: vec![
            ImageRule::runs("ok:*", ["echo", "hello"]),
            ImageRule::runs("sleeps:*", ["sleep", "600"]),
        ],
        ..Options::new([AGENT])
    })
    .await
    .unwrap();
    azure.make_unpullable("private:*");
    let run = Command::new("node")
        .arg("check.mjs")
        .current_dir(&folder)
        .env("ARM_ENDPOINT", azure.url())
        .env("IDENTITY_ENDPOINT", azure.msi_endpoint())
        .env("IDENTITY_HEADER", azure.identity_header())
        .env("NODE_EXTRA_CA_CERTS", &ca_file)
        .env("NO_PROXY", "127.0.0.1")
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output();
    let output = tokio::time::timeout(Duration::from_secs(90), run).await.unwrap().unwrap();
    std::fs::remove_file(&ca_file).unwrap();
    assert!(
        output.status.success(),
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    let text = String::from_utf8_lossy(&output.stdout);
    assert_eq!(text.lines().filter(|line| line.starts_with("ok ")).count(), 8, "{text}");
}
