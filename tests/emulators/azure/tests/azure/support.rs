//! What the tests share: an emulator with small images, and a client for it.

use std::sync::LazyLock;
use std::time::Duration;

use emulator_azure::{Azure, AzureHandle, ImageRule, Options};
use emulator_common::Tls;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use reqwest::{Client, Method, StatusCode};
use serde_json::{Value, json};

pub(crate) const AGENT: &str = env!("CARGO_BIN_EXE_standin-agent");
pub(crate) const DEADLINE: Duration = Duration::from_secs(20);
pub(crate) const GROUPS: &str =
    "/subscriptions/sub/resourceGroups/rg/providers/Microsoft.ContainerInstance/containerGroups";

/// Options with images whose names say what they do, and durations of some 10 ms.
pub(crate) fn options() -> Options {
    let shell = |pattern: &str, script: &str| ImageRule::runs(pattern, ["sh", "-c", script]);
    Options {
        time_scale: 0.005,
        images: vec![
            shell("ok:*", "echo out; echo err >&2"),
            shell("fails:*", "exit 3"),
            shell("sleeps:*", "exec sleep 600"),
            shell("stubborn:*", "trap '' TERM; while :; do sleep 0.05; done"),
            shell(
                "shows:*",
                "echo \"v=$V s=$S\"; cat \"$EMULATED_ROOT/run/stint/jitconfig\"; ls -ld \"$EMULATED_ROOT\"",
            ),
        ],
        ..Options::new([AGENT])
    }
}

pub(crate) async fn start(options: Options) -> AzureHandle {
    Azure::start(options).await.unwrap()
}

/// A group of one container, as azure-aci would ask for it.
pub(crate) fn group(image: &str) -> Value {
    json!({
        "location": "westeurope",
        "tags": { "UID": "uid-1", "NodeName": "virtual-node-aci-linux" },
        "properties": {
            "osType": "Linux",
            "restartPolicy": "Never",
            "containers": [{
                "name": "runner",
                "properties": {
                    "image": image,
                    "resources": { "requests": { "cpu": 1.5, "memoryInGB": 2.1 } },
                },
            }],
        },
    })
}

/// An answer, taken apart.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: reqwest::header::HeaderMap,
    pub(crate) body: Value,
}

impl Answer {
    pub(crate) fn code(&self) -> &str {
        self.body["error"]["code"].as_str().unwrap_or_default()
    }

    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }
}

/// One client for all tests; without idle connections, which would belong to a test's runtime.
pub(crate) fn client() -> &'static Client {
    static CLIENT: LazyLock<Client> =
        LazyLock::new(|| Client::builder().no_proxy().pool_max_idle_per_host(0).build().unwrap());
    &CLIENT
}

/// Any request to the emulator, with a token and an api-version.
pub(crate) async fn send(azure: &AzureHandle, method: Method, path: &str, body: Option<Value>) -> Answer {
    let separator = if path.contains('?') { '&' } else { '?' };
    let url = if path.starts_with("http") {
        path.to_owned()
    } else {
        format!("{}{path}{separator}api-version=2023-05-01", azure.url())
    };
    let mut request = client().request(method, url).bearer_auth("token");
    if let Some(body) = body {
        request = request.json(&body);
    }
    let answer = request.send().await.unwrap();
    let (status, headers) = (answer.status(), answer.headers().clone());
    let text = answer.text().await.unwrap();
    let body = if text.is_empty() { Value::Null } else { serde_json::from_str(&text).unwrap() };
    Answer { status, headers, body }
}

pub(crate) async fn put(azure: &AzureHandle, name: &str, body: Value) -> Answer {
    send(azure, Method::PUT, &format!("{GROUPS}/{name}"), Some(body)).await
}

pub(crate) async fn get(azure: &AzureHandle, name: &str) -> Answer {
    send(azure, Method::GET, &format!("{GROUPS}/{name}"), None).await
}

pub(crate) async fn delete(azure: &AzureHandle, name: &str) -> Answer {
    send(azure, Method::DELETE, &format!("{GROUPS}/{name}"), None).await
}

/// Waits until a process is gone, reaped or not.
pub(crate) async fn gone(pid: u32) {
    let path = format!("/proc/{pid}/stat");
    let alive = || {
        let stat = std::fs::read_to_string(&path).unwrap_or_default();
        stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with('Z'))
    };
    let end = tokio::time::Instant::now() + DEADLINE;
    while alive() {
        assert!(tokio::time::Instant::now() < end, "process {pid} is still there");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// A certificate for 127.0.0.1, and the CA to trust.
pub(crate) fn certificate() -> (Tls, String) {
    let mut ca = CertificateParams::new([]).unwrap();
    // Apart from the leaf's name, else the leaf looks self-signed.
    ca.distinguished_name.push(DnType::CommonName, "Azure emulator CA");
    ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let ca = CertifiedIssuer::self_signed(ca, KeyPair::generate().unwrap()).unwrap();
    let key = KeyPair::generate().unwrap();
    let leaf = CertificateParams::new(["127.0.0.1".to_owned()]).unwrap().signed_by(&key, &ca).unwrap();
    (Tls { cert_pem: leaf.pem(), key_pem: key.serialize_pem() }, ca.pem())
}
