//! Envelopes of items on the bus, as they are and with the checksum made good.
#![no_main]

use libfuzzer_sys::fuzz_target;
use trough_bus::envelope::{Kind, open, wrap};

const KINDS: [Kind; 3] = [Kind::Message, Kind::Value, Kind::Lease];

fuzz_target!(|bytes: &[u8]| {
    let item = bytes.to_vec().into();
    let opened: Vec<_> = KINDS.iter().filter_map(|kind| Some((*kind, open(*kind, &item)?))).collect();
    assert!(opened.len() <= 1, "an item is of one kind");
    for (kind, content) in opened {
        assert_eq!(wrap(kind, &content), bytes, "there is one envelope for a content");
    }
    for kind in KINDS {
        let wrapped = wrap(kind, bytes).into();
        assert_eq!(open(kind, &wrapped).as_deref(), Some(bytes));
        assert!(KINDS.iter().all(|other| *other == kind || open(*other, &wrapped).is_none()));
    }
});
