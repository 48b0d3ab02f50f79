//! The header of a trace: what is read, what is not, and that a conversation's own trace is the same everywhere.

use super::TraceParent;

const W3C: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

#[test]
fn a_place_is_read_as_it_is_written() {
    let place = TraceParent::parse(W3C.as_bytes()).expect("the example of the specification");
    assert_eq!((place.to_string().as_str(), place.sampled), (W3C, true));
    assert_eq!(place.span, [0x00, 0xf0, 0x67, 0xaa, 0x0b, 0xa9, 0x02, 0xb7]);
    assert_eq!(TraceParent::read(&vec![("other".into(), "x".into()), place.header()]), Some(place));
    let unrecorded = TraceParent { sampled: false, ..place };
    assert_eq!(TraceParent::parse(unrecorded.to_string().as_bytes()), Some(unrecorded));
    let later = format!("cc{}-what-will-come", &W3C[2..]);
    assert_eq!(TraceParent::parse(later.as_bytes()), Some(place));
}

#[test]
fn what_is_no_place_is_none() {
    let zeros = |from: usize, to: usize| format!("{}{}{}", &W3C[..from], "0".repeat(to - from), &W3C[to..]);
    let wrong = [
        String::new(),
        W3C[..54].to_owned(),
        format!("{W3C}-more"),
        format!("cc{}more", &W3C[2..]),
        format!("ff{}", &W3C[2..]),
        W3C.to_uppercase(),
        W3C.replace('-', "_"),
        W3C.replace('b', "g"),
        zeros(3, 35),
        zeros(36, 52),
    ];
    for text in wrong {
        assert_eq!(TraceParent::parse(text.as_bytes()), None, "{text:?}");
    }
}

#[test]
fn a_conversation_has_one_trace_of_its_own() {
    let root = TraceParent::of_conversation("c-1").to_string();
    assert_eq!(root, TraceParent::of_conversation("c-1").to_string());
    assert_ne!(root, TraceParent::of_conversation("c-2").to_string());
    // Processes of different versions must agree.
    assert_eq!(root, "00-7add7f59df14b5e0ccbc9b378724e9ac-bae9d9b8c86f7273-00");
}
