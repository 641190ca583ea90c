//! What is asked for by HTTP: `/metrics`.

use std::convert::Infallible;
use std::net::{IpAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::{CONTENT_TYPE, HOST};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::runtime::Runtime;
use tokio::sync::{Semaphore, watch};

use super::metrics::metrics;
use super::openmetrics;
use super::server::{Shared, Stage, reached, run};
use crate::engine::Engine;

/// How many connections are answered at a time; more wait.
const CONNECTIONS: usize = 64;
/// How long a request's header may take to come, and how long a connection may be idle.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long a connection may last, however busy it is: who doesn't read its answers keeps a place from others.
const LIFETIME: Duration = Duration::from_secs(60);

/// Answers requests until the server is closed.
pub(super) fn serve(
    runtime: Runtime,
    listener: TcpListener,
    engine: Arc<Engine>,
    shared: Arc<Shared>,
    mut stage: watch::Receiver<Stage>,
) {
    let serving = async {
        let listener = tokio::net::TcpListener::from_std(listener)?;
        let places = Arc::new(Semaphore::new(CONNECTIONS));
        loop {
            let accepted = tokio::select! {
                accepted = async {
                    let place = places.clone().acquire_owned().await.map_err(std::io::Error::other)?;
                    listener.accept().await.map(|(stream, _)| (stream, place))
                } => accepted,
                () = reached(&mut stage, Stage::Closed) => return Ok(()),
            };
            let Ok((stream, place)) = accepted else {
                // Too many open files, most likely: it passes when a connection is closed.
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            };
            let _ = stream.set_nodelay(true);
            let (engine, shared) = (engine.clone(), shared.clone());
            tokio::spawn(async move {
                let answer = service_fn(|request| {
                    let answer = answer(&request, &engine, &shared);
                    async move { Ok::<_, Infallible>(answer) }
                });
                let mut http = http1::Builder::new();
                http.timer(TokioTimer::new()).header_read_timeout(PATIENCE).max_buf_size(16 << 10);
                // What goes wrong with a connection is its client's to know.
                let _ = tokio::time::timeout(LIFETIME, http.serve_connection(TokioIo::new(stream), answer)).await;
                drop(place);
            });
        }
    };
    run(runtime, "answer HTTP requests", serving);
}

fn answer(request: &Request<Incoming>, engine: &Engine, shared: &Shared) -> Response<Full<Bytes>> {
    let text = |status, text: &'static str| (status, "text/plain; charset=utf-8", text.to_string());
    let (status, kind, body) = match (request.method(), request.uri().path()) {
        _ if !is_meant(request) => text(StatusCode::FORBIDDEN, "ask by address or as localhost\n"),
        (&Method::GET | &Method::HEAD, "/metrics") => {
            (StatusCode::OK, openmetrics::CONTENT_TYPE, metrics(&engine.stats(), &shared.counts.stats()))
        }
        (&Method::GET | &Method::HEAD, _) => text(StatusCode::NOT_FOUND, "there is /metrics\n"),
        _ => text(StatusCode::METHOD_NOT_ALLOWED, "only GET\n"),
    };
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, hyper::header::HeaderValue::from_static(kind));
    response
}

/// Whether whoever asks knows whom: not a page of some site, whose name was made to lead here.
fn is_meant(request: &Request<Incoming>) -> bool {
    let Some(host) = request.headers().get(HOST).and_then(|host| host.to_str().ok()) else { return true };
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    };
    let name = name.trim_start_matches('[').trim_end_matches(']');
    name.eq_ignore_ascii_case("localhost") || name.parse::<IpAddr>().is_ok()
}
