//! Rows of a downsampled answer as text.

use super::csv::push_value;
use super::time::TimeWriter;
use super::{FrameFormat, Row, RowValue};

/// Numbers up to this one are whole without loss, and are written without a fraction.
const WHOLE_MAX: f64 = 9_007_199_254_740_992.0;

/// Writes rows into a buffer of its own.
#[derive(Debug)]
pub(super) struct RowText {
    format: FrameFormat,
    with_device: bool,
    out: Vec<u8>,
    time: TimeWriter,
    rows: u64,
}

impl RowText {
    /// CSV starts with its header.
    pub(super) fn new(format: FrameFormat, with_device: bool) -> Self {
        let mut out = Vec::new();
        if format == FrameFormat::Csv {
            out.extend_from_slice(if with_device { b"device," } else { b"" });
            out.extend_from_slice(b"time,ts,count,skipped,value\r\n");
        }
        Self { format, with_device, out, time: TimeWriter::default(), rows: 0 }
    }

    pub(super) fn format(&self) -> FrameFormat {
        self.format
    }

    pub(super) fn push(&mut self, row: &Row<'_>) {
        match self.format {
            FrameFormat::Json => {
                self.out.extend_from_slice(if self.rows > 0 { b",\n" } else { b"" });
                self.push_object(row);
            }
            FrameFormat::NdJson => {
                self.push_object(row);
                self.out.push(b'\n');
            }
            FrameFormat::Csv => self.push_record(row),
        }
        self.rows += 1;
    }

    fn push_object(&mut self, row: &Row<'_>) {
        let mut digits = itoa::Buffer::new();
        let out = &mut self.out;
        out.push(b'{');
        if self.with_device {
            // The rules of device ids leave nothing to escape.
            out.extend_from_slice(b"\"device\":\"");
            out.extend_from_slice(row.device.as_str().as_bytes());
            out.extend_from_slice(b"\",");
        }
        out.extend_from_slice(b"\"time\":\"");
        out.extend_from_slice(self.time.text(row.ts));
        for (name, number) in
            [(&b"\",\"ts\":"[..], row.ts), (b",\"count\":", row.count), (b",\"skipped\":", row.skipped)]
        {
            out.extend_from_slice(name);
            out.extend_from_slice(digits.format(number).as_bytes());
        }
        out.extend_from_slice(b",\"value\":");
        let start = out.len();
        match row.value {
            Some(value) => push_json(out, value),
            None => out.extend_from_slice(b"null"),
        }
        if self.format == FrameFormat::NdJson {
            // White space between tokens: JSON strings have no line breaks.
            out[start..].iter_mut().filter(|b| matches!(b, b'\n' | b'\r')).for_each(|b| *b = b' ');
        }
        out.push(b'}');
    }

    fn push_record(&mut self, row: &Row<'_>) {
        let mut digits = itoa::Buffer::new();
        let out = &mut self.out;
        if self.with_device {
            out.extend_from_slice(row.device.as_str().as_bytes());
            out.push(b',');
        }
        out.extend_from_slice(self.time.text(row.ts));
        for number in [row.ts, row.count, row.skipped] {
            out.push(b',');
            out.extend_from_slice(digits.format(number).as_bytes());
        }
        out.push(b',');
        match row.value {
            Some(RowValue::Json(json)) => push_value(out, json.as_bytes()),
            Some(value) => push_json(out, value),
            None => {}
        }
        out.extend_from_slice(b"\r\n");
    }

    pub(super) fn push_raw(&mut self, bytes: &[u8]) {
        self.out.extend_from_slice(bytes);
    }

    pub(super) fn len(&self) -> usize {
        self.out.len()
    }

    pub(super) fn take(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.out)
    }
}

fn push_json(out: &mut Vec<u8>, value: RowValue<'_>) {
    let mut digits = itoa::Buffer::new();
    match value {
        RowValue::Json(json) => out.extend_from_slice(json.as_bytes()),
        RowValue::Count(count) => out.extend_from_slice(digits.format(count).as_bytes()),
        RowValue::Float(number) if number.fract() == 0.0 && number.abs() <= WHOLE_MAX => {
            out.extend_from_slice(digits.format(number as i64).as_bytes());
        }
        RowValue::Float(number) => {
            // The shortest text that is this number again.
            serde_json::to_writer(out, &number).expect("memory takes every byte");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use trough_protocol::DeviceId;

    #[test]
    fn rows_look_like_this() {
        let device = DeviceId::new("bus-1").unwrap();
        let row = |ts, value| Row { device: &device, ts, count: 3, skipped: 1, value };
        let rows = [
            row(60_000_000, Some(RowValue::Float(1.5))),
            row(120_000_000, Some(RowValue::Float(-2.0))),
            row(180_000_000, Some(RowValue::Count(3))),
            row(240_000_000, Some(RowValue::Json("{\"a\":\n\"b\"}"))),
            row(300_000_000, None),
        ];
        let write = |format, with_device| {
            let mut text = RowText::new(format, with_device);
            rows.iter().for_each(|row| text.push(row));
            String::from_utf8(text.take()).unwrap()
        };
        let lines = write(FrameFormat::NdJson, true);
        let values = ["1.5", "-2", "3", "{\"a\": \"b\"}", "null"];
        for (minute, (line, value)) in (1..).zip(lines.lines().zip(values)) {
            let expected = format!(
                "{{\"device\":\"bus-1\",\"time\":\"1970-01-01T00:0{minute}:00.000000Z\",\"ts\":{minute}\
                 ,\"count\":3,\"skipped\":1,\"value\":{value}}}"
            );
            assert_eq!(
                line,
                expected.replace(&format!(":{minute},\"c"), &format!(":{},\"c", minute * 60_000_000))
            );
        }
        assert_eq!(lines.lines().count(), 5);
        let json: Vec<serde_json::Value> =
            serde_json::from_str(&format!("[{}]", write(FrameFormat::Json, false))).unwrap();
        assert_eq!(json[3]["value"]["a"], "b");
        let csv = write(FrameFormat::Csv, false);
        assert!(
            csv.starts_with(
                "time,ts,count,skipped,value\r\n1970-01-01T00:01:00.000000Z,60000000,3,1,1.5\r\n"
            )
        );
        assert!(
            csv.ends_with(
                "3,1,\"{\"\"a\"\":\n\"\"b\"\"}\"\r\n1970-01-01T00:05:00.000000Z,300000000,3,1,\r\n"
            ),
            "{csv}"
        );
    }
}
