//! Against a collector that takes spans, and one that never answers.

use std::net::Ipv4Addr;

use axum::body::Bytes;
use hansard_core::id::Timestamp;
use hansard_runtime::ports::traces::Description;
use hansard_runtime::trace::TraceParent;
use tokio::net::TcpListener;

use super::*;

fn traces(listener: &TcpListener, ratio: f64) -> OtlpTraces {
    let endpoint = format!("http://{}", listener.local_addr().expect("an address"));
    OtlpTraces::start(&config(endpoint, ratio)).expect("starts")
}

fn config(endpoint: String, ratio: f64) -> OtlpConfig {
    OtlpConfig { endpoint, authorities: Authorities::default(), ratio, instance: "here".to_owned() }
}

fn counted(traces: &OtlpTraces, result: &str) -> u64 {
    traces.spans.with_label_values(&[result]).get()
}

fn span(number: u8) -> Span {
    Span {
        place: TraceParent { trace: [7; 16], span: [number; 8], sampled: true },
        parent: Some([9; 8]),
        begun: Timestamp(1_000),
        ended: Timestamp(2_000),
        what: Description {
            job: "split",
            name: "split Upload".to_owned(),
            attributes: vec![("hansard.conversation", "c-1".to_owned())],
            failed: Some("too_large"),
        },
    }
}

async fn listener() -> TcpListener {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a free port")
}

#[tokio::test]
async fn a_flush_sends_what_was_told() {
    let listener = listener().await;
    let traces = traces(&listener, 1.0);
    let (sent, mut came) = mpsc::unbounded_channel();
    let taken = async move |body: Bytes| {
        sent.send(body).expect("the test waits");
    };
    let router = axum::Router::new().route("/v1/traces", axum::routing::post(taken));
    tokio::spawn(axum::serve(listener, router).into_future());
    for number in 1..=3 {
        traces.ended(span(number));
    }
    traces.flush().await;
    let body = came.try_recv().expect("a request");
    let holds = |part: &[u8]| body.windows(part.len()).any(|window| window == part);
    for number in 1..=3 {
        assert!(holds(&[number; 8]), "span {number} is missing");
    }
    for part in [&[7; 16][..], &[9; 8], b"split Upload", b"c-1", b"too_large", b"hansard", b"here"] {
        assert!(holds(part), "{part:?} is missing");
    }
    assert_eq!((came.try_recv().is_err(), counted(&traces, "sent"), counted(&traces, "lost")), (true, 3, 0));
}

#[tokio::test]
async fn a_collector_that_never_answers_holds_nobody_up() {
    // Connections are taken by the system, and nobody reads from them.
    let listener = listener().await;
    let traces = traces(&listener, 1.0);
    let told = WAITING_MAX + BATCH_MAX + 100;
    // None of these awaits, so that the task cannot even run meanwhile.
    (0..told).for_each(|_| traces.ended(span(1)));
    let lost = u64::try_from(told - WAITING_MAX).expect("few");
    assert_eq!(counted(&traces, "lost"), lost);
    let flushed = tokio::time::timeout(Duration::from_millis(50), traces.flush()).await;
    assert!(flushed.is_err(), "nothing was taken, and yet all is sent");
    assert_eq!((counted(&traces, "sent"), counted(&traces, "lost")), (0, lost));
    drop(listener);
}

#[tokio::test]
async fn what_a_collector_refuses_is_lost() {
    let listener = listener().await;
    let traces = traces(&listener, 1.0);
    // There is no such call.
    tokio::spawn(axum::serve(listener, axum::Router::new()).into_future());
    traces.ended(span(1));
    traces.flush().await;
    let registry = Registry::new();
    traces.register(&registry).expect("a fresh registry");
    let told = prometheus::TextEncoder::new().encode_to_string(&registry.gather()).expect("metrics");
    assert!(told.lines().any(|line| line == "hansard_spans_total{result=\"lost\"} 1"), "{told}");
}

#[tokio::test]
async fn the_share_is_the_share_of_traces() {
    let listener = listener().await;
    let traces = |ratio| traces(&listener, ratio);
    let (all, half, none) = (traces(1.0), traces(0.5), traces(0.0));
    let roots = (0..2_000).map(|number| TraceParent::of_conversation(&format!("c-{number}")).trace);
    let roots: Vec<[u8; 16]> = roots.collect();
    let taken = |traces: &OtlpTraces| roots.iter().filter(|trace| traces.samples(**trace)).count();
    assert_eq!((taken(&all), taken(&none)), (2_000, 0));
    assert!((900..1_100).contains(&taken(&half)), "{}", taken(&half));
    assert!(all.samples([255; 16]) && !half.samples([255; 16]));
}

#[tokio::test]
async fn an_address_that_is_none_is_named() {
    let config = config("http://a b".to_owned(), 1.0);
    let Err(refused) = OtlpTraces::start(&config) else { panic!("it is no address") };
    assert!(refused.to_string().contains("http://a b/v1/traces"), "{refused}");
}
