//! CSV (RFC 4180).

use memchr::memchr_iter;

use super::Shape;

/// Appends the header record. `encoding` says which member of the JSON form the payload would be; with chosen fields there
/// is a column for each of them instead.
pub(super) fn csv_header(out: &mut Vec<u8>, shape: &Shape) {
    if shape.device {
        out.extend_from_slice(b"device,");
    }
    out.extend_from_slice(b"epoch,seq,ts,time,received_at,channel,content_type");
    if shape.fields.is_empty() {
        out.extend_from_slice(b",encoding,payload");
    }
    for field in &shape.fields {
        out.push(b',');
        push_value(out, field.as_str().as_bytes());
    }
    out.extend_from_slice(b"\r\n");
}

/// Appends a field of which nothing is known, in quotes if it needs them.
pub(super) fn push_value(out: &mut Vec<u8>, field: &[u8]) {
    let plain = |b: &u8| b.is_ascii_graphic() && !matches!(b, b'"' | b',') || *b >= 0x80;
    if !field.is_empty() && field.iter().all(plain) {
        out.extend_from_slice(field);
    } else {
        push_quoted(out, field);
    }
}

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
