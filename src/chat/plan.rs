//! What the command line, the settings and the profile come to: who the user is, at which server, and what is read.

use std::io::{self, BufReader, IsTerminal};

use super::arguments::{Arguments, Task, is_dash};
use super::callee::Callee;
use super::command::Command;
use super::console::Console;
use super::downloads;
use super::editor::LineEditor;
use super::input::{self, InputSource, Stdin};
use super::json;
use super::lines::{Pieces, Reading};
use super::people::People;
use super::records::Records;
use super::script::{Destination, Takes};
use super::start_error::StartError;
use crate::options::Start;
use crate::options::access::TokenHome;
use crate::peer::link::Link;
use crate::peer::{ServerUrl, ServerUrlError, Settings};
use crate::profile::{Profile, Username};
use crate::stderr::say;

/// What is to be done, by whom, at which server.
pub struct Plan {
    pub arguments: Arguments,
    pub profile: Result<Profile, String>,
    token_home: TokenHome,
    /// The server of the link that is called, else that of the settings.
    pub server: ServerUrl,
}

impl Plan {
    /// Who is called by a link is called at the link's server.
    pub fn new(start: Start<Arguments>) -> Result<Self, StartError> {
        let is_server_given = start.is_given("server");
        let Start { options: arguments, profile, token_home, .. } = start;
        arguments.check().map_err(StartError::setting)?;
        check_files(&arguments)?;
        let link = match arguments.called() {
            Some(Callee::Link(link)) => Some(link.parse::<Link>().map_err(StartError::setting)?),
            Some(Callee::Name(_)) | None => None,
        };
        let given = &arguments.peer.server;
        let server = match link {
            Some(link) => {
                link.server().parse().map_err(|error: ServerUrlError| StartError::setting(error.to_string()))?
            }
            None => given.clone(),
        };
        if is_server_given && server != *given {
            return Err(StartError::setting(format!(
                "the link is for {server}, and --server says {given}; leave it out"
            )));
        }
        Ok(Self { arguments, profile, token_home, server })
    }

    /// What a user of this name has: who is known to them, where that is kept, and how their peer behaves.
    pub fn user(&self, name: &Username) -> Result<(People, Records, Settings), StartError> {
        let profile = self.profile.as_ref().map_err(String::as_str);
        let settings = self.arguments.peer.settings(name.as_str(), &self.server, &self.token_home, profile);
        let mut settings = settings.map_err(StartError::setting)?;
        let records = Records { profile: self.profile.clone().ok(), place: self.server.place() };
        settings.takes_files = self.arguments.takes() != Takes::Nothing;
        let known = records.known_peers().map_err(StartError::setting)?;
        settings.known = known.at(&records.place).map(|(name, known)| (name, known.clone().into())).collect();
        let identity = settings.identity.as_ref().map(|identity| identity.public());
        let today = jiff::Zoned::now().date().to_string();
        let is_plain = self.server.is_plain();
        let mut people = People::new(name.as_str(), identity, &records.place, is_plain, known, &today);
        // A program names its peers as they are.
        if !self.arguments.json {
            people.aliases = records.aliases().map_err(StartError::setting)?;
        }
        Ok((people, records, settings))
    }
}

/// Looks at the files and the folder of the command line before anybody is called for them.
fn check_files(arguments: &Arguments) -> Result<(), StartError> {
    if let Some(Task::Send { file, .. }) = &arguments.task {
        for path in file.iter().filter(|path| !is_dash(path)) {
            downloads::check(path).map_err(StartError::other)?;
        }
    }
    match arguments.takes() {
        // What comes could take the terminal over.
        Takes::All(Destination::Output, _) if io::stdout().is_terminal() => Err(StartError::setting(
            "standard output is a terminal: send it into a file or a program, as in --accept-files - > x.tar",
        )),
        Takes::All(Destination::Folder { folder, .. }, _) => {
            downloads::check_folder(&folder).map_err(StartError::setting)
        }
        _ => Ok(()),
    }
}

/// What is to be done before anything is read, and what is read then.
pub fn inputs(
    arguments: &Arguments,
    stdin: &Stdin,
    console: &Console,
) -> Result<(Vec<Command>, InputSource), StartError> {
    let mut commands: Vec<Command> = Vec::new();
    commands.extend(arguments.call.clone().map(|peer| Command::Connect { peer }));
    let read = if arguments.json { json::command } else { Command::parse };
    commands.extend(arguments.execute.iter().map(|line| read(line)));
    let mut source = match (arguments.execute.is_empty(), arguments.json) {
        (false, _) => InputSource::Nothing,
        (true, true) => InputSource::Lines(Reading::Json),
        (true, false) if console.is_interactive() => InputSource::Lines(Reading::Typed),
        (true, false) => InputSource::Lines(Reading::Commands),
    };
    if arguments.is_for_one_file() {
        // It ends with the file, and not with what a terminal or a pipe may say.
        source = InputSource::Nothing;
    }
    if let Some(Task::Send { peer, text, follow, file, file_name }) = &arguments.task {
        commands.push(Command::Connect { peer: peer.clone() });
        if text.is_empty() && file.is_empty() && io::stdin().is_terminal() && !input::is_in_background() {
            say(if *follow { TYPE_LINES } else { TYPE_TEXT });
        }
        commands.extend((!text.is_empty()).then(|| Command::text(text.join(" "))));
        commands.extend(file.iter().map(|path| match (is_dash(path), file_name.clone()) {
            (true, name) => Command::OfferInput { name: name.unwrap_or_default() },
            (false, name) => Command::OfferFile { peer: None, path: path.clone(), name, id: None },
        }));
        source = if *follow {
            InputSource::Lines(Reading::Texts)
        } else if !text.is_empty() || !file.is_empty() {
            InputSource::Nothing
        } else if input::is_in_background() {
            return Err(StartError::other("there is no text: a job in the background cannot read the terminal"));
        } else {
            let mut pieces = Pieces::new(BufReader::new(stdin.clone()));
            let first = pieces.next().map_err(|error| StartError::other(input::unreadable(&error)))?;
            commands.push(Command::text(first.ok_or(StartError::other("there is nothing to send on standard input"))?));
            InputSource::Pieces(pieces)
        };
    }
    Ok((commands, source))
}

/// The username that the user chooses now.
pub fn chosen_name(
    editor: Option<&mut LineEditor>,
    console: &Console,
    profile: &Result<Profile, String>,
) -> Result<Username, StartError> {
    profile.as_ref().map_err(|error| StartError::setting(error.clone()))?;
    if !console.is_interactive() {
        return Err(StartError::setting("no username yet; give one with --name or LOWKEY_NAME"));
    }
    let mut editor = editor;
    let mut ask = |question| match (editor.as_deref_mut(), console) {
        (Some(editor), _) => editor.ask(question),
        (None, Console::Teletype(teletype)) => teletype.ask(question),
        (None, _) => None,
    };
    loop {
        let answer = ask("Choose a username (3 to 20 of a-z, A-Z, 0-9 and _): ");
        let line = answer.ok_or_else(|| StartError::setting("no username was chosen"))?;
        match line.trim().parse::<Username>() {
            Ok(name) => return Ok(name),
            Err(reason) => console.note(reason),
        }
    }
}

/// What is said to who starts `send` on a terminal, where nothing else would show that it waits.
const TYPE_TEXT: &str = "* type the text; Ctrl-D on a line of its own sends it";
const TYPE_LINES: &str = "* each line that you type is sent as a text; Ctrl-D on a line of its own ends it";
