//! Buffers for what waits to be sent, which go from client to client. Pure.

/// Output buffers that are empty for the moment. A client has one only while something waits for it, and in the next
/// moment it is another's, so that a message on its way takes nothing new.
#[derive(Default)]
pub struct Buffers(Vec<Vec<u8>>);

impl Buffers {
    pub(super) fn take(&mut self) -> Vec<u8> {
        self.0.pop().unwrap_or_default()
    }

    pub(super) fn put(&mut self, mut buffer: Vec<u8>) {
        if self.0.len() < SPARE_BUFFERS && buffer.capacity() <= SPARE_BUFFER_BYTES {
            buffer.clear();
            self.0.push(buffer);
        }
    }
}

/// Buffers that are kept for others, and how large they may have grown: 8 MiB together at most.
const SPARE_BUFFERS: usize = 128;
const SPARE_BUFFER_BYTES: usize = 64 * 1024;
