//! What the threads that work on files tell the peer's loop.

use std::sync::Arc;
use std::time::Duration;

use super::super::engine::Input;
use super::super::files::note::FileId;
use super::super::files::work::News;

/// How a thread tells of a file.
pub type Tell = Arc<dyn Fn(DiskNews) + Send + Sync>;

/// What a thread tells of a file.
pub struct DiskNews {
    /// With whom.
    pub peer: String,
    /// Which file.
    pub file: FileId,
    /// Of the take that asked for it.
    pub number: u64,
    /// What.
    pub news: News,
}

impl DiskNews {
    /// As the engine is told.
    pub fn into_input(self) -> Input {
        let Self { peer, file, number, news } = self;
        Input::File { peer, file, number, news }
    }
}

/// How often it is told how far a file has come.
pub const PROGRESS_EVERY: Duration = Duration::from_millis(500);
