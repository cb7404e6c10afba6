//! CSV (RFC 4180).

use memchr::memchr_iter;

/// The header record. `encoding` says which member of the JSON form the payload would be.
pub(super) const CSV_HEADER: &[u8] =
    b"epoch,seq,ts,time,received_at,channel,content_type,encoding,payload\r\n";

/// Appends a field in quotes, its own quotes doubled; line breaks stay.
pub(super) fn push_quoted(out: &mut Vec<u8>, field: &[u8]) {
    out.push(b'"');
    let mut done = 0;
    for quote in memchr_iter(b'"', field) {
        out.extend_from_slice(&field[done..=quote]);
        done = quote;
    }
    out.extend_from_slice(&field[done..]);
    out.push(b'"');
}

/// Appends a field of visible ASCII and spaces, in quotes if it needs them.
pub(super) fn push_field(out: &mut Vec<u8>, field: &[u8]) {
    if field.iter().any(|b| matches!(b, b'"' | b',' | b'\r' | b'\n')) {
        push_quoted(out, field);
    } else {
        out.extend_from_slice(field);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn doubles_quotes_and_quotes_what_must_be() {
        let quoted = |field: &str| {
            let mut out = Vec::new();
            push_quoted(&mut out, field.as_bytes());
            String::from_utf8(out).unwrap()
        };
        assert_eq!(quoted(r#""a""b"#), r#""""a""""b""#);
        assert_eq!(quoted(""), r#""""#);
        assert_eq!(quoted("a\r\nb"), "\"a\r\nb\"");
        let mut out = Vec::new();
        push_field(&mut out, b"text/csv; a=1");
        push_field(&mut out, b"a,b");
        assert_eq!(out, b"text/csv; a=1\"a,b\"");
    }
}
