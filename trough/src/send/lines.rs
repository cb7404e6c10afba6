//! Standard input as blocks of lines: as many as are at hand, so that a pipe costs one system call per block and
//! a person's line does not wait for the next.

use std::io::{self, BufRead, BufReader, Read};

use tokio::sync::mpsc;
use trough_protocol::limits::FRAME_BYTES_MAX;

/// Most lines in one block.
const BLOCK_LINES_MAX: usize = 1024;
/// A block takes no further line beyond so many bytes.
const BLOCK_BYTES: usize = 128 * 1024;
/// Blocks that wait for the sender: with their largest lines, 4 MiB or so.
const BLOCKS_WAITING: usize = 2;

/// Lines that were there at the same time, without their line feeds.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Block {
    bytes: Vec<u8>,
    /// Where each line ends in `bytes`.
    ends: Vec<usize>,
}

impl Block {
    /// How many lines; never 0 in a block that was read.
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// The lines in order.
    pub fn lines(&self) -> impl Iterator<Item = &[u8]> {
        let starts = std::iter::once(0).chain(self.ends.iter().copied());
        starts.zip(&self.ends).map(|(start, end)| &self.bytes[start..*end])
    }
}

/// A line that cannot be a frame.
#[derive(Debug, thiserror::Error)]
pub enum LineError {
    /// No feeder takes it.
    #[error(
        "line {0} is longer than {FRAME_BYTES_MAX} bytes, more than any frame may have: split it before sending"
    )]
    TooLong(u64),
    /// The input broke.
    #[error("standard input cannot be read after line {after}: {source}")]
    Io {
        /// The last whole line.
        after: u64,
        /// Why.
        source: io::Error,
    },
}

/// Reads blocks on a thread of its own, as reading standard input cannot be interrupted, until the input ends or
/// the receiver is dropped. The channel ends after the last block or the first error.
///
/// # Errors
/// The thread cannot be started.
pub fn read_blocks(
    input: impl Read + Send + 'static,
) -> io::Result<mpsc::Receiver<Result<Block, LineError>>> {
    let (sender, receiver) = mpsc::channel(BLOCKS_WAITING);
    std::thread::Builder::new().name("stdin".into()).spawn(move || {
        let mut lines = Lines { input: BufReader::with_capacity(64 * 1024, input), read: 0 };
        while let Some(block) = lines.next_block().transpose() {
            let failed = block.is_err();
            if sender.blocking_send(block).is_err() || failed {
                return;
            }
        }
    })?;
    Ok(receiver)
}

struct Lines<R> {
    input: BufReader<R>,
    read: u64,
}

impl<R: Read> Lines<R> {
    /// Waits for one line, then takes the whole lines that are at hand; `None` at the end.
    fn next_block(&mut self) -> Result<Option<Block>, LineError> {
        let mut block = Block::default();
        while self.line_into(&mut block.bytes)? {
            self.read += 1;
            block.ends.push(block.bytes.len());
            let full = block.len() == BLOCK_LINES_MAX || block.bytes.len() >= BLOCK_BYTES;
            if full || !self.input.buffer().contains(&b'\n') {
                break;
            }
        }
        Ok((block.len() > 0).then_some(block))
    }

    /// Appends one line without its line feed. A last line may lack one. Returns whether there was a line.
    fn line_into(&mut self, bytes: &mut Vec<u8>) -> Result<bool, LineError> {
        let start = bytes.len();
        let mut bounded = (&mut self.input).take(FRAME_BYTES_MAX as u64 + 1);
        let read =
            bounded.read_until(b'\n', bytes).map_err(|source| LineError::Io { after: self.read, source })?;
        if bytes.len() > start && bytes.last() == Some(&b'\n') {
            bytes.pop();
        } else if read > FRAME_BYTES_MAX {
            return Err(LineError::TooLong(self.read + 1));
        }
        Ok(read > 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn blocks(input: &[u8]) -> Result<Vec<Vec<Vec<u8>>>, LineError> {
        let mut lines = Lines { input: BufReader::with_capacity(64, input), read: 0 };
        let mut blocks = Vec::new();
        while let Some(block) = lines.next_block()? {
            blocks.push(block.lines().map(<[u8]>::to_vec).collect());
        }
        Ok(blocks)
    }

    #[test]
    fn every_line_is_there_once_whatever_it_holds() {
        let input = b"a\n\n\xff\x00\r\nlast".to_vec();
        let lines: Vec<_> = blocks(&input).unwrap().into_iter().flatten().collect();
        assert_eq!(lines, [&b"a"[..], b"", b"\xff\x00\r", b"last"]);
        assert!(blocks(b"").unwrap().is_empty());
        let many: String = (0..5000).map(|n| format!("{n}\n")).collect();
        let blocks = blocks(many.as_bytes()).unwrap();
        assert!(blocks.iter().all(|block| (1..=BLOCK_LINES_MAX).contains(&block.len())));
        let lines: Vec<_> = blocks.into_iter().flatten().collect();
        assert_eq!(lines.len(), 5000);
        assert_eq!(lines[4999], b"4999");
    }

    #[test]
    fn the_longest_line_passes_and_a_longer_one_is_named() {
        let mut input = b"x\n".to_vec();
        input.extend(std::iter::repeat_n(b'y', FRAME_BYTES_MAX));
        input.push(b'\n');
        assert_eq!(blocks(&input).unwrap().last().unwrap().last().unwrap().len(), FRAME_BYTES_MAX);
        input.insert(2, b'y');
        assert!(matches!(blocks(&input), Err(LineError::TooLong(2))));
    }
}
