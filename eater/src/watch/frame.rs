//! A frame as rules see it: what several of them look at is found once.

use std::cell::OnceCell;

use trough_protocol::frame::FrameRef;
use trough_protocol::{Micros, Seq};
use trough_runtime::trace::TraceContext;
use trough_store::event::FrameNumber;

use crate::encounters::Positions;
use crate::json::{Pointer, check_json, number_at};

/// A frame, and what is known of it besides its bytes.
pub(super) struct Seen<'a> {
    pub number: FrameNumber,
    /// When an eater received it.
    pub received_at: Micros,
    pub frame: FrameRef<'a>,
    /// Whether its device had none before; looked up only where a rule asks.
    pub is_first: bool,
    /// No clock that is right shows more now.
    pub latest: Micros,
    /// What events that it brings about are a part of.
    pub trace: Option<TraceContext>,
    positions: &'a Positions,
    json: OnceCell<Option<&'a [u8]>>,
    position: OnceCell<Option<(f64, f64)>>,
}

impl<'a> Seen<'a> {
    pub fn new(
        number: FrameNumber,
        received_at: Micros,
        frame: FrameRef<'a>,
        is_first: bool,
        positions: &'a Positions,
    ) -> Self {
        let (latest, trace, json, position) = (Micros::MAX, None, OnceCell::new(), OnceCell::new());
        Self { number, received_at, frame, is_first, latest, trace, positions, json, position }
    }

    /// A number of its payload, if that is JSON, whatever the device calls it.
    pub fn number_at(&self, pointer: &Pointer) -> Option<f64> {
        let json = self.json.get_or_init(|| {
            let text = self.frame.payload.trim_ascii();
            check_json(text).map(|_| text)
        });
        number_at((*json)?, pointer)
    }

    /// Degrees of longitude and latitude, if its channel carries positions, and it has one that is on the earth.
    pub fn position(&self) -> Option<(f64, f64)> {
        *self.position.get_or_init(|| {
            let (lat, lon) = self.positions.of(self.frame.channel, self.frame.payload)?;
            let on_earth = (-90.0..=90.0).contains(&lat) && (-180.0..=180.0).contains(&lon);
            on_earth.then_some((lon, lat))
        })
    }
}

/// Numbers that a device declared lost.
#[derive(Debug, Clone, Copy)]
pub(super) struct Loss {
    pub first: FrameNumber,
    pub last: Seq,
    /// The device's code for the reason.
    pub reason: u8,
    pub received_at: Micros,
}
