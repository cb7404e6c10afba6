//! Read buffers that a shard's sessions share: a session has one only while it has bytes to parse.
//!
//! An idle session then needs no buffer of its own, and a busy one reads much at once: fewer system calls.

use std::cell::RefCell;

/// Bytes read from a socket at once.
pub const BLOCK_BYTES: usize = 16 * 1024;
/// Blocks that are kept for the next session; sessions of one thread rarely hold more at once.
const SPARE_MAX: usize = 16;

thread_local! {
    static SPARE: RefCell<Vec<Box<[u8; BLOCK_BYTES]>>> = const { RefCell::new(Vec::new()) };
}

/// Bytes that were read and not parsed yet.
#[derive(Debug)]
pub struct Block {
    bytes: Option<Box<[u8; BLOCK_BYTES]>>,
    start: usize,
    end: usize,
}

impl Block {
    /// An empty one.
    pub fn take() -> Self {
        let spare = SPARE.with_borrow_mut(Vec::pop);
        Self { bytes: Some(spare.unwrap_or_else(|| Box::new([0; BLOCK_BYTES]))), start: 0, end: 0 }
    }

    /// All of it, to be read into; then call [`Block::filled`].
    pub fn space(&mut self) -> &mut [u8] {
        self.bytes.as_mut().expect("it is there until the drop").as_mut_slice()
    }

    /// Says how many bytes were read into it.
    pub fn filled(&mut self, len: usize) {
        (self.start, self.end) = (0, len);
    }

    /// Moves as many bytes as fit to `into`.
    pub fn copy_out(&mut self, into: &mut [u8]) -> usize {
        let bytes = self.bytes.as_ref().expect("it is there until the drop");
        let len = into.len().min(self.end - self.start);
        into[..len].copy_from_slice(&bytes[self.start..self.start + len]);
        self.start += len;
        len
    }

    /// Whether all of it was moved out.
    pub fn is_empty(&self) -> bool {
        self.start == self.end
    }
}

impl Drop for Block {
    fn drop(&mut self) {
        let Some(bytes) = self.bytes.take() else { return };
        // The thread's own end may have come first.
        let _ = SPARE.try_with(|spare| {
            let mut spare = spare.borrow_mut();
            if spare.len() < SPARE_MAX {
                spare.push(bytes);
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_block_gives_what_was_read_and_is_used_again() {
        let mut block = Block::take();
        block.space()[..5].copy_from_slice(b"abcde");
        let place = block.space().as_ptr();
        block.filled(5);
        let mut out = [0; 3];
        assert_eq!((block.copy_out(&mut out), &out), (3, b"abc"));
        assert!(!block.is_empty());
        assert_eq!((block.copy_out(&mut out), &out[..2]), (2, &b"de"[..]));
        assert!(block.is_empty());
        drop(block);
        assert_eq!(Block::take().space().as_ptr(), place);
    }
}
