//! The files that are offered, on their way and done, of all chats: each has a number that is never used again. What
//! moves them is the library; here stands what the user sees of it. Pure.

use std::collections::VecDeque;
use std::time::Instant;

use super::amount::Meter;
use super::effect::OwnFile;
use super::report::{FileMark, FileReport, FileState};
use super::words::files::shown;
use crate::peer::{ComingFile, EndReason, FileId};

/// All files.
#[derive(Debug, Default)]
pub struct Transfers {
    /// All files, in the order of their numbers.
    all: Vec<Transfer>,
    last_number: u64,
    /// The files that are to be offered once there is a chat, and once others that were offered there are done.
    waiting: VecDeque<(String, OwnFile)>,
    /// The peers of those that [`next_for`](Self::next_for) has given out and of which it is not known yet whether they
    /// were offered.
    opening: Vec<String>,
}

/// One file.
#[derive(Debug)]
pub struct Transfer {
    /// Which file it is, and whose.
    pub report: FileReport,
    /// How far it is. What changes with the time, [`Transfers::all`] puts in.
    pub state: FileState,
    meter: Meter,
    /// Our user has ended it; the peer has not said so yet.
    is_cancelled: bool,
}

/// Which files a command means.
#[derive(Debug, Clone, Default)]
pub struct Which {
    pub peer: Option<String>,
    pub file: Option<String>,
    pub number: Option<u64>,
    pub all: bool,
}

impl Transfers {
    /// Whether one more may wait to be offered.
    pub fn has_room(&self) -> bool {
        self.waiting.len() < MAX_WAITING
    }

    /// A file is to be offered as soon as that can be.
    pub fn wait(&mut self, peer: String, file: OwnFile) {
        self.waiting.push_back((peer, file));
    }

    /// Takes out the files that can be offered to a peer now. No more are offered at once than the other side takes
    /// notice of; the rest wait until some of those are done.
    pub fn next_for(&mut self, peer: &str) -> Vec<OwnFile> {
        let is_open = |transfer: &&Transfer| transfer.report.peer == peer && transfer.is_ours_and_open();
        let opening = self.opening.iter().filter(|other| *other == peer).count();
        let mut room = MAX_OFFERED.saturating_sub(self.all.iter().filter(is_open).count() + opening);
        let mut next = Vec::new();
        while room > 0
            && let Some(at) = self.waiting.iter().position(|(to, _)| to == peer)
        {
            next.extend(self.waiting.remove(at).map(|(_, file)| file));
            room -= 1;
        }
        self.opening.extend(next.iter().map(|_| peer.to_owned()));
        next
    }

    /// A file that [`next_for`](Self::next_for) gave out was offered to a peer, or could not be.
    pub fn opened(&mut self, peer: &str) {
        if let Some(at) = self.opening.iter().position(|other| other == peer) {
            self.opening.swap_remove(at);
        }
    }

    /// Takes out all files that wait to be offered to a peer.
    pub fn give_back(&mut self, peer: &str) -> Vec<OwnFile> {
        let (back, stay): (Vec<_>, Vec<_>) = self.waiting.drain(..).partition(|(to, _)| to == peer);
        self.waiting = stay.into();
        back.into_iter().map(|(_, file)| file).collect()
    }

    /// A file is offered. `None` where it is already, so that nothing new has happened.
    pub fn add(&mut self, mut report: FileReport) -> Option<FileReport> {
        if self.open_mut(&report.peer, report.file).is_some() {
            return None;
        }
        self.last_number += 1;
        report.number = self.last_number;
        self.all.push(Transfer {
            report: report.clone(),
            state: FileState::Offered,
            meter: Meter::default(),
            is_cancelled: false,
        });
        // What is over is forgotten, the oldest first.
        if self.all.len() > MAX_KNOWN
            && let Some(at) = self.all.iter().position(|transfer| !transfer.is_open())
        {
            self.all.remove(at);
        }
        Some(report)
    }

