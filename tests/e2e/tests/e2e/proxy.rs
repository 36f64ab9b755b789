//! GitHub behind a proxy, with a certificate of a private CA.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use e2e::{Bed, BedOptions};
use emulator_common::Tls;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use serde_json::json;

/// A real proxy, ended with the test.
struct Proxy {
    child: Child,
    port: u16,
}

impl Proxy {
    async fn start(directory: &Path) -> Result<Self> {
        let port = std::net::TcpListener::bind(("127.0.0.1", 0))?.local_addr()?.port();
        let log = directory.join("proxy.log");
        let config = directory.join("tinyproxy.conf");
        std::fs::write(
            &config,
            format!(
                "Port {port}\nListen 127.0.0.1\nTimeout 60\nLogFile \"{}\"\nLogLevel Connect\nMaxClients 50\n",
                log.display()
            ),
        )?;
        let child = Command::new("setpriv")
            .args(["--pdeathsig", "KILL", "--", "tinyproxy", "-d", "-c"])
            .arg(&config)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .context("tinyproxy cannot be run: tests/run installs its Debian package")?;
        let end = tokio::time::Instant::now() + Duration::from_secs(10);
        while tokio::net::TcpStream::connect(("127.0.0.1", port)).await.is_err() {
            ensure!(tokio::time::Instant::now() < end, "tinyproxy does not listen");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Ok(Self { child, port })
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A private CA and a certificate of it for the loopback address.
fn private_ca() -> Result<(String, Tls)> {
    let ca_key = KeyPair::generate()?;
    let mut ca = CertificateParams::new(Vec::new())?;
    ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let ca_pem = ca.self_signed(&ca_key)?.pem();
    let key = KeyPair::generate()?;
    let certificate = CertificateParams::new(vec!["127.0.0.1".to_owned(), "localhost".to_owned()])?
        .signed_by(&key, &Issuer::new(ca, ca_key))?;
    Ok((ca_pem, Tls { cert_pem: certificate.pem(), key_pem: key.serialize_pem() }))
}

#[tokio::test(flavor = "multi_thread")]
async fn github_is_reached_through_a_proxy_and_trusted_by_a_private_ca() -> Result<()> {
    let directory = tempfile::tempdir()?;
    let proxy = Proxy::start(directory.path()).await?;
    let (ca, tls) = private_ca()?;
    let ca_file = directory.path().join("ca.pem");
    std::fs::write(&ca_file, &ca)?;
    let defaults = BedOptions::default();
    let options = BedOptions {
        github: emulator_github::Options { tls: Some(tls), ..defaults.github },
        source: json!({"proxy": format!("http://127.0.0.1:{}", proxy.port), "caBundle": ca}),
        // The stand-in agent trusts the call-back's CA for GitHub, too.
        arguments: vec!["--callback-ca-file".to_owned(), ca_file.display().to_string()],
        ..BedOptions::default()
    };
    let bed = Bed::start(options).await?;
    assert!(bed.github.url().starts_with("https://"));
    let id = bed.github.queue_job(bed.job().lasting(Duration::from_secs(1)))?;
    bed.github.wait_for_end(id, Duration::from_secs(60)).await?;
    bed.nothing_left(Duration::from_secs(60)).await?;
    bed.ledger_equals_meter().await?;

    let log = std::fs::read_to_string(directory.path().join("proxy.log"))?;
    let host = bed.github.url().trim_start_matches("https://").to_owned();
    assert!(log.contains(&format!("CONNECT {host}")), "{log}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn without_the_private_ca_the_jobs_wait_and_say_that_github_is_not_trusted() -> Result<()> {
    let (_, tls) = private_ca()?;
    let defaults = BedOptions::default();
    let options = BedOptions {
        github: emulator_github::Options { tls: Some(tls), ..defaults.github },
        ..BedOptions::default()
    };
    let bed = Bed::start(options).await?;
    let id = bed.github.queue_job(bed.job())?;
    let status = bed
        .eventually("the job to wait for its source", Duration::from_secs(40), |bed| {
            let status = bed.job_status(id)?.unwrap_or_default();
            let reason =
                status.get("reason").and_then(serde_json::Value::as_str) == Some("SourceUnavailable");
            Ok(if reason { Ok(status) } else { Err(status.to_string()) })
        })
        .await?;
    assert_eq!(status.get("state").and_then(serde_json::Value::as_str), Some("Waiting"));
    assert!(bed.stint.log().contains("certificate"), "{}", bed.stint.log_tail());
    assert!(bed.azure.history().is_empty(), "no group is made for a runner that cannot register");
    Ok(())
}
