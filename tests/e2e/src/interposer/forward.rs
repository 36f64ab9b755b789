//! Carries one peer's calls: to the peer and back, streams included, unless a trap or a closed way says otherwise.

use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context, Result};
use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::response::Response;
use emulator_common::CutConnection;
use futures::StreamExt as _;
use http::{StatusCode, Uri, header};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use tokio::sync::watch;

use super::{Call, Deed, Peer, Shared, Way};

/// No call of `stint`'s is larger.
const LARGEST: usize = 4 << 20;

/// The way to one peer.
#[derive(Clone)]
pub(super) struct Upstream {
    peer: Peer,
    url: String,
    client: Client<HttpsConnector<HttpConnector>, Body>,
    shared: Arc<Shared>,
    way: watch::Receiver<Way>,
}

impl Upstream {
    pub(super) fn new(
        peer: Peer,
        url: &str,
        authority: &str,
        shared: Arc<Shared>,
        way: watch::Receiver<Way>,
    ) -> Result<Self> {
        let mut roots = rustls::RootCertStore::empty();
        for certificate in CertificateDer::pem_slice_iter(authority.as_bytes()) {
            roots.add(certificate.context("the authority is not PEM")?)?;
        }
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let tls = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_no_client_auth();
        let mut tcp = HttpConnector::new();
        tcp.enforce_http(false);
        tcp.set_nodelay(true);
        let connector = HttpsConnectorBuilder::new()
            .with_tls_config(tls)
            .https_or_http()
            .enable_http1()
            .wrap_connector(tcp);
        // A connection of its own for each call: one that the peer has closed meanwhile would fail a call for no reason of
        // the test's.
        let client = Client::builder(TokioExecutor::new()).pool_max_idle_per_host(0).build(connector);
        Ok(Self { peer, url: url.trim_end_matches('/').to_owned(), client, shared, way })
    }

    pub(super) fn router(self) -> Router {
        Router::new().fallback(pass).with_state(self)
    }

    /// Waits for the way to be open; false: it is refused.
    async fn open(&self) -> bool {
        let mut way = self.way.clone();
        // The sender lives as long as the server that asks.
        way.wait_for(|way| *way != Way::Silent).await.is_ok_and(|way| *way == Way::Open)
    }

    async fn carry_out(&self, request: Request) -> Result<Response> {
        let (mut parts, body) = request.into_parts();
        let path = parts.uri.path_and_query().map_or("/", |path| path.as_str());
        parts.uri = format!("{}{path}", self.url).parse::<Uri>()?;
        parts.headers.remove(header::HOST);
        parts.version = http::Version::HTTP_11;
        let answer = self.client.request(Request::from_parts(parts, body)).await?;
        Ok(answer.map(Body::new))
    }

    /// The answer, which comes in only as long as the way is open; one that is cut ends by an error, as on a connection that
    /// broke.
    fn guarded(&self, answer: Response) -> Response {
        let (refused, open) = (self.way.clone(), self.clone());
        answer.map(|body| {
            let begun = Some((body.into_data_stream(), refused, open));
            Body::from_stream(futures::stream::unfold(begun, |state| async move {
                let (mut pieces, mut refused, open) = state?;
                let next = async {
                    let piece = pieces.next().await;
                    open.open().await.then_some(piece)
                };
                let piece = tokio::select! {
                    _ = refused.wait_for(|way| *way == Way::Refused) => None,
                    piece = next => piece,
                };
                match piece {
                    None => Some((Err(axum::Error::new(parted())), None)),
                    Some(piece) => Some((piece?, Some((pieces, refused, open)))),
                }
            }))
        })
    }
}

fn parted() -> std::io::Error {
    std::io::Error::new(std::io::ErrorKind::ConnectionReset, "parted from this peer")
}

async fn pass(State(upstream): State<Upstream>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let Ok(body) = axum::body::to_bytes(body, LARGEST).await else { return CutConnection::response() };
    let call = Call {
        peer: upstream.peer,
        method: parts.method.to_string(),
        path: parts.uri.path().to_owned(),
        body: serde_json::from_slice(&body).unwrap_or_default(),
        at: Instant::now(),
        status: None,
    };
    if !upstream.open().await {
        return CutConnection::response();
    }
    let (number, deed) = upstream.shared.enter(&call);
    let request = Request::from_parts(parts, Body::from(body));
    let hook = match deed {
        None => None,
        Some(Deed::Before(hook)) => {
            hook();
            return CutConnection::response();
        }
        Some(Deed::Aside(hook)) => {
            hook();
            None
        }
        Some(Deed::Instead { status, headers, body }) => {
            upstream.shared.answered(number, status);
            return instead(status, headers, body);
        }
        Some(Deed::Unanswered(hook)) => Some(hook),
    };
    // In a task of its own: a caller that goes away does not undo a call that is on its way.
    let carrying = tokio::spawn({
        let upstream = upstream.clone();
        async move { upstream.carry_out(request).await }
    });
    match carrying.await {
        Ok(Ok(answer)) => {
            upstream.shared.answered(number, answer.status().as_u16());
            if let Some(hook) = hook {
                hook();
                return CutConnection::response();
            }
            if upstream.open().await { upstream.guarded(answer) } else { CutConnection::response() }
        }
        // The peer itself does not answer.
        Ok(Err(_)) | Err(_) => CutConnection::response(),
    }
}

fn instead(status: u16, headers: Vec<(&'static str, String)>, body: String) -> Response {
    let mut answer = Response::new(Body::from(body));
    *answer.status_mut() = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    for (name, value) in headers {
        if let Ok(value) = value.parse() {
            answer.headers_mut().insert(name, value);
        }
    }
    answer
}
