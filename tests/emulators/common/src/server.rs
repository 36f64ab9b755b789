//! Serves a router over HTTP/1.1, plain or TLS, on a port of its own, until the handle is dropped.
//!
//! The accept loop is ours rather than axum's because a fault must be able to cut the connection: hyper closes it
//! without writing anything when the service returns an error, and axum's services cannot.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use axum::Router;
use axum::body::Body;
use axum::extract::ConnectInfo;
use axum::response::Response;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use rustls::ServerConfig;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinHandle, JoinSet};
use tokio_rustls::TlsAcceptor;
use tower::ServiceExt;

/// Where and how to serve.
#[derive(Clone, Debug)]
pub struct ServeOptions {
    /// The address to listen on; port 0 takes a free one.
    pub addr: SocketAddr,
    /// Serve TLS with this certificate; absent: plain HTTP.
    pub tls: Option<Tls>,
    /// The host name in [`ServerHandle::url`]; absent: the address.
    pub host: Option<String>,
}

impl Default for ServeOptions {
    fn default() -> Self {
        Self { addr: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)), tls: None, host: None }
    }
}

/// A certificate chain and its key.
#[derive(Clone)]
pub struct Tls {
    /// The chain, leaf first, as PEM.
    pub cert_pem: String,
    /// The leaf's private key, as PEM.
    pub key_pem: String,
}

impl std::fmt::Debug for Tls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tls").finish_non_exhaustive()
    }
}

/// A running server. Dropping it closes the port and every connection at once.
#[derive(Debug)]
pub struct ServerHandle {
    /// Where clients reach it, without a slash at the end.
    pub url: String,
    /// The address that it listens on.
    pub addr: SocketAddr,
    accepting: JoinHandle<()>,
}

impl ServerHandle {
    /// Closes the port and every connection, and waits until that has happened: the address can be bound again.
    pub async fn shutdown(mut self) {
        self.accepting.abort();
        // The only way for the task to end is the abort above, which is an error by type and not by meaning.
        let _ = (&mut self.accepting).await;
    }
}

impl Drop for ServerHandle {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

/// In a response's extensions: close the connection instead of sending the response.
#[derive(Clone, Copy, Debug)]
pub struct CutConnection;

impl CutConnection {
    /// A response that is never sent.
    pub fn response() -> Response {
        let mut response = Response::new(Body::empty());
        response.extensions_mut().insert(Self);
        response
    }
}

/// Serves `router` until the handle is dropped.
///
/// # Errors
/// The address cannot be bound, or the certificate or its key cannot be used.
pub async fn serve(router: Router, options: ServeOptions) -> anyhow::Result<ServerHandle> {
    let acceptor = options.tls.as_ref().map(acceptor).transpose()?;
    let listener = TcpListener::bind(options.addr)
        .await
        .with_context(|| format!("cannot listen on {}", options.addr))?;
    let addr = listener.local_addr().context("the listener has no address")?;
    let scheme = if acceptor.is_some() { "https" } else { "http" };
    let url = match options.host {
        Some(host) => format!("{scheme}://{host}:{}", addr.port()),
        None => format!("{scheme}://{addr}"),
    };
    let accepting = tokio::spawn(accept(listener, acceptor, router));
    Ok(ServerHandle { url, addr, accepting })
}

fn acceptor(tls: &Tls) -> anyhow::Result<TlsAcceptor> {
    let chain = CertificateDer::pem_slice_iter(tls.cert_pem.as_bytes())
        .collect::<Result<Vec<_>, _>>()
        .context("the certificate is not PEM")?;
    let key = PrivateKeyDer::from_pem_slice(tls.key_pem.as_bytes()).context("the key is not PEM")?;
    // Named, since a process that links two providers has no default one.
    let mut config =
        ServerConfig::builder_with_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()
            .context("no TLS version is enabled")?
            .with_no_client_auth()
            .with_single_cert(chain, key)
            .context("the certificate and its key do not fit")?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(TlsAcceptor::from(Arc::new(config)))
}

async fn accept(listener: TcpListener, acceptor: Option<TlsAcceptor>, router: Router) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, peer)) => {
                    connections.spawn(connection(stream, peer, acceptor.clone(), router.clone()));
                }
                // Out of file descriptors, most likely: give the connections time to end.
                Err(error) => {
                    tracing::warn!(%error, "cannot accept a connection");
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
            },
            Some(_) = connections.join_next() => {}
        }
    }
}

async fn connection(stream: TcpStream, peer: SocketAddr, acceptor: Option<TlsAcceptor>, router: Router) {
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "cannot set TCP_NODELAY");
    }
    match acceptor {
        None => speak(stream, peer, router).await,
        Some(acceptor) => match acceptor.accept(stream).await {
            Ok(stream) => speak(stream, peer, router).await,
            Err(error) => tracing::debug!(%error, "the TLS handshake failed"),
        },
    }
}

async fn speak<S: AsyncRead + AsyncWrite + Unpin + Send + 'static>(
    stream: S,
    peer: SocketAddr,
    router: Router,
) {
    let service = service_fn(move |request: hyper::Request<Incoming>| {
        let router = router.clone();
        async move {
            let mut request = request.map(Body::new);
            request.extensions_mut().insert(ConnectInfo(peer));
            let response = match router.oneshot(request).await {
                Ok(response) => response,
                Err(never) => match never {},
            };
            if response.extensions().get::<CutConnection>().is_some() {
                return Err(std::io::Error::other("a fault cuts this connection"));
            }
            Ok(response)
        }
    });
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades()
        .await;
    if let Err(error) = served {
        tracing::debug!(%error, "a connection ended");
    }
}
