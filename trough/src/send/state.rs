//! Where a sender stands, kept in a file so that a run that was killed can be gone on with.
//!
//! Line N of the input is seq N of one epoch. Before frames are handed to the device client, their numbers and
//! their time stamp are written here and synced: a number that is not in the file was never sent, and a frame
//! that is sent again has the same bytes as the first time.
//!
//! The file is text. The first line is the header, each further one a reservation; each ends in a space and
//! the CRC32C of what stands before that, in hexadecimal:
//! ```text
//! {"trough_send_state":1,"epoch":7,"acked":4096,"token":"0123456789ab"} 8f1c0a52
//! {"sent":5120,"ts":1490072402000000} 5b00c1d2
//! ```
//! Reservations are appended. A last line without its end is one whose sync never returned: it is ignored. When
//! the file has grown, it is written anew without what is durable by then, and renamed into place.

use std::collections::VecDeque;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use rustix::fs::{FlockOperation, flock};
use serde::{Deserialize, Serialize};
use trough_protocol::limits::INT_MAX;
use trough_protocol::{Epoch, Micros, Seq};

const VERSION: u64 = 1;
/// Far above what reservations of one full buffer take.
const FILE_BYTES_MAX: u64 = 64 * 1024 * 1024;
/// A file is written anew when it has grown by so much and doubled.
const COMPACT_AFTER_BYTES: u64 = 16 * 1024;

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Header {
    trough_send_state: u64,
    epoch: u64,
    acked: u64,
    token: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct Reservation {
    sent: u64,
    ts: Micros,
}

/// What a state file says.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Content {
    epoch: Epoch,
    acked: Seq,
    token: String,
    reservations: VecDeque<Reservation>,
}

/// A sender's state and the file it is kept in, locked against a second sender.
#[derive(Debug)]
pub struct SendState {
    path: PathBuf,
    file: File,
    content: Content,
    written: u64,
    compacted: u64,
}

impl SendState {
    /// Opens the state of an earlier run; `None` if there is no such file.
    ///
    /// # Errors
    /// Another sender uses it, or it cannot be read or understood.
    pub fn open(path: &Path) -> Result<Option<Self>> {
        let Some(mut file) = open_locked(path)? else { return Ok(None) };
        let mut text = String::new();
        let read = (&mut file).take(FILE_BYTES_MAX).read_to_string(&mut text);
        read.with_context(|| format!("cannot read the state file {}", path.display()))?;
        let content = parse(&text).with_context(|| {
            format!(
                "{} is not a state file that can be used; remove it to send every line again, in a new epoch",
                path.display()
            )
        })?;
        // What follows the last whole line is a torn append: cut it, or the next append would join it.
        let whole = text.rfind('\n').map_or(0, |at| at as u64 + 1);
        file.set_len(whole)?;
        file.seek(SeekFrom::End(0))?;
        Ok(Some(Self { path: path.to_owned(), file, content, written: whole, compacted: whole }))
    }

    /// Begins the state of an epoch of which nothing was sent. Durable when it returns.
    ///
    /// # Errors
    /// The file exists or cannot be written.
    pub fn create(path: &Path, epoch: Epoch, token: &str) -> Result<Self> {
        let content =
            Content { epoch, acked: Seq::ZERO, token: token.to_owned(), reservations: VecDeque::new() };
        if path.exists() {
            bail!("the state file {} has appeared meanwhile: is another sender running?", path.display());
        }
        let (file, written) = write_new(path, &content)?;
        Ok(Self { path: path.to_owned(), file, content, written, compacted: written })
    }

    /// Which numbering.
    pub fn epoch(&self) -> Epoch {
        self.content.epoch
    }

    /// Known to be durable when the file was written, or since.
    pub fn acked(&self) -> Seq {
        self.content.acked
    }

    /// The public part of the token it was begun with.
    pub fn token(&self) -> &str {
        &self.content.token
    }

    /// The highest number that may have been sent.
    pub fn sent(&self) -> Seq {
        Seq(self.content.reservations.back().map_or(self.content.acked.0, |last| last.sent))
    }

    /// The time stamp of a number from `acked + 1` to `sent`.
    pub fn ts(&self, seq: Seq) -> Option<Micros> {
        let at = self.content.reservations.partition_point(|reservation| reservation.sent < seq.0);
        self.content.reservations.get(at).filter(|_| seq > self.content.acked).map(|found| found.ts)
    }

    /// Reserves the numbers up to and with `sent`, for frames with this time stamp. Only after it returns may
    /// they be sent. Blocking, for one fdatasync.
    ///
    /// # Errors
    /// The file cannot be written; nothing that it was asked for may be sent then.
    pub fn reserve(&mut self, sent: Seq, ts: Micros) -> Result<()> {
        let reservation = Reservation { sent: sent.0, ts };
        let line = line_of(&reservation);
        let written = self.file.write_all(line.as_bytes()).and_then(|()| self.file.sync_data());
        written.with_context(|| self.cannot_write())?;
        self.written += line.len() as u64;
        self.content.reservations.push_back(reservation);
        if self.written > 2 * self.compacted + COMPACT_AFTER_BYTES { self.compact() } else { Ok(()) }
    }

