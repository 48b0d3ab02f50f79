//! Records under ids that were not known yet: asked for once, refused for good, or waited for.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};

use async_trait::async_trait;
use futures::FutureExt as _;
use hansard_core::redelivery::Class;
use hansard_schemas::{Encode as _, Finish, Framing, Record, RecordName, Registry, encode};

use super::*;
use crate::ports::PortError;
use crate::stage::Failed;

/// A registry that knows two ids and is down for a third.
#[derive(Default)]
struct Fake {
    asked: AtomicUsize,
}

#[async_trait]
impl Schemas for Fake {
    async fn schema(&self, id: u32) -> Result<String, PortError> {
        self.asked.fetch_add(1, Ordering::Relaxed);
        match id {
            100 => Ok(RecordName::Finish.schema().to_owned()),
            101 => Ok("\"string\"".to_owned()),
            102 => Err(PortError::Unavailable { service: "registry", cause: "down".to_owned() }),
            _ => Err(PortError::NotFound { what: format!("schema id {id}") }),
        }
    }

    async fn probe(&self) -> Result<(), PortError> {
        Ok(())
    }
}

fn framing() -> Framing {
    let ids: HashMap<RecordName, u32> = RecordName::ALL.iter().copied().zip(1..).collect();
    Framing::Registry(Registry::new(&ids).expect("all"))
}

fn finish() -> Finish {
    Finish { conversation_id: "c".into(), ..Finish::default() }
}

fn under(id: u32) -> Vec<u8> {
    let mut bytes = [&[0][..], &id.to_be_bytes()].concat();
    finish().write_datum(&mut bytes);
    bytes
}

fn read(framing: &Framing, fake: &Fake, bytes: &[u8]) -> Result<Record, Failed> {
    decode(framing, Some(fake), bytes).now_or_never().expect("the fake answers at once")
}

#[test]
fn an_id_is_asked_for_once() {
    let (framing, fake) = (framing(), Fake::default());
    for bytes in [under(100), under(100), encode(&finish()).to_vec(), framing.encode(&finish()).to_vec()] {
        assert_eq!(read(&framing, &fake, &bytes), Ok(finish().into()));
    }
    for _ in 0..2 {
        let failed = read(&framing, &fake, &under(101)).expect_err("no record of ours");
        assert_eq!((failed.class, failed.code), (Class::Permanent, "unreadable_schema"), "{failed}");
    }
    assert_eq!(fake.asked.load(Ordering::Relaxed), 2);
}

#[test]
fn what_the_registry_lacks_is_refused_and_what_it_cannot_say_now_is_waited_for() {
    let (framing, fake) = (framing(), Fake::default());
    let cases = [
        (under(7_000), Class::Permanent, "unknown_schema"),
        (under(102), Class::Unavailable, "registry_unavailable"),
        (vec![0, 0, 0], Class::Permanent, "undecodable"),
        (b"garbage".to_vec(), Class::Permanent, "undecodable"),
    ];
    for (bytes, class, code) in cases {
        let failed = read(&framing, &fake, &bytes).expect_err(code);
        assert_eq!((failed.class, failed.code), (class, code), "{failed}");
    }
    let without = decode(&Framing::SingleObject, None, &under(100)).now_or_never().expect("at once");
    assert_eq!(without.expect_err("no registry").code, "undecodable");
}
