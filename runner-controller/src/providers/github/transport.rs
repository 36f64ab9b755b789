//! How calls reach GitHub: one connection pool, with time-outs, a proxy where one is set, and extra certificates.
//!
//! Nothing here repeats a call. hyper alone sends again, on a new connection, what it has not begun to write on a
//! pooled connection that turned out to be closed.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::uri::{Authority, PathAndQuery, Scheme};
use http::{HeaderValue, Request, Response, Uri, header};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::client::legacy::connect::proxy::Tunnel;
use hyper_util::rt::{TokioExecutor, TokioIo};
use octocrab::OctoBody;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;
use tokio::net::TcpStream;
use tower::{BoxError, Service, ServiceExt as _};

use super::{GitHubSettings, GitHubSettingsError};

/// Until a connection stands, TLS and proxy included.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Until the whole answer is read.
const CALL_TIMEOUT: Duration = Duration::from_secs(30);
/// A page of 100 runners is about 100 KB.
const MAX_ANSWER: usize = 8 << 20;

type Boxed<T> = Pin<Box<dyn Future<Output = Result<T, BoxError>> + Send>>;

/// The service below octocrab.
#[derive(Clone)]
pub(super) struct Transport {
    client: Client<Timed<HttpsConnector<Dial>>, OctoBody>,
    scheme: Scheme,
    authority: Authority,
    prefix: String,
    user_agent: HeaderValue,
    call_timeout: Duration,
}

impl Transport {
    pub(super) fn new(settings: &GitHubSettings) -> Result<Self, GitHubSettingsError> {
        let (scheme, authority, prefix) = api_url(&settings.api_url)?;
        let user_agent = HeaderValue::from_str(&settings.user_agent)
            .map_err(|_| GitHubSettingsError::new("userAgent", "it is no value of an HTTP header"))?;
        let tls = tls(settings.ca_bundle.as_deref(), scheme == Scheme::HTTPS)?;
        let connector = HttpsConnectorBuilder::new()
            .with_tls_config(tls)
            .https_or_http()
            .enable_http1()
            .wrap_connector(Dial::new(settings.proxy.as_deref())?);
        let client = Client::builder(TokioExecutor::new()).build(Timed(connector));
        let call_timeout = CALL_TIMEOUT;
        Ok(Self { client, scheme, authority, prefix, user_agent, call_timeout })
    }

    fn complete(&self, request: &mut Request<OctoBody>) -> Result<(), http::Error> {
        let path = request.uri().path_and_query().map_or("/", PathAndQuery::as_str);
        let uri = Uri::builder()
            .scheme(self.scheme.clone())
            .authority(self.authority.clone())
            .path_and_query(format!("{}{path}", self.prefix))
            .build()?;
        *request.uri_mut() = uri;
        let headers = request.headers_mut();
        headers.insert(header::USER_AGENT, self.user_agent.clone());
        headers.insert(header::ACCEPT, HeaderValue::from_static("application/vnd.github+json"));
        headers.insert("x-github-api-version", HeaderValue::from_static("2022-11-28"));
        Ok(())
    }
}

impl Service<Request<OctoBody>> for Transport {
    type Response = Response<Full<Bytes>>;
    type Error = BoxError;
    type Future = Boxed<Self::Response>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, mut request: Request<OctoBody>) -> Self::Future {
        let this = self.clone();
        Box::pin(async move {
            this.complete(&mut request)?;
            let answer = async {
                let (parts, body) = this.client.request(request).await?.into_parts();
                let body = Limited::new(body, MAX_ANSWER).collect().await?.to_bytes();
                Ok::<_, BoxError>(Response::from_parts(parts, Full::new(body)))
            };
            match tokio::time::timeout(this.call_timeout, answer).await {
                Ok(answer) => answer,
                Err(_) => Err(format!("no answer within {:?}", this.call_timeout).into()),
            }
        })
    }
}

fn api_url(url: &str) -> Result<(Scheme, Authority, String), GitHubSettingsError> {
    let wrong = |problem: &str| GitHubSettingsError::new("apiUrl", problem);
    let parts = url.parse::<Uri>().map_err(|_| wrong("it is no URL"))?.into_parts();
    let (Some(scheme), Some(authority)) = (parts.scheme, parts.authority) else {
        return Err(wrong("it must be http(s)://HOST[/PATH]"));
    };
    if scheme != Scheme::HTTP && scheme != Scheme::HTTPS {
        return Err(wrong("it must begin with https:// (or http:// for an emulator)"));
    }
    if authority.as_str().contains('@') {
        return Err(wrong("it must not contain a user or password"));
    }
    let prefix =
        parts.path_and_query.as_ref().map_or("", PathAndQuery::path).trim_end_matches('/').to_owned();
    Ok((scheme, authority, prefix))
}

