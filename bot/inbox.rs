//! Files that others send to the bot: into one folder, of whom its operator has named, and no more than was allowed.

use std::collections::HashMap;
use std::path::PathBuf;

use clap::{Args, ValueHint};
use lowkey::options::quota::{Accepts, Ledger, Quota, QuotaOptions};
use lowkey::options::space::FolderSpace;
use lowkey::peer::keys::PublicKey;
use lowkey::peer::{EndReason, Event, FileId, Folder, Peer, Sink};
use lowkey::trouble;

use super::is_told;

/// The options for it.
#[derive(Debug, Args)]
pub struct InboxOptions {
    /// Take files into this folder. It wants --from, --from-known or --from-anybody; without it each is refused
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
    accept_files: Option<PathBuf>,
    /// Take files of this user; may be repeated. Who comes first under that name is taken for them as long as the bot
    /// runs, unless known_peers of the profile says who they are
    #[arg(long, value_name = "PEER", requires = "accept_files")]
    from: Vec<String>,
    /// Take files of those whom known_peers of the profile names
    #[arg(long, requires = "accept_files")]
    from_known: bool,
    /// Take files of everybody
    #[arg(long, requires = "accept_files", conflicts_with_all = ["from", "from_known"])]
    from_anybody: bool,
    #[command(flatten)]
    quota: QuotaOptions,
}

/// Where files go, and what has come.
pub struct Inbox {
    folder: Folder,
    accepts: Accepts,
    quota: Quota,
    ledger: Ledger,
    space: FolderSpace,
    /// Who has a name by the file of known peers, and who came first by another one.
    known: HashMap<String, PublicKey>,
    first: HashMap<String, PublicKey>,
    /// How many files have come, and how many have not.
    received: u64,
    failed: u64,
}

/// What is offered.
struct Offered<'a> {
    /// By whom, who has proven this identity.
    peer: &'a str,
    identity: PublicKey,
    file: FileId,
    size: Option<u64>,
    is_folder: bool,
}

impl Inbox {
    /// The inbox that the options want, if they do; `known` are those who were known before.
    ///
    /// # Errors
    /// The folder cannot be used, or it is not said whose files to take; for people.
    pub fn open(options: &InboxOptions, known: HashMap<String, PublicKey>) -> Result<Option<Self>, String> {
        let Some(path) = &options.accept_files else { return Ok(None) };
        let accepts = match (options.from_anybody, options.from_known) {
            (true, _) => Accepts::All,
            (false, false) if options.from.is_empty() => {
                return Err(
                    "--accept-files wants to know whose: say --from NAME, --from-known or --from-anybody".into()
                );
            }
            (false, with_known) => Accepts::Only { names: options.from.clone(), with_known },
        };
        let folder = Folder::open(path).map_err(|error| trouble::said(path, &error))?;
        let (quota, ledger, space, first) =
            (options.quota.quota(), Ledger::default(), FolderSpace::default(), HashMap::new());
        Ok(Some(Self { folder, accepts, quota, ledger, space, known, first, received: 0, failed: 0 }))
    }

    /// Does what is to be done on an event about files, and returns what its operator is to be told of it.
    pub fn handle(&mut self, me: &Peer, event: Event) -> Option<String> {
        match event {
            Event::FileOffered { peer, identity, file, size, entries, .. } => {
                let offered = Offered { peer: &peer, identity, file, size, is_folder: entries.is_some() };
                match self.take(&offered) {
                    Ok(sink) => me.take_file(&peer, file, sink),
                    Err((reason, trouble)) => {
                        me.refuse_file(&peer, file, reason);
                        let why = trouble.unwrap_or_else(|| "it is not to be taken".to_owned());
                        return self.failed(&peer, "was refused", &why);
                    }
                }
                None
            }
            Event::FileReceived { peer, file, path, size, .. } => {
                self.ledger.end(&peer, file, Some(size));
                self.received += 1;
                let path = path.filter(|_| is_told(self.received))?;
                Some(format!("a file of {} is in {} ({} so far)", peer.escape_debug(), path.display(), self.received))
            }
            Event::FilePaused { peer, reason, .. } => {
                Some(format!("a file of {} stands still: {reason}", peer.escape_debug()))
            }
            Event::FileEnded { peer, file, reason, trouble, .. } => {
                self.ledger.end(&peer, file, None);
                self.failed(&peer, "has not come", &trouble.unwrap_or_else(|| reason.to_string()))
            }
            _ => None,
        }
    }

    fn failed(&mut self, peer: &str, what: &str, why: &str) -> Option<String> {
        self.failed += 1;
        let words = || format!("a file of {} {what} ({} so far): {why}", peer.escape_debug(), self.failed);
        is_told(self.failed).then(words)
    }

    /// Where what is offered goes, or why it is not taken, and what is wrong here, for people.
    fn take(&mut self, offered: &Offered<'_>) -> Result<Sink, (EndReason, Option<String>)> {
        let Offered { peer, identity, file, size, is_folder } = *offered;
        let known = self.known.get(peer);
        if !self.accepts.is_for(peer, known == Some(&identity)) {
            return Err((EndReason::NotAccepting, None));
        }
        let is_named = matches!(&self.accepts, Accepts::Only { names, .. } if names.iter().any(|name| name == peer));
        if is_named && *known.unwrap_or_else(|| self.first.entry(peer.to_owned()).or_insert(identity)) != identity {
            let words = "another one has that name, and is the one whose files are taken".to_owned();
            return Err((EndReason::NotAccepting, Some(words)));
        }
        let taken = self.ledger.take((peer, file), identity, size, self.quota);
        taken.map_err(|(reason, words)| (reason, Some(words.to_owned())))?;
        let sink = self.sink(peer, file, size, is_folder);
        if sink.is_err() {
            self.ledger.end(peer, file, None);
        }
        sink
    }

    fn sink(
        &mut self,
        peer: &str,
        file: FileId,
        size: Option<u64>,
        is_folder: bool,
    ) -> Result<Sink, (EndReason, Option<String>)> {
        let coming = self.ledger.coming_beside(peer, file);
        let full = |words| (EndReason::NoSpace, Some(words));
        self.folder.has_room(file, size, is_folder, &coming).map_err(full)?;
        let path = self.folder.path();
        let failed = |error| (EndReason::Failed, Some(trouble::said(path, &error)));
        let space = self.space.left(&self.folder, self.quota, (file, size), &coming).map_err(failed)?;
        let space = space.ok_or_else(|| full(format!("{} holds as much as --max-files allows", path.display())))?;
        Ok(Sink::folder(self.folder.clone()).at_most(space))
    }
}