    /// The file of this id, if it is not over.
    pub fn open_mut(&mut self, peer: &str, file: FileId) -> Option<&mut Transfer> {
        self.all
            .iter_mut()
            .find(|transfer| transfer.report.peer == peer && transfer.report.file == file && transfer.is_open())
    }

    /// The files that a command means, among those of which `fits` is true. Without more words it is the only one of
    /// the peer that lines go to, or else of all.
    ///
    /// # Errors
    /// There is none, or it could be several; for people.
    pub fn meant(
        &self,
        which: &Which,
        current: Option<&str>,
        what: &str,
        fits: impl Fn(&Transfer) -> bool,
    ) -> Result<Vec<FileReport>, String> {
        let is_of = |peer: Option<&str>, transfer: &&Transfer| peer.is_none_or(|peer| transfer.report.peer == peer);
        let named = which.peer.as_deref();
        let all: Vec<&Transfer> = self.all.iter().filter(|transfer| is_of(named, transfer) && fits(transfer)).collect();
        let found: Vec<&Transfer> = match (which.number, &which.file) {
            (Some(number), _) => all.into_iter().filter(|transfer| transfer.report.number == number).collect(),
            (None, Some(file)) => {
                let file =
                    file.parse::<FileId>().map_err(|_| "that is no id of a file; its events have it".to_owned())?;
                all.into_iter().filter(|transfer| transfer.report.file == file).collect()
            }
            (None, None) => {
                let of_current: Vec<_> = all.iter().copied().filter(|transfer| is_of(current, transfer)).collect();
                if of_current.is_empty() && !which.all { all } else { of_current }
            }
        };
        match &found[..] {
            [] if which.number.is_some() || which.file.is_some() => {
                Err(format!("that file is not {what}; /files lists them"))
            }
            [] => Err(format!("no file is {what}")),
            [_, _, ..] if !which.all && which.file.is_none() => {
                let name =
                    |transfer: &&Transfer| format!("{} is {}", transfer.report.number, shown(&transfer.report.name));
                let names: Vec<_> = found.iter().map(name).collect();
                Err(format!("several files are {what}; say which by its number: {}", names.join(", ")))
            }
            _ => Ok(found.into_iter().map(|transfer| transfer.report.clone()).collect()),
        }
    }

    /// Whether a script has to wait: for files that it sends, or that it has taken.
    pub fn is_busy(&self) -> bool {
        self.is_sending() || self.all.iter().any(Transfer::can_be_cancelled)
    }

    /// Whether one of ours is to be offered, or was and has not come to its end.
    pub fn is_sending(&self) -> bool {
        let has_more = !self.waiting.is_empty() || !self.opening.is_empty();
        has_more || self.all.iter().any(Transfer::is_ours_and_open)
    }

    /// The files that would be ended if the chat with this peer were, or all.
    pub fn moving(&self, peer: Option<&str>) -> Vec<&FileReport> {
        let is_it =
            |transfer: &&Transfer| peer.is_none_or(|peer| transfer.report.peer == peer) && transfer.can_be_cancelled();
        self.all.iter().filter(is_it).map(|transfer| &transfer.report).collect()
    }

    /// The files that were taken and are not over, where one of which nobody knows the length counts as so long.
    pub fn coming(&self, unknown: u64) -> Vec<ComingFile> {
        let coming = self.all.iter().filter(|transfer| !transfer.report.is_ours && transfer.is_moving());
        let file = |transfer: &Transfer| {
            let (file, size) = (transfer.report.file, transfer.report.size.unwrap_or(unknown));
            ComingFile { file, size, done: transfer.done() }
        };
        coming.map(file).collect()
    }

    /// The connection to a peer is lost: how fast its files go on nobody can tell.
    pub fn interrupt(&mut self, peer: &str) {
        let of_peer = self.all.iter_mut().filter(|transfer| transfer.report.peer == peer);
        of_peer.for_each(|transfer| transfer.meter.stop());
    }

    /// How many files of a peer wait for an answer.
    pub fn offered_by(&self, peer: &str) -> usize {
        self.all.iter().filter(|transfer| transfer.report.peer == peer && transfer.is_unanswered()).count()
    }

