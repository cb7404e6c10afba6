use super::*;
use trough_protocol::ContentType;

use crate::api::query::{DevicesQuery, GapsQuery};

fn device() -> DeviceId {
    DeviceId::new("bus-1").unwrap()
}

fn frames(query: &str) -> Result<FramesQuery, String> {
    FramesQuery::parse(device(), Some(query)).map_err(|refusal| refusal.to_string())
}

#[test]
fn ranges_are_half_open() {
    assert_eq!(frames("").unwrap().ts, Some(0..=u64::MAX));
    assert_eq!(frames("from=5&to=9").unwrap().ts, Some(5..=8));
    assert_eq!(frames("from=5&to=6").unwrap().ts, Some(5..=5));
    assert_eq!(frames("from=5&to=5").unwrap().ts, None);
    assert_eq!(frames("to=0").unwrap().ts, None);
    assert_eq!(
        frames("from=6&to=5").unwrap_err(),
        "parameter to is \"5\": use an instant that is not before from"
    );
}

#[test]
fn a_cursor_goes_with_its_query_only() {
    let query = frames("from=5&channel=b,a&order=desc&limit=3").unwrap();
    let place = Place { device: device(), epoch: Epoch(2), seq: Seq(9) };
    let cursor = query.cursor_after(&place);
    let again = frames(&format!("channel=a&limit=7&channel=b&order=desc&cursor={cursor}&from=5")).unwrap();
    assert_eq!(again.after, Some(place));
    assert_eq!(again.limit, Some(7));
    for other in [
        "from=5&channel=b,a&order=asc",
        "from=6&channel=b,a&order=desc",
        "from=5&channel=b&order=desc",
        "from=5&channel=b,a&order=desc&to=9",
        "channel=a,b&order=desc",
    ] {
        let error = frames(&format!("{other}&cursor={cursor}")).unwrap_err();
        assert!(error.contains("another query"), "{error}");
    }
    let neighbour = FramesQuery::parse(
        DeviceId::new("bus-2").unwrap(),
        Some(&format!("from=5&channel=b,a&order=desc&cursor={cursor}")),
    );
    assert!(neighbour.unwrap_err().to_string().contains("another query"));
    assert!(GapsQuery::parse(device(), Some(&format!("cursor={cursor}"))).is_err());
    assert!(DevicesQuery::parse(Some(&format!("cursor={cursor}"))).is_err());
    assert!(frames("cursor=&order=asc").unwrap_err().contains("not one that this server gave"));
    assert!(frames(&format!("cursor={cursor}&after=1:1")).unwrap_err().contains("give one of them"));
}

#[test]
fn frames_are_chosen_exactly() {
    let query = frames("channel=position,b&from=5&to=7").unwrap();
    let wants = |query: &FramesQuery, channel, ts| {
        query.wants(&FrameRef { ts, channel, content_type: ContentType::Bytes, payload: b"" })
    };
    assert!(wants(&query, "position", 5) && wants(&query, "b", 6));
    assert!(!wants(&query, "b", 4) && !wants(&query, "b", 7));
    assert!(!wants(&query, "pos", 5) && !wants(&query, "position2", 5) && !wants(&query, "a", 5));
    assert!(wants(&frames("").unwrap(), "anything", 1));
    assert!(!wants(&frames("to=0").unwrap(), "anything", 1));
}

fn many(query: &str) -> Result<FramesQuery, String> {
    FramesQuery::parse_many(Some(query)).map_err(|refusal| refusal.to_string())
}

