//! A client whose calls end: what no server answers in time fails, and a watch that is over says so.
//!
//! kube's own client waits for an answer for as long as the connection stands, which behind a load balancer may be for
//! ever. A watch has no such limit, since it may have nothing to tell; kube's watcher counts its silence itself. But that
//! takes a watch up again that ended without an error, at the version it had reached, and the store may have been put back
//! to an earlier one while its server was away. So here no watch ends without an error.

use std::convert::Infallible;
use std::io;
use std::time::Duration;

use bytes::Bytes;
use futures::{StreamExt, TryStreamExt};
use http::{Method, Request, Response};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::Frame;
use kube::client::Body;
use kube::{Client, Error};
use tokio::time::{Instant, timeout_at};

/// A client like this one that waits so long for each answer, and tells `done` of each call that succeeded, with when it
/// was begun. To be made within a runtime.
pub(super) fn limited(
    client: &Client,
    within: Duration,
    done: impl Fn(&Method, Instant) + Clone + Send + 'static,
) -> Client {
    let namespace = client.default_namespace().to_owned();
    let client = client.clone();
    let service = tower::service_fn(move |request: Request<Body>| {
        let (client, done) = (client.clone(), done.clone());
        async move {
            let (begun, method) = (Instant::now(), request.method().clone());
            let watches =
                request.uri().query().is_some_and(|query| query.split('&').any(|part| part == "watch=true"));
            let answered = async {
                let (parts, body) = client.send(request).await?.into_parts();
                let body = if watches && parts.status.is_success() {
                    watched(body)
                } else {
                    let whole = body.collect().await?.to_bytes();
                    Full::new(whole).map_err(|never: Infallible| match never {}).boxed_unsync()
                };
                Ok::<_, Error>(Response::from_parts(parts, body))
            };
            let answer = match timeout_at(begun + within, answered).await {
                Ok(answer) => answer?,
                Err(_) => {
                    let why = format!("no answer within {within:?}");
                    return Err(Error::Service(why.into()));
                }
            };
            if answer.status().is_success() {
                done(&method, begun);
            }
            Ok(answer)
        }
    });
    Client::new(service, namespace)
}

/// The body of a watch, which ends with an error however it ends. What broke it is not passed on: kube takes some of these
/// errors for an end, too.
fn watched(body: Body) -> UnsyncBoxBody<Bytes, io::Error> {
    let ended = async { Err(io::Error::other("the server ended the watch")) };
    let events = body.into_data_stream().map_err(|error| {
        tracing::debug!(%error, "the connection of a watch broke");
        io::Error::other("the connection of the watch broke")
    });
    StreamBody::new(events.chain(futures::stream::once(ended)).map_ok(Frame::data)).boxed_unsync()
}

#[cfg(test)]
mod tests {
    use std::future::pending;
    use std::sync::{Arc, Mutex};

    use kube::Api;
    use kube::api::{ApiResource, DynamicObject, Patch, PatchParams, PostParams, WatchParams};

    use super::*;
    use crate::config::RunnerClass;

    const WITHIN: Duration = Duration::from_millis(100);

    /// What a server does with every request; it is given the query.
    fn api<F>(serve: fn(String) -> F) -> Api<RunnerClass>
    where
        F: Future<Output = io::Result<Response<UnsyncBoxBody<Bytes, io::Error>>>> + Send + 'static,
    {
        let service = tower::service_fn(move |request: Request<Body>| {
            serve(request.uri().query().unwrap_or_default().to_owned())
        });
        Api::default_namespaced(limited(&Client::new(service, "ci"), WITHIN, |_, _| {}))
    }

    fn whole(code: u16, text: &'static str) -> Response<UnsyncBoxBody<Bytes, io::Error>> {
        let body = Full::new(Bytes::from(text)).map_err(|never| match never {}).boxed_unsync();
        Response::builder().status(code).body(body).unwrap()
    }

    #[tokio::test]
    async fn a_call_that_is_never_answered_fails() {
        let error = api(|_| pending()).get("c").await.unwrap_err();
        assert!(error.to_string().contains("no answer within 100ms"), "{error}");
    }

    #[tokio::test]
    async fn so_does_one_whose_answer_never_ends() {
        let endless = api(|_| async {
            let body = StreamBody::new(futures::stream::pending()).boxed_unsync();
            Ok(Response::new(body))
        });
        endless.get("c").await.unwrap_err();
    }

    #[tokio::test]
    async fn a_watch_may_be_silent_for_longer_and_ends_with_an_error() {
        let quiet = api(|query| async move {
            assert!(query.contains("watch=true"), "{query}");
            let over = async {
                tokio::time::sleep(WITHIN * 3).await;
                None
            };
            let body = StreamBody::new(futures::stream::once(over).filter_map(|end| async { end }));
            Ok(Response::new(body.boxed_unsync()))
        });
        let begun = Instant::now();
        let mut events = quiet.watch(&WatchParams::default(), "7").await.unwrap().boxed();
        let error = events.next().await.unwrap().unwrap_err();
        assert!(error.to_string().contains("the server ended the watch"), "{error}");
        assert!(begun.elapsed() >= WITHIN * 3);
    }

    #[tokio::test]
    async fn what_succeeded_is_told_with_when_it_was_begun() {
        let service = tower::service_fn(|request: Request<Body>| async move {
            Ok::<_, io::Error>(match *request.method() {
                Method::PATCH => whole(
                    200,
                    r#"{"apiVersion":"stint.dev/v1alpha1","kind":"RunnerClass","metadata":{"name":"c"},"spec":{}}"#,
                ),
                _ => whole(409, r#"{"status":"Failure","reason":"Conflict","code":409}"#),
            })
        });
        let told = Arc::new(Mutex::new(Vec::new()));
        let to = told.clone();
        let begun = Instant::now();
        let client = limited(&Client::new(service, "ci"), WITHIN, move |method, at| {
            to.lock().unwrap().push((method.clone(), at));
        });
        let kind = ApiResource::erase::<RunnerClass>(&());
        let api: Api<DynamicObject> = Api::default_namespaced_with(client, &kind);
        let patch = Patch::Merge(serde_json::json!({}));
        api.patch("c", &PatchParams::default(), &patch).await.unwrap();
        let answered = Instant::now();
        api.replace("c", &PostParams::default(), &DynamicObject::new("c", &kind)).await.unwrap_err();
        let told = told.lock().unwrap();
        assert!(
            matches!(told.as_slice(), [(Method::PATCH, at)] if *at >= begun && *at < answered),
            "{told:?}"
        );
    }
}
