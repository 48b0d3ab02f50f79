//! Ogg pages, held against those of a library.

use ::ogg::writing::{PacketWriteEndInfo, PacketWriter};
use proptest::collection::vec;
use proptest::prelude::*;

use crate::ogg::OggStream;

const SERIAL: u32 = 7;

/// Lengths of packets, many of them where a segment or a page ends.
fn packet() -> impl Strategy<Value = Vec<u8>> {
    let length =
        prop_oneof![0_usize..600, 254_usize..257, 509_usize..512, 64_700_usize..65_300, Just(150_000)];
    (length, any::<u8>()).prop_map(|(length, seed)| {
        (0..length).map(|at| u8::try_from(at % 251).unwrap().wrapping_mul(seed)).collect()
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn pages_are_those_of_a_library(packets in vec((packet(), any::<bool>()), 1..40), cut in 0_u64..3) {
        let (mut ours, mut theirs) = (Vec::new(), PacketWriter::new(Vec::new()));
        let mut stream = OggStream::new(&mut ours, SERIAL);
        let last = packets.len() - 1;
        for (index, (packet, ends_page)) in packets.iter().enumerate() {
            let position = 10 * (index as u64 + 1);
            let end = match ends_page {
                _ if index == last => PacketWriteEndInfo::EndStream,
                true => PacketWriteEndInfo::EndPage,
                false => PacketWriteEndInfo::NormalPacket,
            };
            stream.packet(packet, position).unwrap();
            if index < last && *ends_page {
                stream.end_page().unwrap();
            }
            let position = if index == last { position - cut } else { position };
            theirs.write_packet(packet.as_slice(), SERIAL, end, position).unwrap();
        }
        stream.finish(10 * packets.len() as u64 - cut).unwrap();
        prop_assert_eq!(ours, theirs.into_inner());
    }
}