    /// Everything up to and with `acked` is durable. Written with the next compaction or [`SendState::finish`]:
    /// if it is lost, the feeder knows it anyway.
    pub fn acknowledge(&mut self, acked: Seq) {
        self.content.acked = self.content.acked.max(acked);
        while self.content.reservations.front().is_some_and(|first| first.sent <= acked.0) {
            self.content.reservations.pop_front();
        }
    }

    /// Writes the state down as it is.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn finish(mut self) -> Result<()> {
        self.compact()
    }

    fn compact(&mut self) -> Result<()> {
        let (file, written) = write_new(&self.path, &self.content)?;
        (self.file, self.written, self.compacted) = (file, written, written);
        Ok(())
    }

    fn cannot_write(&self) -> String {
        format!("cannot write the state file {}: make room, or check its rights", self.path.display())
    }
}

fn line_of(value: &impl Serialize) -> String {
    let json = serde_json::to_string(value).expect("numbers and a token's id always serialise");
    format!("{json} {:08x}\n", crc32c::crc32c(json.as_bytes()))
}

fn parse(text: &str) -> Result<Content> {
    let mut content: Option<Content> = None;
    for (index, line) in text.split_inclusive('\n').enumerate() {
        let Some(line) = line.strip_suffix('\n') else { break };
        let fault = || format!("line {} is damaged", index + 1);
        let (json, crc) = line.rsplit_once(' ').with_context(fault)?;
        if u32::from_str_radix(crc, 16).ok() != Some(crc32c::crc32c(json.as_bytes())) {
            bail!(fault());
        }
        match &mut content {
            None => content = Some(header(json)?),
            Some(content) => {
                let next: Reservation = serde_json::from_str(json).with_context(fault)?;
                let above = content.reservations.back().map_or(content.acked.0, |last| last.sent);
                if next.sent <= above || next.sent > INT_MAX || next.ts == 0 || next.ts > INT_MAX {
                    bail!(fault());
                }
                content.reservations.push_back(next);
            }
        }
    }
    content.context("it has no header")
}

fn header(json: &str) -> Result<Content> {
    let header: Header = serde_json::from_str(json).context("its header is not one of a send state")?;
    let version = header.trough_send_state;
    if version != VERSION {
        bail!("its version is {version}, and this release knows {VERSION}: use the release that wrote it");
    }
    if header.epoch == 0 || header.epoch > INT_MAX || header.acked >= INT_MAX {
        bail!("its header has numbers out of range");
    }
    let (epoch, acked) = (Epoch(header.epoch), Seq(header.acked));
    Ok(Content { epoch, acked, token: header.token, reservations: VecDeque::new() })
}

/// Opens and locks the file that is at the path now: one that was replaced between the two is opened again.
fn open_locked(path: &Path) -> Result<Option<File>> {
    loop {
        let mut options = OpenOptions::new();
        let file = match options.read(true).write(true).open(path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => {
                return Err(error).with_context(|| format!("cannot open the state file {}", path.display()));
            }
        };
        lock(&file, path)?;
        let (opened, there) = (file.metadata()?, fs::metadata(path));
        if there.is_ok_and(|there| (there.dev(), there.ino()) == (opened.dev(), opened.ino())) {
            return Ok(Some(file));
        }
    }
}

fn lock(file: &File, path: &Path) -> Result<()> {
    flock(file, FlockOperation::NonBlockingLockExclusive).with_context(|| {
        format!(
            "the state file {} is in use by another sender: wait until it ends, or use another file",
            path.display()
        )
    })
}

