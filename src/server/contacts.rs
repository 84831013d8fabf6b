//! The names that a client has lately had to do with. A message to one of these may find nobody, since people leave in the
//! middle of a call; a message to any other name that finds nobody may as well ask who is online. Pure.

use std::rc::Rc;

use arrayvec::ArrayVec;

/// The last names that a client has relayed to or was joined with in a session. Who has none yet takes no memory.
#[derive(Debug, Default)]
pub struct Contacts(Option<Box<ArrayVec<Rc<str>, MAX_CONTACTS>>>);

impl Contacts {
    /// Whether this name is one of them.
    pub fn have(&self, name: &str) -> bool {
        self.0.as_ref().is_some_and(|names| names.iter().any(|other| **other == *name))
    }

    /// Takes note that a message went to this name. It stays first until a message goes to another one, so that a row of
    /// messages to one name is noted once.
    pub fn relayed_to(&mut self, name: &Rc<str>) {
        self.put(name, 0);
    }

    /// Takes note that this name is in a session with the client.
    pub fn joined_with(&mut self, name: &Rc<str>) {
        if self.0.as_ref().and_then(|names| names.first()) != Some(name) {
            self.put(name, 1);
        }
    }

    fn put(&mut self, name: &Rc<str>, place: usize) {
        let names = self.0.get_or_insert_default();
        names.retain(|other| other != name);
        if names.is_full() {
            names.pop();
        }
        names.insert(place.min(names.len()), name.clone());
    }
}

/// Names that are remembered of each client: as many calls as anybody has under way at once, and too few to go through a
/// list of names with.
const MAX_CONTACTS: usize = 8;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_eight_are_remembered_and_the_one_with_the_last_message_in_any_case() {
        let mut contacts = Contacts::default();
        let name = |number: usize| -> Rc<str> { format!("user{number}").into() };
        let known = |contacts: &Contacts| (0..30).filter(|number| contacts.have(&name(*number))).collect::<Vec<_>>();
        assert_eq!(known(&contacts), [0; 0]);
        contacts.joined_with(&name(0));
        contacts.relayed_to(&name(1));
        (2..12).for_each(|number| contacts.joined_with(&name(number)));
        assert_eq!(known(&contacts), [1, 5, 6, 7, 8, 9, 10, 11]);
        contacts.relayed_to(&name(5));
        contacts.joined_with(&name(5));
        assert_eq!(known(&contacts), [1, 5, 6, 7, 8, 9, 10, 11], "nobody is there twice");
        (20..27).for_each(|number| contacts.relayed_to(&name(number)));
        assert_eq!(known(&contacts), [5, 20, 21, 22, 23, 24, 25, 26]);
    }
}
