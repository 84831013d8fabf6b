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
    /// The name of the peer whom it goes to, or comes from.
    pub peer: String,
    /// The file's id.
    pub file: FileId,
    /// The number of the take that asked for it.
    pub take: u64,
    /// What has become of the work.
    pub news: News,
}

impl DiskNews {
    /// As the engine is told.
    pub fn into_input(self) -> Input {
        let Self { peer, file, take, news } = self;
        Input::File { peer, file, take, news }
    }
}

/// How often it is told how far a file has come.
pub const PROGRESS_EVERY: Duration = Duration::from_millis(500);
