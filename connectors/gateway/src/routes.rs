//! Which call does what: one table, which the router and the test of the OpenAPI description share.

use std::sync::Arc;
use std::time::Instant;

use axum::extract::{DefaultBodyLimit, MatchedPath, Request, State};
use axum::http::{HeaderName, HeaderValue, Method, header};
use axum::middleware::{self, Next};
use axum::response::Response;
use axum::routing::{MethodRouter, delete, get, post};
use axum::{Extension, Router};
use hansard_runtime::trace;
use tower_http::cors::{AllowOrigin, CorsLayer};

use crate::caller::guard;
use crate::problem::{Code, Problem};
use crate::{
    Gateway, Surface, callback, dead_letters, events, explain, ingest, operate, pages, probes, read, results,
    sweep, tail,
};

/// A call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Route {
    /// Its method.
    pub method: &'static str,
    /// Its path, with names in braces.
    pub path: &'static str,
    /// Whether only [`Surface::Everything`] has it.
    pub operators_only: bool,
}

type Served = MethodRouter<Arc<Gateway>>;

macro_rules! routes {
    ($($method:ident $path:literal $surface:ident => $call:path;)+) => {
        /// All calls.
        pub const ROUTES: &[Route] = &[$(Route {
            method: stringify!($method),
            path: $path,
            operators_only: routes!(@only $surface),
        },)+];

        fn served() -> Vec<(Route, Served)> {
            ROUTES.iter().copied().zip([$($method($call),)+]).collect()
        }
    };
    (@only public) => { false };
    (@only operators) => { true };
}

routes! {
    post "/v1/conversations" public => ingest::open;
    get "/v1/conversations" public => read::list;
    get "/v1/conversations/{id}" public => read::status;
    delete "/v1/conversations/{id}" public => operate::erase;
    post "/v1/conversations/{id}/chunks" public => ingest::chunks;
    post "/v1/conversations/{id}/chunks/{chunk}/confirm" public => ingest::confirm;
    post "/v1/conversations/{id}/finish" public => ingest::finish;
    get "/v1/conversations/{id}/explain" public => explain::explain;
    get "/v1/conversations/{id}/events" public => events::events;
    get "/v1/conversations/{id}/transcript" public => results::transcript;
    get "/v1/conversations/{id}/summary" public => results::summary;
    get "/v1/conversations/{id}/audio" public => results::audio;
    post "/v1/conversations/{id}/rerun" public => operate::rerun;
    post "/v1/callbacks/{provider}/{token}" public => callback::callback;
    get "/v1/dead-letters" operators => dead_letters::list;
    get "/v1/dead-letters/{id}" operators => dead_letters::show;
    post "/v1/dead-letters/redrive" operators => dead_letters::redrive;
    post "/v1/dead-letters/dismiss" operators => dead_letters::dismiss;
    post "/v1/sweep" operators => sweep::sweep;
    get "/v1/topics/{topic}" operators => tail::tail;
    get "/openapi.json" public => pages::openapi;
    get "/healthz" public => probes::healthz;
    get "/readyz" public => probes::readyz;
    get "/metrics" operators => probes::metrics;
    get "/" operators => pages::page;
}

/// What an orchestrator asks of every process.
pub(crate) const PROBES: [&str; 2] = ["/healthz", "/readyz"];

pub(crate) fn router(gateway: Arc<Gateway>, surface: Surface) -> Router {
    let mut router: Router<Arc<Gateway>> = Router::new();
    for (route, served) in served() {
        let answered = match surface {
            Surface::Everything => true,
            Surface::Public => !route.operators_only,
            Surface::Probes => PROBES.contains(&route.path) || route.path == "/metrics",
        };
        if answered {
            router = router.route(route.path, served);
        }
    }
    router
        .fallback(async || Problem::new(Code::NoRoute, "there is no such call, see /openapi.json"))
        .method_not_allowed_fallback(async || {
            Problem::new(Code::MethodNotAllowed, "the call has another method")
        })
        .layer(DefaultBodyLimit::max(gateway.config.limits.body_bytes))
        .layer(middleware::from_fn_with_state(gateway.clone(), measure))
        .layer(middleware::from_fn_with_state(gateway.clone(), guard))
        .layer(cors(&gateway))
        .layer(Extension(surface))
        .with_state(gateway)
}

/// Pages of the listed origins may call; with keys `*` stands for all, since a key travels in no cookie.
fn cors(gateway: &Gateway) -> CorsLayer {
    let listed = &gateway.config.cors_origins;
    let any = listed.iter().any(|origin| origin == "*") && !gateway.config.keys.is_empty();
    let origins = listed.iter().filter_map(|origin| HeaderValue::from_str(origin).ok());
    let origins = origins.filter(|origin| origin != "*");
    let allowed = if any { AllowOrigin::any() } else { AllowOrigin::list(origins) };
    CorsLayer::new()
        .allow_origin(allowed)
        .allow_methods([Method::GET, Method::POST, Method::DELETE])
        .allow_headers([
            header::AUTHORIZATION,
            header::CONTENT_TYPE,
            HeaderName::from_static("idempotency-key"),
            HeaderName::from_static("last-event-id"),
            HeaderName::from_static(trace::HEADER),
        ])
        .expose_headers([header::RETRY_AFTER])
}

/// Counts calls by route, never by URL: ids are endless and may tell something.
async fn measure(
    State(gateway): State<Arc<Gateway>>,
    path: Option<MatchedPath>,
    request: Request,
    next: Next,
) -> Response {
    let route = path.as_ref().map_or("none", |path| path.as_str()).to_owned();
    let method = if request.method() == Method::GET { "get" } else { "other" };
    let begun = Instant::now();
    let response = next.run(request).await;
    gateway.seconds.with_label_values(&[&route]).observe(begun.elapsed().as_secs_f64());
    gateway.requests.with_label_values(&[route.as_str(), method, response.status().as_str()]).inc();
    response
}
