//! What others see: the Parquet object by the library's own reader, without our index.

use arrow_array::cast::AsArray;
use arrow_array::types::{Int64Type, TimestampMicrosecondType};
use arrow_schema::{DataType, TimeUnit};
use parquet::arrow::PARQUET_FIELD_ID_META_KEY;
use parquet::arrow::arrow_reader::{ArrowReaderOptions, ParquetRecordBatchReaderBuilder};
use parquet::basic::{Compression, Encoding};
use parquet::file::metadata::PageIndexPolicy;
use trough_store::object_catalog::Incarnation;

use super::world::{Shape, random_rows, written};
use crate::journal::testing::Rng;

#[test]
fn columns_types_and_field_ids() {
    let shape = Shape { devices: 3, runs: 4, frames: 40, payload: 50, large: 50 };
    let rows = random_rows(&mut Rng::new(2), &shape);
    let written = written(&rows, &[]);
    let options = ArrowReaderOptions::new().with_page_index_policy(PageIndexPolicy::Required);
    let builder =
        ParquetRecordBatchReaderBuilder::try_new_with_options(written.parquet.clone(), options).unwrap();
    let time = DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()));
    let expected = [
        ("device", DataType::Utf8, false),
        ("epoch", DataType::Int64, false),
        ("seq", DataType::Int64, false),
        ("ts", time.clone(), false),
        ("received_at", time, false),
        ("channel", DataType::Utf8, false),
        ("content_type", DataType::Utf8, false),
        ("payload", DataType::Binary, false),
        ("journal", DataType::Utf8, true),
        ("journal_n", DataType::Int64, true),
    ];
    assert_eq!(builder.schema().fields().len(), expected.len());
    for (id, (field, (name, kind, nullable))) in (1..).zip(builder.schema().fields().iter().zip(&expected)) {
        assert_eq!((field.name().as_str(), field.data_type()), (*name, kind));
        assert_eq!(field.is_nullable(), *nullable, "{name}");
        assert_eq!(field.metadata()[PARQUET_FIELD_ID_META_KEY], format!("{id}"));
    }

    let metadata = builder.metadata().clone();
    for (at, (name, ..)) in expected.iter().enumerate() {
        let column = metadata.row_group(0).column(at);
        assert!(matches!(column.compression(), Compression::ZSTD(_)), "{name}");
        let encodings: Vec<Encoding> = column.encodings().collect();
        let dictionary = ["device", "channel", "content_type", "journal"].contains(name);
        assert_eq!(column.dictionary_page_offset().is_some(), dictionary, "{name}");
        let expected = match *name {
            "payload" => Encoding::PLAIN,
            _ if dictionary => Encoding::RLE_DICTIONARY,
            _ => Encoding::DELTA_BINARY_PACKED,
        };
        assert!(encodings.contains(&expected), "{name}: {encodings:?}");
        assert_eq!(column.statistics().is_some(), *name != "payload", "{name}");
        let index = metadata.page_index().unwrap().offset_index(0, at);
        assert!(index.is_some_and(|index| !index.page_locations().is_empty()), "{name}");
    }
    let sorted: Vec<i32> =
        metadata.row_group(0).sorting_columns().unwrap().iter().map(|column| column.column_idx).collect();
    assert_eq!(sorted, [0, 1, 2]);

    let mut at = 0;
    for batch in builder.build().unwrap() {
        let batch = batch.unwrap();
        let text = |column: usize, row: usize| batch.column(column).as_string::<i32>().value(row);
        let int = |column: usize, row: usize| {
            batch.column(column).as_primitive::<Int64Type>().value(row).try_into().unwrap()
        };
        let time = |column: usize, row: usize| {
            batch.column(column).as_primitive::<TimestampMicrosecondType>().value(row).try_into().unwrap()
        };
        for row in 0..batch.num_rows() {
            let expected = &rows[at];
            assert_eq!(text(0, row), expected.device);
            assert_eq!((int(1, row), int(2, row)), (expected.epoch, expected.seq));
            assert_eq!((time(3, row), time(4, row)), (expected.ts, expected.received_at));
            assert_eq!((text(5, row), text(6, row)), (&expected.channel[..], &expected.content_type[..]));
            assert_eq!(batch.column(7).as_binary::<i32>().value(row), expected.payload);
            let journal = match expected.source.incarnation {
                Incarnation::LOCAL => "local".to_owned(),
                other => other.to_string(),
            };
            assert_eq!((text(8, row), int(9, row)), (&journal[..], expected.source.n));
            at += 1;
        }
    }
    assert_eq!(at, rows.len());
}
