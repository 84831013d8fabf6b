//! What is said of safety numbers: those of somebody who is here, and those of somebody who is not who they were. Pure.

use super::super::harmless::harmless;
use crate::peer::SafetyNumber;
use crate::peer::Trust;
use crate::profile::known_peers::KnownPeer;

/// The warning that somebody is not who they were: a block that cannot be overlooked.
pub(super) fn changed(
    peer: &str,
    known: &KnownPeer,
    known_number: &SafetyNumber,
    number: Option<&SafetyNumber>,
) -> String {
    let border = "@".repeat(BORDER);
    let since = if known.since.is_empty() { "the start of this program".into() } else { harmless(&known.since) };
    let met = if known.is_verified { "have verified" } else { "have known" };
    let before = format!(
        "{border}\n{peer} IS NOT WHO THEY WERE. No text was sent to them.\n\
         Who calls or answers by that name now does not prove to be the {peer} whom you {met} since {since}.\n\
         With that one you had this safety number:\n    {known_number}"
    );
    let now = match number {
        Some(number) => format!(
            "With whoever this is it would be:\n    {number}\n{}\n\
             It may be {peer} with a new device, somebody else who took the name, or the server in between.\n\
             They do not know of this warning. Ask {peer}, in another way than this, whether it is a new device. If \
             not, or as long as you cannot ask, do nothing, or:\n\
             \u{20}   /decline {peer}   lets whoever this is know that you will not talk to them\n\
             If it is:\n\
             \u{20}   /connect LINK   the link that /link shows {peer} now, if it came by a way that you trust\n\
             \u{20}   /trust {peer} NUMBER   with the number that {peer} reads to you, all of it\n\
             \u{20}   /forget {peer}   drops what you know: the next one by that name may be anybody",
            halves(known_number, number)
        ),
        None => format!(
            "This one proves nothing: it is an old app, or somebody, such as the server, who hides behind one.\n\
             They do not know of this warning. Ask {peer}, in another way than this, to use the app that they had. \
             As long as you cannot ask, do nothing, or:\n\
             \u{20}   /decline {peer}   lets whoever this is know that you will not talk to them\n\
             If it is an old app that {peer} uses now:\n\
             \u{20}   /forget {peer}   drops what you know; then call again, and nothing will prove who it is"
        ),
    };
    format!("{before}\n{now}\n{border}")
}

/// Which half of two numbers with the same peer is the user's own. Both have it, first or second.
fn halves(before: &SafetyNumber, now: &SafetyNumber) -> String {
    let [before, now] = [before, now].map(|number| number.to_string().replace(' ', ""));
    let halves = |number: &str| -> Vec<String> { vec![number[..HALF].to_owned(), number[HALF..].to_owned()] };
    let (before, now) = (halves(&before), halves(&now));
    let Some(own) = now.iter().find(|half| before.contains(half)) else { return String::new() };
    // As many digits as tell it from the others.
    let others: Vec<&String> = now.iter().chain(&before).filter(|half| *half != own).collect();
    let is_enough = |length: &usize| !others.iter().any(|half| half.starts_with(&own[..*length]));
    let length = (5..HALF).step_by(5).find(is_enough).unwrap_or(HALF);
    format!("The half that begins with {} is yours, and the same in both; the other one is theirs.", &own[..length])
}

/// A safety number, and what to do with it.
pub(super) fn safety_number(
    peer: &str,
    trust: Option<Trust>,
    number: &SafetyNumber,
    new: Option<&SafetyNumber>,
) -> String {
    let rows = |number: &SafetyNumber| {
        let number = number.to_string();
        let (first, second) = number.split_at(number.len() / 2);
        format!("    {}\n    {}", first.trim(), second.trim())
    };
    let shown = rows(number);
    let Some(trust) = trust else {
        let known = format!("your safety number with {peer}, as you know them:\n{shown}");
        let Some(new) = new else { return known };
        return format!(
            "{known}\nThey were refused, since they came with another key. With that it would be:\n{}\n{}\n\
             /trust {peer} NUMBER takes it, if this is the number that they read to you",
            rows(new),
            halves(number, new)
        );
    };
    let (state, hint) = match trust {
        Trust::Unproven => {
            ("an old app", "\nIt is good for this chat only, since an old app has no identity to keep.".to_owned())
        }
        Trust::Verified => ("verified", String::new()),
        Trust::Known | Trust::New => (
            "not verified",
            format!("\nIf it is the same, /verify {peer} yes, and they count as verified from now on."),
        ),
    };
    format!(
        "your safety number with {peer} ({state}), which they see by /verify as well:\n{shown}\n\
         Read it to each other by voice or in person, not in this chat. If all of it is the same, nobody stands \
         between you; if not, somebody does: write nothing that they should not read.{hint}"
    )
}

/// Digits of the half of a safety number that is one side's.
const HALF: usize = 30;

/// Columns of the line above and below a warning. With the time they fit into 40.
const BORDER: usize = 32;
