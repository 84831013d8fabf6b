//! The names that a client has lately had to do with. A message to one of these may find nobody, since people leave
//! in the middle of a call; a message to any other name that finds nobody may as well ask who is online. Pure.
//!
//! Two kinds are remembered: the last few, however long ago, and everybody whom a session has joined with the client a
//! moment ago, however many they are. Without the second, many who call and hang up at once would push each other out
//! before the client has answered them, and each answer would be charged as a question.

use std::collections::HashMap;
use std::rc::Rc;
use std::time::Instant;

use arrayvec::ArrayVec;

/// The names. Who has none yet takes no memory.
#[derive(Debug, Default)]
pub struct Contacts {
    /// The last that the client has sent a message to or was joined with in a session.
    last: Option<Box<ArrayVec<Rc<str>, MAX_CONTACTS>>>,
    /// Those that it was joined with a moment ago, and until when that counts.
    #[expect(clippy::box_collection, reason = "most clients have none, and there may be a million")]
    met: Option<Box<HashMap<Rc<str>, Instant>>>,
}

impl Contacts {
    /// Whether this name is one of them at `now`.
    pub fn have(&self, name: &str, now: Instant) -> bool {
        self.last.as_ref().is_some_and(|names| names.iter().any(|other| **other == *name))
            || self.met.as_ref().and_then(|met| met.get(name)).is_some_and(|until| *until > now)
    }

    /// Learns that a message went to this name. It stays first until a message goes to another one, so that a row
    /// of messages to one name is learnt once.
    pub fn sent_to(&mut self, name: &Rc<str>) {
        self.put(name, 0);
    }

    /// Learns that this name is in a session with the client, and is a contact until then at least.
    /// [`forget`](Self::forget) has to be called then.
    pub fn joined_with(&mut self, name: &Rc<str>, until: Instant) {
        self.met.get_or_insert_default().insert(name.clone(), until);
        if self.last.as_ref().and_then(|names| names.first()) != Some(name) {
            self.put(name, 1);
        }
    }

    /// Forgets that the name was met, unless that counts for longer than until `end`.
    pub fn forget(&mut self, name: &str, end: Instant) {
        let Some(met) = &mut self.met else { return };
        if met.get(name).is_some_and(|until| *until <= end) {
            met.remove(name);
        }
        if met.is_empty() {
            self.met = None;
        }
    }

    fn put(&mut self, name: &Rc<str>, index: usize) {
        let names = self.last.get_or_insert_default();
        names.retain(|other| other != name);
        if names.is_full() {
            names.pop();
        }
        names.insert(index.min(names.len()), name.clone());
    }
}

/// Last names that are remembered of each client: as many calls as anybody has under way at once, and too few to go
/// through a list of names with.
pub(super) const MAX_CONTACTS: usize = 8;

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn name(number: usize) -> Rc<str> {
        format!("user{number}").into()
    }

    #[test]
    fn the_last_eight_are_remembered_and_the_one_with_the_last_message_in_any_case() {
        let mut contacts = Contacts::default();
        let now = Instant::now();
        let known =
            |contacts: &Contacts| (0..30).filter(|number| contacts.have(&name(*number), now)).collect::<Vec<_>>();
        assert_eq!(known(&contacts), [0; 0]);
        contacts.joined_with(&name(0), now);
        contacts.sent_to(&name(1));
        (2..12).for_each(|number| contacts.joined_with(&name(number), now));
        assert_eq!(known(&contacts), [1, 5, 6, 7, 8, 9, 10, 11]);
        contacts.sent_to(&name(5));
        contacts.joined_with(&name(5), now);
        assert_eq!(known(&contacts), [1, 5, 6, 7, 8, 9, 10, 11], "nobody is there twice");
        (20..27).for_each(|number| contacts.sent_to(&name(number)));
        assert_eq!(known(&contacts), [5, 20, 21, 22, 23, 24, 25, 26]);
    }

    #[test]
    fn all_who_were_met_are_remembered_until_their_time_is_over() {
        let mut contacts = Contacts::default();
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        (0..100).for_each(|number| contacts.joined_with(&name(number), at(60)));
        assert!((0..100).all(|number| contacts.have(&name(number), at(59))));
        assert!(!contacts.have(&name(1), at(60)) && contacts.have(&name(99), at(60)), "but for the last few");
        contacts.joined_with(&name(1), at(90));
        (100..110).for_each(|number| contacts.joined_with(&name(number), at(60)));
        (0..110).for_each(|number| contacts.forget(&name(number), at(60)));
        assert!(contacts.have(&name(1), at(89)), "it was met again");
        contacts.forget(&name(1), at(90));
        assert!(contacts.met.is_none(), "nothing is kept of those who are forgotten");
    }
}
