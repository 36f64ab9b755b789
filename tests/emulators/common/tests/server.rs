//! Faults, journal and TLS, seen from a raw socket: a client library would hide whether bytes were sent.

#![expect(clippy::unwrap_used, reason = "a test ends at its first surprise")]

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use axum::Router;
use axum::routing::{get, post};
use emulator_common::{Fault, Faults, Journal, Outcome, ServeOptions, ServerHandle, Tls, instrument, serve};
use rustls_pki_types::{CertificateDer, ServerName};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

struct Bed {
    server: ServerHandle,
    faults: Faults,
    journal: Journal,
    done: Arc<AtomicUsize>,
}

async fn bed() -> Bed {
    let (faults, journal, done) = (Faults::default(), Journal::default(), Arc::new(AtomicUsize::new(0)));
    let counter = Arc::clone(&done);
    let router = Router::new()
        .route(
            "/do",
            post(move |body: String| async move {
                counter.fetch_add(1, Ordering::SeqCst);
                body
            }),
        )
        .route("/see", get(|| async { "seen" }));
    let server = serve(instrument(router, &faults, &journal), ServeOptions::default()).await.unwrap();
    Bed { server, faults, journal, done }
}

/// Everything that comes back on a connection of its own.
async fn exchange(bed: &Bed, method: &str, path: &str, body: &str) -> String {
    let mut stream = TcpStream::connect(bed.server.addr).await.unwrap();
    let request = format!(
        "{method} {path} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer secret\r\nconnection: close\r\n\
         content-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    match stream.read_to_end(&mut answer).await {
        Ok(_) => {}
        Err(error) => assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset),
    }
    String::from_utf8(answer).unwrap()
}

#[tokio::test]
async fn a_dropped_answer_is_carried_out_and_sends_no_byte() {
    let bed = bed().await;
    let id = bed.faults.add(Fault::on("POST", "/do").times(1).drop_answer());
    assert_eq!(exchange(&bed, "POST", "/do", "x").await, "");
    assert_eq!(bed.done.load(Ordering::SeqCst), 1);
    assert!(exchange(&bed, "POST", "/do", "again").await.ends_with("again"));
    assert_eq!(bed.faults.hits(id), 1);
    let entries = bed.journal.entries();
    assert_eq!(entries[0].outcome, Outcome::Cut);
    assert_eq!(entries[1].status, Some(200));
}

#[tokio::test]
async fn a_refused_request_is_not_carried_out() {
    let bed = bed().await;
    bed.faults.add(Fault::on("*", "*").after(1).times(1).refuse());
    assert!(exchange(&bed, "POST", "/do", "x").await.starts_with("HTTP/1.1 200"));
    assert_eq!(exchange(&bed, "POST", "/do", "x").await, "");
    assert_eq!(bed.done.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn a_failure_carries_its_headers_and_body() {
    let bed = bed().await;
    bed.faults.add(Fault::on("GET", "/see").fail_with(429, &[("retry-after", "7")], "{\"a\":1}"));
    let answer = exchange(&bed, "GET", "/see", "").await;
    assert!(answer.starts_with("HTTP/1.1 429"), "{answer}");
    assert!(answer.contains("retry-after: 7\r\n"), "{answer}");
    assert!(answer.ends_with("{\"a\":1}"), "{answer}");
}

#[tokio::test]
async fn delays_add_up_and_do_not_hide_another_fault() {
    let bed = bed().await;
    for _ in 0..2 {
        bed.faults.add(Fault::on("GET", "/see").delay(Duration::from_millis(40)));
    }
    bed.faults.add(Fault::on("GET", "/see").fail(503));
    let since = Instant::now();
    assert!(exchange(&bed, "GET", "/see", "").await.starts_with("HTTP/1.1 503"));
    assert!(since.elapsed() >= Duration::from_millis(80));
}

#[tokio::test]
async fn faults_are_scripted_over_http_and_do_not_reach_the_control_routes() {
    let bed = bed().await;
    let fault = r#"{"path":"*","count":1,"action":{"fail":{"status":418}}}"#;
    assert!(exchange(&bed, "POST", "/_emulator/faults", fault).await.starts_with("HTTP/1.1 201"));
    assert!(exchange(&bed, "GET", "/_emulator/faults", "").await.contains("\"hits\":0"));
    assert!(exchange(&bed, "GET", "/see", "").await.starts_with("HTTP/1.1 418"));
    assert!(exchange(&bed, "GET", "/see", "").await.ends_with("seen"));
    for action in [r#""dropAnswer""#, r#""refuse""#, r#"{"delay":{"ms":1}}"#] {
        let fault = format!(r#"{{"method":"GET","path":"/x","action":{action}}}"#);
        assert!(exchange(&bed, "POST", "/_emulator/faults", &fault).await.starts_with("HTTP/1.1 201"));
    }
    assert!(exchange(&bed, "DELETE", "/_emulator/faults/1", "").await.starts_with("HTTP/1.1 204"));
    assert_eq!(bed.faults.list().len(), 3);
    assert!(exchange(&bed, "DELETE", "/_emulator/faults", "").await.starts_with("HTTP/1.1 204"));
    assert!(bed.faults.list().is_empty());
}

#[tokio::test]
async fn the_journal_counts_requests_and_keeps_no_secret() {
    let bed = bed().await;
    for path in ["/see?n=1", "/see?n=2", "/nothing"] {
        exchange(&bed, "GET", path, "").await;
    }
    assert_eq!(bed.journal.count("GET", "/see"), 2);
    assert_eq!(bed.journal.count("*", "/see?n=2"), 1);
    assert_eq!(bed.journal.matching("get", "/nothing")[0].status, Some(404));
    assert_eq!(bed.journal.entries()[0].headers["authorization"], "Bearer [redacted]");
    let listed = exchange(&bed, "GET", "/_emulator/requests?path=/see", "").await;
    assert!(
        listed.contains("/see?n=1") && !listed.contains("/nothing") && !listed.contains("secret"),
        "{listed}"
    );
    assert_eq!(bed.journal.total(), 3);
}

#[tokio::test]
async fn a_server_that_was_shut_down_frees_its_port() {
    let bed = bed().await;
    let addr = bed.server.addr;
    bed.server.shutdown().await;
    assert!(TcpStream::connect(addr).await.is_err());
    let again = serve(Router::new(), ServeOptions { addr, ..ServeOptions::default() }).await.unwrap();
    assert_eq!(again.addr, addr);
}

#[tokio::test]
async fn tls_is_served_with_the_given_certificate() {
    let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    let tls = Tls { cert_pem: made.cert.pem(), key_pem: made.signing_key.serialize_pem() };
    let router = Router::new().route("/", get(|| async { "secure" }));
    let options =
        ServeOptions { tls: Some(tls), host: Some("localhost".to_owned()), ..ServeOptions::default() };
    let server = serve(router, options).await.unwrap();
    assert!(server.url.starts_with("https://localhost:"));

    let mut roots = rustls::RootCertStore::empty();
    roots.add(CertificateDer::from(made.cert.der().to_vec())).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let stream = TcpStream::connect(server.addr).await.unwrap();
    let name = ServerName::try_from("localhost").unwrap();
    let mut stream = tokio_rustls::TlsConnector::from(Arc::new(config)).connect(name, stream).await.unwrap();
    stream.write_all(b"GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").await.unwrap();
    let mut answer = String::new();
    let _ = stream.read_to_string(&mut answer).await;
    assert!(answer.ends_with("secure"), "{answer}");
}
