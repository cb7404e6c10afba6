//! Which media type an answer has: `Accept` (RFC 9110, section 12.5.1).

use http::header::ACCEPT;
use http::{HeaderMap, HeaderValue};

use super::encode::{Format, FrameFormat, TableFormat};

/// A media type that can be answered with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Offer {
    kind: &'static str,
    subtype: &'static str,
    /// The value of `Content-Type`.
    pub content_type: &'static str,
    /// How frames are then written.
    pub format: Format,
}

const fn offer(
    kind: &'static str,
    subtype: &'static str,
    content_type: &'static str,
    format: FrameFormat,
) -> Offer {
    Offer { kind, subtype, content_type, format: Format::Text(format) }
}

const fn table(subtype: &'static str, content_type: &'static str, format: TableFormat) -> Offer {
    Offer { kind: "application", subtype, content_type, format: Format::Table(format) }
}

/// What frames can be had as; the first one is what a client gets that does not mind. The later names of NDJSON
/// are those that people also use, as none is registered.
pub const FRAME_OFFERS: &[Offer] = &[
    offer("application", "json", "application/json", FrameFormat::Json),
    offer("application", "x-ndjson", "application/x-ndjson", FrameFormat::NdJson),
    offer("text", "csv", "text/csv; charset=utf-8; header=present", FrameFormat::Csv),
    offer("application", "ndjson", "application/ndjson", FrameFormat::NdJson),
    offer("application", "jsonl", "application/jsonl", FrameFormat::NdJson),
    table("vnd.apache.parquet", "application/vnd.apache.parquet", TableFormat::Parquet),
    table("vnd.apache.arrow.stream", "application/vnd.apache.arrow.stream", TableFormat::Arrow),
];

/// What everything else can be had as.
pub const JSON_OFFERS: &[Offer] = &[offer("application", "json", "application/json", FrameFormat::Json)];

/// What live streams can be had as.
pub const EVENT_OFFERS: &[Offer] = &[offer("text", "event-stream", "text/event-stream", FrameFormat::NdJson)];

impl Offer {
    /// The type without its parameters.
    pub fn essence(&self) -> &'static str {
        self.content_type.split(';').next().unwrap_or(self.content_type)
    }

    /// `Content-Type`.
    pub fn header(&self) -> HeaderValue {
        HeaderValue::from_static(self.content_type)
    }
}

/// One element of `Accept`.
struct Range<'a> {
    kind: &'a str,
    subtype: &'a str,
    /// In thousandths.
    quality: u16,
}

impl<'a> Range<'a> {
    /// `None` for what is not a media range; such an element is passed over, as everybody does.
    fn parse(element: &'a str) -> Option<Self> {
        let mut parts = element.split(';').map(str::trim);
        let (kind, subtype) = parts.next()?.split_once('/')?;
        let mut quality = 1000;
        for part in parts {
            let Some((name, value)) = part.split_once('=') else { continue };
            if name.trim().eq_ignore_ascii_case("q") {
                quality = parse_quality(value.trim())?;
            }
        }
        Some(Self { kind, subtype, quality })
    }

    /// How exactly it names the offer; `None` if it does not match.
    fn specificity(&self, offer: &Offer) -> Option<u8> {
        let names = |range: &str, name: &str| range.eq_ignore_ascii_case(name);
        match (self.kind, self.subtype) {
            ("*", "*") => Some(0),
            (kind, "*") if names(kind, offer.kind) => Some(1),
            (kind, subtype) if names(kind, offer.kind) && names(subtype, offer.subtype) => Some(2),
            _ => None,
        }
    }
}

/// `0.5`, `1`, `1.000`: at most three decimals.
fn parse_quality(text: &str) -> Option<u16> {
    let (whole, decimals) = text.split_once('.').unwrap_or((text, ""));
    let well_formed =
        matches!(whole, "0" | "1") && decimals.len() <= 3 && decimals.bytes().all(|b| b.is_ascii_digit());
    let thousandths: u16 = format!("{decimals:0<3}").parse().ok().filter(|_| well_formed)?;
    let quality = if whole == "1" { 1000 + thousandths } else { thousandths };
    (quality <= 1000).then_some(quality)
}

/// The offer that the client likes best; among equals the first one, and that one too if there is no `Accept`.
/// `None` if none is acceptable.
pub fn negotiate(headers: &HeaderMap, offers: &'static [Offer]) -> Option<&'static Offer> {
    let values: Vec<&str> = headers.get_all(ACCEPT).iter().filter_map(|v| v.to_str().ok()).collect();
    let ranges: Vec<Range<'_>> =
        values.iter().flat_map(|v| v.split(',')).filter_map(|element| Range::parse(element.trim())).collect();
    if values.iter().all(|value| value.trim().is_empty()) {
        return offers.first();
    }
    let mut best: Option<(&'static Offer, u16)> = None;
    for offer in offers {
        // The most specific range decides, whatever its quality.
        let decisive = ranges
            .iter()
            .filter_map(|range| range.specificity(offer).map(|how| (how, range.quality)))
            .max_by_key(|(how, _)| *how);
        let quality = decisive.map_or(0, |(_, quality)| quality);
        if quality > best.map_or(0, |(_, best)| best) {
            best = Some((offer, quality));
        }
    }
    best.map(|(offer, _)| offer)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chosen(accept: &str) -> Option<&'static str> {
        let mut headers = HeaderMap::new();
        headers.insert(ACCEPT, HeaderValue::from_str(accept).unwrap());
        negotiate(&headers, FRAME_OFFERS).map(Offer::essence)
    }

    #[test]
    fn the_best_liked_offer_is_chosen() {
        const JSON: Option<&str> = Some("application/json");
        const NDJSON: Option<&str> = Some("application/x-ndjson");
        const CSV: Option<&str> = Some("text/csv");
        for (accept, expected) in [
            ("", JSON),
            ("*/*", JSON),
            ("application/*", JSON),
            ("text/*", CSV),
            ("TEXT/CSV", CSV),
            ("application/x-ndjson", NDJSON),
            ("application/jsonl", Some("application/jsonl")),
            ("text/csv;q=0.5, application/x-ndjson;q=0.9", NDJSON),
            ("application/json;q=0.1, */*;q=0.2", NDJSON),
            ("application/json;q=0, */*", NDJSON),
            ("text/csv; charset=utf-8; q=0.9, application/json;q=0.8", CSV),
            ("text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8", JSON),
            ("nonsense, text/csv", CSV),
            ("text/csv;q=1.5, application/json;q=0.2", JSON),
            ("text/csv;q=0.0001, application/json;q=0.001", JSON),
            ("application/vnd.apache.parquet", Some("application/vnd.apache.parquet")),
            ("application/vnd.apache.arrow.stream, */*;q=0.1", Some("application/vnd.apache.arrow.stream")),
            ("image/png", None),
            ("*/*;q=0", None),
            ("application/json;q=0", None),
            ("nonsense", None),
        ] {
            assert_eq!(chosen(accept), expected, "{accept}");
        }
        assert_eq!(negotiate(&HeaderMap::new(), FRAME_OFFERS).map(Offer::essence), JSON);
    }

    #[test]
    fn several_headers_are_one_list() {
        let mut headers = HeaderMap::new();
        headers.append(ACCEPT, HeaderValue::from_static("application/json;q=0.5"));
        headers.append(ACCEPT, HeaderValue::from_static("text/csv"));
        assert_eq!(negotiate(&headers, FRAME_OFFERS).map(Offer::essence), Some("text/csv"));
        assert_eq!(negotiate(&headers, JSON_OFFERS).map(Offer::essence), Some("application/json"));
    }
}