/// TLS with the system's certificates and the bundle's.
fn tls(bundle: Option<&str>, needed: bool) -> Result<rustls::ClientConfig, GitHubSettingsError> {
    let mut roots = rustls::RootCertStore::empty();
    // Some systems hold certificates that rustls cannot read; the others are as good.
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if let Some(bundle) = bundle {
        let wrong = |problem: &str| GitHubSettingsError::new("caBundle", problem);
        let mut found = false;
        for certificate in CertificateDer::pem_slice_iter(bundle.as_bytes()) {
            let certificate = certificate.map_err(|_| wrong("it is not a list of certificates in PEM"))?;
            roots.add(certificate).map_err(|_| wrong("one of its certificates cannot be read"))?;
            found = true;
        }
        if !found {
            return Err(wrong("it contains no certificate in PEM"));
        }
    }
    if roots.is_empty() && needed {
        let problem = "this system has no CA certificates: install them, or set caBundle";
        return Err(GitHubSettingsError::new("caBundle", problem));
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    Ok(rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| GitHubSettingsError::new("apiUrl", format!("TLS cannot be set up: {error}")))?
        .with_root_certificates(roots)
        .with_no_client_auth())
}

/// Opens a TCP connection, directly or through a proxy's CONNECT.
#[derive(Clone)]
enum Dial {
    Direct(HttpConnector),
    Proxied(Tunnel<HttpConnector>),
}

impl Dial {
    fn new(proxy: Option<&str>) -> Result<Self, GitHubSettingsError> {
        let mut tcp = HttpConnector::new();
        tcp.enforce_http(false);
        tcp.set_nodelay(true);
        let Some(proxy) = proxy else { return Ok(Self::Direct(tcp)) };
        let (address, login) = proxy_url(proxy)?;
        let tunnel = Tunnel::new(address, tcp);
        Ok(Self::Proxied(match login {
            Some(login) => tunnel.with_auth(login),
            None => tunnel,
        }))
    }
}

impl Service<Uri> for Dial {
    type Response = TokioIo<TcpStream>;
    type Error = BoxError;
    type Future = Boxed<Self::Response>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, to: Uri) -> Self::Future {
        match self {
            Dial::Direct(tcp) => {
                let tcp = tcp.clone();
                Box::pin(async move { tcp.oneshot(to).await.map_err(BoxError::from) })
            }
            Dial::Proxied(tunnel) => {
                let tunnel = tunnel.clone();
                Box::pin(async move { tunnel.oneshot(with_port(to)?).await.map_err(BoxError::from) })
            }
        }
    }
}

/// Names the port, which the tunnel would take for 443 whatever the scheme.
fn with_port(uri: Uri) -> Result<Uri, BoxError> {
    let host = uri.host().unwrap_or_default();
    let port = uri.port_u16().unwrap_or(if uri.scheme() == Some(&Scheme::HTTP) { 80 } else { 443 });
    Ok(Uri::builder()
        .scheme(uri.scheme_str().unwrap_or("https"))
        .authority(format!("{host}:{port}"))
        .path_and_query("/")
        .build()?)
}

fn proxy_url(url: &str) -> Result<(Uri, Option<HeaderValue>), GitHubSettingsError> {
    let wrong = || GitHubSettingsError::new("proxy", "it must be http://[USER:PASSWORD@]HOST[:PORT]");
    let uri: Uri = url.parse().map_err(|_| wrong())?;
    if uri.scheme() != Some(&Scheme::HTTP) {
        return Err(wrong());
    }
    let host = uri.host().filter(|host| !host.is_empty()).ok_or_else(wrong)?;
    let address = Uri::builder()
        .scheme(Scheme::HTTP)
        .authority(format!("{host}:{}", uri.port_u16().unwrap_or(80)))
        .path_and_query("/")
        .build()
        .map_err(|_| wrong())?;
    let login =
        uri.authority().and_then(|authority| authority.as_str().rsplit_once('@')).map(|(login, _)| login);
    let Some(login) = login else { return Ok((address, None)) };
    let (user, password) = login.split_once(':').unwrap_or((login, ""));
    let mut plain = decoded(user);
    plain.push(b':');
    plain.extend(decoded(password));
    let mut value =
        HeaderValue::from_str(&format!("Basic {}", STANDARD.encode(plain))).map_err(|_| wrong())?;
    value.set_sensitive(true);
    Ok((address, Some(value)))
}

/// Undoes percent-encoding; what is none stays as it is.
fn decoded(text: &str) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, after)) = rest.split_first() {
        let coded = (first == b'%').then(|| after.get(..2)).flatten();
        match coded.and_then(|digits| hex::decode(digits).ok()) {
            Some(byte) => {
                out.extend(byte);
                rest = after.get(2..).unwrap_or_default();
            }
            None => {
                out.push(first);
                rest = after;
            }
        }
    }
    out
}

/// A connector that gives up after [`CONNECT_TIMEOUT`].
#[derive(Clone)]
struct Timed<C>(C);

impl<C> Service<Uri> for Timed<C>
where
    C: Service<Uri>,
    C::Error: Into<BoxError>,
    C::Future: Send + 'static,
{
    type Response = C::Response;
    type Error = BoxError;
    type Future = Boxed<C::Response>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.0.poll_ready(context).map_err(Into::into)
    }

    fn call(&mut self, to: Uri) -> Self::Future {
        let connecting = self.0.call(to);
        Box::pin(async move {
            match tokio::time::timeout(CONNECT_TIMEOUT, connecting).await {
                Ok(connected) => connected.map_err(Into::into),
                Err(_) => Err(format!("no connection within {CONNECT_TIMEOUT:?}").into()),
            }
        })
    }
}

#[cfg(test)]
mod tests;
