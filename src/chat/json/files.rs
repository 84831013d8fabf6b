//! What is told of files, as JSON. Pure.

use serde_json::{Value, json};

use crate::chat::report::{FileNews, FileReport, FileState};
use crate::chat::words::files::why;
use crate::peer::{EndReason, PauseReason};

/// The name of an event about a file, and its fields.
pub fn news(file: &FileReport, news: &FileNews) -> (&'static str, Value) {
    let fields = fields(file);
    let (event, more) = match news {
        FileNews::Offering => ("file_offering", json!({ "entries": file.entries })),
        FileNews::Offered { modified, .. } => {
            ("file_offered", json!({ "modified": modified, "entries": file.entries }))
        }
        FileNews::Started { from } => ("file_started", json!({ "from": from })),
        FileNews::Progress { done, rate } => ("file_progress", json!({ "done": done, "rate": rate })),
        FileNews::Paused(reason) => {
            ("file_paused", json!({ "reason": pause_name(*reason), "message": reason.to_string() }))
        }
        FileNews::Sent { digest } => ("file_sent", json!({ "sha256": digest.to_string() })),
        FileNews::Received { path, digest } => {
            ("file_received", json!({ "path": path_text(path.as_deref()), "sha256": digest.to_string() }))
        }
        FileNews::Ended { reason, trouble, is_kept, is_by_us } => {
            let message = why(file, *reason, trouble.as_deref(), *is_by_us);
            ("file_ended", json!({ "reason": reason_name(*reason), "message": message, "kept": is_kept }))
        }
    };
    (event, with(fields, more))
}

/// Adds fields to those of a file.
fn with(mut fields: Value, more: Value) -> Value {
    if let (Some(fields), Value::Object(more)) = (fields.as_object_mut(), more) {
        fields.extend(more);
    }
    fields
}

/// All files, for the answer to `files`.
pub fn list(files: &[(FileReport, FileState)]) -> Value {
    let entry = |(file, state): &(FileReport, FileState)| {
        let mut entry = fields(file);
        entry["outgoing"] = file.is_ours.into();
        entry["entries"] = file.entries.into();
        let (name, more) = match state {
            FileState::Offered => ("offered", json!({})),
            FileState::Taken => ("taken", json!({})),
            FileState::Running { done, rate, .. } => ("running", json!({ "done": done, "rate": rate })),
            FileState::Paused { done, reason } => ("paused", json!({ "done": done, "reason": pause_name(*reason) })),
            FileState::Done { path, digest } => {
                ("done", json!({ "path": path_text(path.as_deref()), "sha256": digest.to_string() }))
            }
            FileState::Ended { reason, is_kept, .. } => {
                ("ended", json!({ "reason": reason_name(*reason), "kept": is_kept }))
            }
        };
        entry["state"] = name.into();
        with(entry, more)
    };
    files.iter().map(entry).collect()
}

fn fields(file: &FileReport) -> Value {
    json!({
        "peer": file.peer, "file": file.file.to_string(), "number": file.number, "name": file.name, "size": file.size,
        "id": file.id,
    })
}

fn path_text(path: Option<&std::path::Path>) -> Option<String> {
    path.map(|path| path.display().to_string())
}

fn pause_name(reason: PauseReason) -> &'static str {
    match reason {
        PauseReason::NoSpace => "no_space",
        PauseReason::Stalled => "stalled",
    }
}

fn reason_name(reason: EndReason) -> &'static str {
    match reason {
        EndReason::Declined => "declined",
        EndReason::NotAccepting => "not_accepting",
        EndReason::TooLarge => "too_large",
        EndReason::TooMany => "too_many",
        EndReason::NoSpace => "no_space",
        EndReason::Cancelled => "cancelled",
        EndReason::Changed => "changed",
        EndReason::Damaged => "damaged",
        EndReason::Expired => "expired",
        EndReason::NotOpen => "not_open",
        EndReason::Unsupported => "unsupported",
        EndReason::ChatEnded => "chat_ended",
        _ => "failed",
    }
}
