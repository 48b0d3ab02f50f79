//! Server-sent events over HTTP.

use serde_json::{Value, json};

use super::reading::{split, transcript, upload};
use super::{Fixture, fixture};

/// An event as a browser reads it.
#[derive(Debug)]
struct Received {
    name: String,
    id: String,
    data: Value,
}

/// A reader of one stream.
struct Reader {
    response: reqwest::Response,
    buffer: String,
}

impl Reader {
    async fn connect(gateway: &Fixture, path: &str, last: Option<&str>) -> Self {
        let mut request = gateway.http.get(format!("{}{path}", gateway.base));
        if let Some(last) = last {
            request = request.header("last-event-id", last);
        }
        let response = request.send().await.expect("an answer");
        assert_eq!(response.status(), 200);
        assert_eq!(response.headers()["content-type"], "text/event-stream");
        Self { response, buffer: String::new() }
    }

    /// The next event; comments keep a connection alive and are skipped.
    async fn next(&mut self) -> Received {
        loop {
            if let Some(end) = self.buffer.find("\n\n") {
                let block: String = self.buffer.drain(..end + 2).collect();
                let field = |name: &str| {
                    let mut lines = block.lines();
                    lines.find_map(|line| line.strip_prefix(name)).map(|value| value.trim().to_owned())
                };
                if let (Some(name), Some(id), Some(data)) = (field("event:"), field("id:"), field("data:")) {
                    return Received { name, id, data: serde_json::from_str(&data).expect("json") };
                }
                continue;
            }
            let bytes = self.response.chunk().await.expect("reads").expect("the stream goes on");
            self.buffer.push_str(std::str::from_utf8(&bytes).expect("text"));
        }
    }
}

#[tokio::test]
async fn what_happens_is_told_once_and_a_reader_comes_back_to_its_place() {
    let gateway = fixture().await;
    let token = gateway.open("c").await;
    gateway.open("other").await;
    // A browser's EventSource sends no headers, so the token may stand in the query.
    let path = format!("/v1/conversations/c/events?access_token={token}");
    let mut reader = Reader::connect(&gateway, &path, None).await;
    assert_eq!(reader.next().await.name, "hello");
    gateway.chunk(&token, "c", "k").await;
    let first = reader.next().await;
    assert_eq!(
        (first.name.as_str(), &first.data["chunk_id"]),
        ("upload", &json!("k")),
        "the Open was before"
    );
    let split = split(&upload(&gateway, "c").await, 1);
    gateway.emit(split.clone()).await;
    assert_eq!(reader.next().await.name, "split");
    drop(reader);

    gateway.open("other").await;
    gateway.emit(transcript(&split, 0, "said")).await;
    let mut again = Reader::connect(&gateway, &path, Some(&first.id)).await;
    assert_eq!(again.next().await.name, "hello");
    let mut names = [again.next().await, again.next().await].map(|event| {
        assert!(!event.data.to_string().contains("said"), "{event:?}");
        event.name
    });
    names.sort();
    assert_eq!(names, ["split", "transcript"]);
}

#[tokio::test]
async fn streams_are_bounded() {
    let gateway = Fixture::with(|config, _| config.limits.streams = 1).await;
    gateway.open("c").await;
    let path = "/v1/conversations/c/events";
    let mut first = Reader::connect(&gateway, path, None).await;
    first.next().await;
    let refused = gateway.get(path).await;
    refused.refused(429, "too_many_streams");
    assert!(refused.headers.contains_key("retry-after"));
    let bad = gateway.http.get(format!("{}{path}", gateway.base)).header("last-event-id", "x");
    drop(first);
    // The place is free again once the server has seen the reader go, which the next answer other than 429 shows.
    loop {
        let answered = gateway.send(bad.try_clone().expect("no body")).await;
        if answered.status != 429 {
            answered.refused(400, "invalid_cursor");
            break;
        }
    }
}
