//! The program `lowkey`: private chat from peer to peer, in a terminal.

use std::process::ExitCode;

fn main() -> ExitCode {
    lowkey::signals::let_writes_fail();
    lowkey::chat::main()
}