#[test]
fn devices_are_named_once_each_in_any_spelling() {
    let query = many("device=b,a&device=a,c:1&group=north").unwrap();
    let Whose::Devices { named, group } = &query.whose else { panic!("{query:?}") };
    assert_eq!(named.iter().map(DeviceId::as_str).collect::<Vec<_>>(), ["a", "b", "c:1"]);
    assert_eq!(group.as_ref().map(ToString::to_string).as_deref(), Some("north"));
    let cursor = query.cursor_after(&Place { device: named[1].clone(), epoch: Epoch(1), seq: Seq(2) });
    let next = many(&format!("group=north&device=c:1,b,a&cursor={cursor}")).unwrap();
    assert_eq!(next.after.as_ref().map(|after| after.device.as_str()), Some("b"));
    for other in ["device=a,b&group=north", "device=a,b,c:1", "group=north", "device=a,b,c:1&group=south"] {
        assert!(many(&format!("{other}&cursor={cursor}")).unwrap_err().contains("another query"));
    }
    assert!(many("device=a,,b").unwrap_err().contains("several with commas"));
    assert!(many("device=").is_err() && many("group=").is_err());
    let too_many: Vec<String> = (0..=NAMED_MAX).map(|n| format!("d{n}")).collect();
    let error = many(&format!("device={}", too_many.join(","))).unwrap_err();
    assert_eq!(error, "parameter device is \"1001 devices\": use at most 1000, or a group");
}

#[test]
fn a_place_of_many_names_its_device() {
    let after = many("after=a:b:1:4711").unwrap().after.unwrap();
    assert_eq!((after.device.as_str(), after.epoch, after.seq), ("a:b", Epoch(1), Seq(4711)));
    for bad in ["1:4711", "", "a:1", "a::1", ":1:1", "a:1:x", "a:1:9007199254740992"] {
        assert!(many(&format!("after={bad}")).unwrap_err().contains("bus-1:1:4711"), "{bad}");
    }
}

#[test]
fn fields_are_pointers_each_once() {
    let names = |query: &str| -> Vec<String> {
        frames(query).unwrap().fields.iter().map(|field| field.as_str().to_owned()).collect()
    };
    assert_eq!(names("fields=/lat,/speed/kmh&fields=/a,b,/c"), ["/lat", "/speed/kmh", "/a,b", "/c"]);
    assert_eq!(names("fields=%2Flat%2C%2Flon"), ["/lat", "/lon"]);
    assert_eq!(names("fields=/"), ["/"]);
    for bad in ["fields=", "fields=lat", "fields=/a,b&fields=c", "fields=/~2", "fields=,/a"] {
        assert!(frames(bad).unwrap_err().contains("JSON pointer"), "{bad}");
    }
    assert!(frames("fields=/a,/b,/a").unwrap_err().contains("each pointer once"));
    let many: Vec<String> = (0..=FIELDS_MAX).map(|n| format!("/{n}")).collect();
    assert!(frames(&format!("fields={}", many.join(","))).unwrap_err().contains("use at most 32"));
    let (plain, chosen) = (frames("").unwrap(), frames("fields=/a").unwrap());
    assert_eq!(plain.fingerprint, chosen.fingerprint, "the same frames");
    assert_ne!(plain.identity().etag(), chosen.identity().etag(), "another answer");
}

#[test]
fn what_makes_no_sense_together_is_refused() {
    let sampled = "every=1m&agg=mean&value=/speed";
    for (query, error) in [
        ("fields=/a", "parameters fields and every are both given: give one of them"),
        ("after=1:1", "parameters after and every are both given: give one of them"),
        ("order=desc", "parameter order is \"desc\": use asc, or nothing, together with every"),
    ] {
        assert_eq!(frames(&format!("{sampled}&{query}")).unwrap_err(), error);
    }
    let query = frames(&format!("{sampled}&order=asc")).unwrap();
    let cursor = query.cursor_after(&Place { device: device(), epoch: Epoch::NONE, seq: Seq(60_000_000) });
    assert!(frames(&format!("{sampled}&cursor={cursor}")).unwrap().after.is_some());
    for other in
        ["", "every=2m&agg=mean&value=/speed", "every=1m&agg=max&value=/speed", "every=1m&agg=mean&value=/s"]
    {
        assert!(frames(&format!("{other}&cursor={cursor}")).unwrap_err().contains("another query"));
    }
}

/// Golden: cursors are kept by clients across upgrades.
#[test]
fn fingerprints_stay() {
    assert_eq!(frames("").unwrap().fingerprint, crc32c::crc32c(b"frames|bus-1|None|None|asc|"));
}