/// Writes the content to a new file, locked, and renames it into place. Durable when it returns.
fn write_new(path: &Path, content: &Content) -> Result<(File, u64)> {
    let context =
        || format!("cannot write the state file {}: make room, or check the rights", path.display());
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut name = path.file_name().context("a state file needs a name")?.to_owned();
    name.push(".tmp");
    let temporary = directory.join(name);
    let header = Header {
        trough_send_state: VERSION,
        epoch: content.epoch.0,
        acked: content.acked.0,
        token: content.token.clone(),
    };
    let mut text = line_of(&header);
    content.reservations.iter().for_each(|reservation| text.push_str(&line_of(reservation)));
    let write = || -> io::Result<File> {
        let mut options = OpenOptions::new();
        let mut file = options.write(true).create(true).truncate(true).mode(0o600).open(&temporary)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        Ok(file)
    };
    let file = write().with_context(context)?;
    lock(&file, path)?;
    fs::rename(&temporary, path).with_context(context)?;
    File::open(directory).and_then(|directory| directory.sync_all()).with_context(context)?;
    Ok((file, text.len() as u64))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place() -> (tempfile::TempDir, PathBuf) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("state");
        (directory, path)
    }

    #[test]
    fn goes_on_where_it_was_killed() {
        let (_directory, path) = place();
        assert!(SendState::open(&path).unwrap().is_none());
        let mut state = SendState::create(&path, Epoch(7), "tdev_x").unwrap();
        state.reserve(Seq(3), 111).unwrap();
        state.reserve(Seq(5), 222).unwrap();
        state.acknowledge(Seq(1));
        // Killed: nothing but the reservations was written.
        drop(state);
        let state = SendState::open(&path).unwrap().unwrap();
        assert_eq!((state.epoch(), state.acked(), state.sent()), (Epoch(7), Seq::ZERO, Seq(5)));
        let times: Vec<_> = (0..=6).map(|seq| state.ts(Seq(seq))).collect();
        assert_eq!(times, [None, Some(111), Some(111), Some(111), Some(222), Some(222), None]);
    }

    #[test]
    fn a_finished_run_remembers_what_is_durable() {
        let (_directory, path) = place();
        let mut state = SendState::create(&path, Epoch(7), "tdev_x").unwrap();
        state.reserve(Seq(5), 111).unwrap();
        state.reserve(Seq(9), 112).unwrap();
        state.acknowledge(Seq(7));
        state.finish().unwrap();
        let state = SendState::open(&path).unwrap().unwrap();
        assert_eq!((state.acked(), state.sent(), state.ts(Seq(8))), (Seq(7), Seq(9), Some(112)));
        assert_eq!(fs::read_to_string(&path).unwrap().lines().count(), 2);
    }

    #[test]
    fn a_torn_append_is_ignored_and_the_next_one_is_whole() {
        let (_directory, path) = place();
        let mut state = SendState::create(&path, Epoch(7), "tdev_x").unwrap();
        state.reserve(Seq(5), 111).unwrap();
        let whole = fs::read(&path).unwrap();
        state.reserve(Seq(9), 112).unwrap();
        let longer = fs::read(&path).unwrap();
        drop(state);
        for cut in whole.len()..longer.len() {
            fs::write(&path, &longer[..cut]).unwrap();
            let mut state = SendState::open(&path).unwrap().unwrap();
            assert_eq!(state.sent(), Seq(5), "cut at {cut}");
            state.reserve(Seq(6), 113).unwrap();
            drop(state);
            assert_eq!(SendState::open(&path).unwrap().unwrap().sent(), Seq(6));
        }
    }

    #[test]
    fn damage_is_refused_and_the_remedy_told() {
        let (_directory, path) = place();
        let mut state = SendState::create(&path, Epoch(7), "tdev_x").unwrap();
        state.reserve(Seq(5), 111).unwrap();
        drop(state);
        let good = fs::read(&path).unwrap();
        // Whatever byte is damaged, nothing is believed that was not written. The last one is the line's end:
        // without it the line counts as torn.
        for at in 0..good.len() - 1 {
            let mut damaged = good.clone();
            damaged[at] ^= 1;
            fs::write(&path, &damaged).unwrap();
            match SendState::open(&path) {
                Err(error) => assert!(format!("{error:#}").contains("remove it"), "{error:#}"),
                Ok(state) => panic!("byte {at}: {state:?}"),
            }
        }
    }

    #[test]
    fn a_second_sender_is_refused_also_after_a_compaction() {
        let (_directory, path) = place();
        let mut state = SendState::create(&path, Epoch(7), "tdev_x").unwrap();
        for seq in 1..1000 {
            state.reserve(Seq(seq), 111).unwrap();
            state.acknowledge(Seq(seq));
        }
        assert!(fs::metadata(&path).unwrap().len() < 2 * COMPACT_AFTER_BYTES, "it was written anew");
        let error = SendState::open(&path).unwrap_err().to_string();
        assert!(error.contains("in use by another sender"), "{error}");
        drop(state);
        assert_eq!(SendState::open(&path).unwrap().unwrap().sent(), Seq(999));
    }

    /// Golden: files of version 1 stay readable.
    #[test]
    fn version_1_is_written_like_this() {
        let (_directory, path) = place();
        let mut state = SendState::create(&path, Epoch(7), "tdev_0123456789ab").unwrap();
        state.reserve(Seq(5120), 1_490_072_402_000_000).unwrap();
        let expected = "{\"trough_send_state\":1,\"epoch\":7,\"acked\":0,\"token\":\"tdev_0123456789ab\"} 5c085a55\n\
                        {\"sent\":5120,\"ts\":1490072402000000} 12c88161\n";
        assert_eq!(fs::read_to_string(&path).unwrap(), expected);
    }
}
