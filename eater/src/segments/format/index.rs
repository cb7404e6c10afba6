//! The index of a segment: which device has which frames in which rows, and what the Parquet object's bytes must be.

use bytes::Bytes;
use trough_protocol::wire::{Reader, WireError};

use super::device::RawDevice;
use super::header::Header;
use super::{Device, DeviceParts, Facts, HEADER_BYTES, blocks_of};

/// An index whose checksum and structure have been found good. Kept as the bytes that it is.
///
/// ```text
/// header
/// u32 CRC32C of each block of the Parquet object
/// u32 where a device begins, in bytes from the first one, for each device
/// the devices, by the bytes of their ids
/// ```
#[derive(Debug, Clone)]
pub struct Index {
    bytes: Bytes,
    facts: Facts,
    devices: u32,
    /// Where the places of the devices begin, and where the devices do.
    table: usize,
    directory: usize,
}

impl Index {
    /// The bytes of an index, if they are not more than an index may have ([`super::INDEX_BYTES_MAX`]). `blocks` are the
    /// checksums; the devices come by the bytes of their ids.
    pub fn encode(facts: Facts, blocks: &[u32], devices: &[DeviceParts]) -> Option<Vec<u8>> {
        let mut directory = Vec::new();
        let mut body = Vec::new();
        blocks.iter().for_each(|crc| body.extend_from_slice(&crc.to_le_bytes()));
        for device in devices {
            body.extend_from_slice(&u32::try_from(directory.len()).ok()?.to_le_bytes());
            device.encode(&mut directory);
        }
        body.append(&mut directory);
        let body_bytes = u32::try_from(body.len()).ok()?;
        let header = Header {
            facts,
            devices: u32::try_from(devices.len()).ok()?,
            body_bytes,
            body_crc: crc32c::crc32c(&body),
        };
        let mut bytes = header.encode().to_vec();
        bytes.append(&mut body);
        (bytes.len() as u64 <= super::INDEX_BYTES_MAX).then_some(bytes)
    }

    /// Checks an index.
    ///
    /// # Errors
    /// The first fault; [`WireError::Unsupported`] if a later release wrote it.
    pub fn decode(bytes: Bytes) -> Result<Self, WireError> {
        let header = Header::decode(&bytes)?;
        let body = &bytes[HEADER_BYTES..];
        if body.len() != header.body_bytes as usize {
            let (value, rule) = (body.len() as u64, "it is what the header says");
            return Err(WireError::Invalid { what: "bytes of the index", value, rule });
        }
        let computed = crc32c::crc32c(body);
        if computed != header.body_crc {
            let (what, found) = ("segment index", header.body_crc);
            return Err(WireError::Checksum { what, found, computed });
        }
        let mut reader = Reader::new(body);
        let blocks = usize::try_from(blocks_of(header.facts.bytes)).unwrap_or(usize::MAX);
        reader.bytes("checksums", blocks.saturating_mul(4))?;
        let places = reader.bytes("places of the devices", (header.devices as usize).saturating_mul(4))?;
        let table = HEADER_BYTES + blocks * 4;
        let directory = table + places.len();
        check_directory(places, reader.rest(), header.facts.frames)?;
        Ok(Self { bytes, facts: header.facts, devices: header.devices, table, directory })
    }

    /// What the segment says of itself.
    pub fn facts(&self) -> Facts {
        self.facts
    }

    /// Its bytes.
    pub fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// How many devices it has.
    pub fn device_count(&self) -> usize {
        self.devices as usize
    }

    /// The device at this place, from 0; they stand by the bytes of their ids.
    ///
    /// # Panics
    /// If there are not so many.
    pub fn device(&self, at: usize) -> Device {
        let raw = self.raw(at);
        let part = |bytes: &[u8]| self.bytes.slice_ref(bytes);
        Device {
            name: part(raw.name.as_bytes()),
            stretches: part(raw.stretches),
            losses: part(raw.losses),
            lasts: part(raw.lasts),
        }
    }

    /// Its devices, by the bytes of their ids.
    pub fn devices(&self) -> impl Iterator<Item = Device> + '_ {
        (0..self.device_count()).map(|at| self.device(at))
    }

    /// A device by its id.
    pub fn find(&self, device: &str) -> Option<Device> {
        self.place(device).map(|at| self.device(at))
    }

    /// At which place a device stands.
    pub(in crate::segments) fn place(&self, device: &str) -> Option<usize> {
        let (mut low, mut high) = (0, self.device_count());
        while low < high {
            let middle = low + (high - low) / 2;
            match self.raw(middle).name.cmp(device) {
                std::cmp::Ordering::Less => low = middle + 1,
                std::cmp::Ordering::Equal => return Some(middle),
                std::cmp::Ordering::Greater => high = middle,
            }
        }
        None
    }

    /// The checksum of a block of the Parquet object; `None` if it has not so many.
    pub fn block_crc(&self, block: u64) -> Option<u32> {
        let at = HEADER_BYTES + usize::try_from(block).ok()?.checked_mul(4)?;
        (at < self.table).then(|| self.u32_at(at))
    }

    fn raw(&self, at: usize) -> RawDevice<'_> {
        assert!(at < self.device_count(), "device {at} of {}", self.devices);
        let place = self.u32_at(self.table + at * 4) as usize;
        let mut reader = Reader::new(&self.bytes[self.directory + place..]);
        RawDevice::read(&mut reader).expect("decode() has read the same bytes")
    }

    fn u32_at(&self, at: usize) -> u32 {
        Reader::new(&self.bytes[at..]).u32("number").expect("decode() has read the same bytes")
    }
}

/// Checks the devices and their places.
fn check_directory(places: &[u8], directory: &[u8], frames: u64) -> Result<(), WireError> {
    let (mut places, mut reader) = (Reader::new(places), Reader::new(directory));
    let (mut row, mut before) = (0, None::<&str>);
    while !places.rest().is_empty() {
        let place = places.u32("place of a device")? as usize;
        if place != directory.len() - reader.rest().len() {
            let rule = "devices lie without a hole between them";
            return Err(WireError::Invalid { what: "place of a device", value: place as u64, rule });
        }
        let device = RawDevice::read(&mut reader)?;
        if before.replace(device.name).is_some_and(|before| before >= device.name) {
            let rule = "the devices of an index rise";
            return Err(WireError::Invalid { what: "place of a device", value: place as u64, rule });
        }
        row = device.check(row)?;
    }
    reader.end("segment index")?;
    if u64::from(row) != frames {
        let rule = "it is the number of frames in all stretches";
        return Err(WireError::Invalid { what: "number of frames", value: frames, rule });
    }
    Ok(())
}
