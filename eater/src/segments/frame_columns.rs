//! Frames as the first columns of [`SCHEMA`](super::SCHEMA), on their way into Arrow.

use std::sync::Arc;

use arrow_array::builder::{BinaryBuilder, StringBuilder};
use arrow_array::types::{Int64Type, TimestampMicrosecondType};
use arrow_array::{ArrayRef, ArrowPrimitiveType, PrimitiveArray};
use trough_protocol::frame::FrameRef;
use trough_protocol::{Epoch, Micros, Seq};

/// Some frames, column by column: a frame costs no allocation of its own.
#[derive(Debug, Default)]
pub(crate) struct FrameColumns {
    device: StringBuilder,
    epoch: Vec<i64>,
    seq: Vec<i64>,
    ts: Vec<i64>,
    received_at: Vec<i64>,
    channel: StringBuilder,
    content_type: StringBuilder,
    payload: BinaryBuilder,
    payload_bytes: usize,
}

impl FrameColumns {
    /// Takes a frame.
    pub(crate) fn push(
        &mut self,
        device: &str,
        (epoch, seq): (Epoch, Seq),
        received_at: Micros,
        frame: &FrameRef<'_>,
    ) {
        self.push_head(device, (epoch, seq), received_at, frame);
        self.payload.append_value(frame.payload);
        self.payload_bytes += frame.payload.len();
    }

    /// Takes a frame without its payload; such frames are taken out by [`FrameColumns::take_heads`].
    pub(crate) fn push_head(
        &mut self,
        device: &str,
        (epoch, seq): (Epoch, Seq),
        received_at: Micros,
        frame: &FrameRef<'_>,
    ) {
        self.device.append_value(device);
        self.epoch.push(int(epoch.0));
        self.seq.push(int(seq.0));
        self.ts.push(int(frame.ts));
        self.received_at.push(int(received_at));
        self.channel.append_value(frame.channel);
        self.content_type.append_value(frame.content_type.as_str());
    }

    pub(crate) fn len(&self) -> usize {
        self.seq.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.seq.is_empty()
    }

    /// Bytes of payload that are held.
    pub(crate) fn payload_bytes(&self) -> usize {
        self.payload_bytes
    }

    /// Gives all frames out: [`FRAME_COLUMNS`](super::FRAME_COLUMNS) columns.
    pub(crate) fn take(&mut self) -> Vec<ArrayRef> {
        self.payload_bytes = 0;
        let mut columns = self.take_heads();
        columns.push(Arc::new(self.payload.finish()));
        columns
    }

    /// Gives out all frames that have no payloads here.
    pub(crate) fn take_heads(&mut self) -> Vec<ArrayRef> {
        vec![
            Arc::new(self.device.finish()),
            ints::<Int64Type>(&mut self.epoch),
            ints::<Int64Type>(&mut self.seq),
            times(&mut self.ts),
            times(&mut self.received_at),
            Arc::new(self.channel.finish()),
            Arc::new(self.content_type.finish()),
        ]
    }
}

/// All numbers of frames are at most 2^53 - 1.
pub(crate) fn int(value: u64) -> i64 {
    value as i64
}

pub(crate) fn ints<T: ArrowPrimitiveType<Native = i64>>(values: &mut Vec<i64>) -> ArrayRef {
    Arc::new(PrimitiveArray::<T>::new(std::mem::take(values).into(), None))
}

pub(crate) fn times(values: &mut Vec<i64>) -> ArrayRef {
    let times = PrimitiveArray::<TimestampMicrosecondType>::new(std::mem::take(values).into(), None);
    Arc::new(times.with_timezone("UTC"))
}