    /// What the prompt shows: of the files on their way one of the peer that lines go to, or else any.
    pub fn mark(&self, current: Option<&str>) -> Option<FileMark> {
        let transfer = self.running(current)?;
        Some(FileMark { is_ours: transfer.report.is_ours, done: transfer.done(), size: transfer.report.size })
    }

    /// The file that is told of where there is room for one.
    pub fn running(&self, current: Option<&str>) -> Option<&Transfer> {
        let mut running = self.all.iter().filter(|transfer| transfer.is_running());
        let of_current = |transfer: &&Transfer| Some(transfer.report.peer.as_str()) == current;
        running.clone().find(of_current).or_else(|| running.next())
    }

    /// A file of ours that the other side has not answered, or that waits for its turn.
    pub fn waiting_for_answer(&self) -> Option<&Transfer> {
        self.all.iter().find(|transfer| transfer.is_ours_and_open())
    }

    /// All files, and how far each is.
    pub fn all(&self) -> Vec<(FileReport, FileState)> {
        self.all.iter().map(|transfer| (transfer.report.clone(), transfer.state())).collect()
    }
}

impl Transfer {
    /// Whether the file is not over.
    fn is_open(&self) -> bool {
        !matches!(self.state, FileState::Done { .. } | FileState::Ended { .. })
    }

    fn is_ours_and_open(&self) -> bool {
        self.report.is_ours && self.is_open()
    }

    /// Whether the file waits for our user's answer.
    pub fn is_unanswered(&self) -> bool {
        !self.report.is_ours && self.state == FileState::Offered
    }

    /// Whether the file can be ended.
    pub fn can_be_cancelled(&self) -> bool {
        self.is_open() && !self.is_unanswered()
    }

    /// Whether the file was taken and is not over.
    fn is_moving(&self) -> bool {
        self.is_open() && self.state != FileState::Offered
    }

    fn is_running(&self) -> bool {
        matches!(self.state, FileState::Running { .. } | FileState::Paused { .. })
    }

    fn done(&self) -> u64 {
        match self.state {
            FileState::Running { done, .. } | FileState::Paused { done, .. } => done,
            _ => 0,
        }
    }

    /// Whether it is one of ours of which the other side has a part, that goes on if it is offered again. A stream is
    /// another one then.
    pub fn is_begun_there(&self) -> bool {
        self.report.is_ours && self.report.size.is_some() && self.done() > 0
    }

    /// Notes that so much of the file is there, and returns how many bytes go in a second, where that is known.
    pub fn progress(&mut self, done: u64, now: Instant) -> Option<u64> {
        self.meter.note(done, now);
        self.state = FileState::Running { done, rate: None, time_left: None };
        self.meter.rate()
    }

    /// Our user ends the file; that it has ended is told later.
    pub fn cancel(&mut self) {
        self.is_cancelled = true;
    }

    /// Notes that the file has ended for this reason, and returns whether our user has ended it.
    pub fn end(&mut self, reason: EndReason, is_kept: bool) -> bool {
        let is_by_us = self.is_cancelled;
        self.state = FileState::Ended { reason, is_kept, is_by_us };
        is_by_us
    }

    /// Nothing of the file moves for now.
    pub fn pause(&mut self, reason: crate::peer::PauseReason) {
        self.meter.stop();
        self.state = FileState::Paused { done: self.done(), reason };
    }

    /// How far the file is by now.
    pub fn state(&self) -> FileState {
        match &self.state {
            FileState::Running { done, .. } => FileState::Running {
                done: *done,
                rate: self.meter.rate(),
                time_left: self.report.size.and_then(|size| self.meter.time_for(size.saturating_sub(*done))),
            },
            state => state.clone(),
        }
    }
}

/// Files that are offered to one peer at once: as many as wait there for an answer.
const MAX_OFFERED: usize = 8;

/// Files that may wait to be offered, before no more are read.
const MAX_WAITING: usize = 1000;

/// Files that are remembered. The oldest of those that are over are forgotten.
const MAX_KNOWN: usize = 200;
