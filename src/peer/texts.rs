//! The texts of one chat between peers that acknowledge, and the notes about files among them: their numbers, what the
//! other side has taken, and what is kept until then. It outlives a connection, and knows nothing of one: no keys, no
//! boxes, no time.
//!
//! A text is sent again only to a program that says how far it has come, so none arrives twice; and it is kept until
//! the other side's program has taken it, so none is lost without a word.

use std::collections::VecDeque;

/// The texts of one chat, in both directions.
#[derive(Debug, Default)]
#[cfg_attr(test, derive(Clone))]
pub struct Texts {
    /// Our texts and notes that are not acknowledged, oldest first; the first has the number after
    /// [`Self::acknowledged`].
    kept: VecDeque<Item>,
    /// What the texts among them take, in bytes.
    bytes: usize,
    /// How many notes are among them.
    notes: usize,
    /// The number of the last of our texts that the other side's program has taken.
    acknowledged: u64,
    /// The number of the last of our texts that was ever sent to this instance of the other side.
    transmitted: u64,
    /// The number of the last of our texts that was sent over the present peer connection.
    position: u64,
    /// The number of the last text that came.
    received: u64,
    /// Up to which number our user has taken theirs. A note counts as taken once all texts before it are.
    taken: u64,
    /// Runs of notes that came behind texts that are not taken yet: the first and the last number of each.
    notes_taken: VecDeque<(u64, u64)>,
    /// The last value of `taken` that the other side was told over the present peer connection.
    told: u64,
}

/// A text that is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kept {
    /// The number that events have for it.
    pub id: u64,
    /// The text.
    pub text: String,
    /// It was sent, and may have arrived.
    pub is_transmitted: bool,
}

/// A text or a note that is kept.
#[derive(Debug)]
#[cfg_attr(test, derive(Clone))]
struct Item {
    /// The number that events have for it; `None` of a note, of which no event tells.
    id: Option<u64>,
    text: String,
    is_transmitted: bool,
}

impl Item {
    /// What it counts for among the texts.
    fn bytes(&self) -> usize {
        self.id.map_or(0, |_| self.text.len() + KEPT_EXTRA_BYTES)
    }

    fn into_text(self) -> Option<Kept> {
        let Self { id, text, is_transmitted } = self;
        Some(Kept { id: id?, text, is_transmitted })
    }
}

/// What is to go out next.
#[derive(Debug, PartialEq, Eq)]
pub struct Next<'a> {
    /// Its number.
    pub number: u64,
    /// The text or the note.
    pub text: &'a str,
    /// Which of the two it is.
    pub is_note: bool,
}

/// What a text that came is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TextArrival {
    /// The next one.
    New,
    /// One that is here already.
    Again,
    /// One before which another is missing, which never happens in an ordered channel.
    Gap,
}

impl Texts {
    /// Keeps a text to be sent, or gives it back where there is no room for it.
    ///
    /// # Errors
    /// The text, where [`MAX_KEPT_BYTES`] are kept.
    pub fn keep(&mut self, id: u64, text: String) -> Result<(), String> {
        let bytes = text.len() + KEPT_EXTRA_BYTES;
        if self.bytes + bytes > MAX_KEPT_BYTES {
            return Err(text);
        }
        self.bytes += bytes;
        self.kept.push_back(Item { id: Some(id), text, is_transmitted: false });
        Ok(())
    }

    /// Keeps a note to be sent. Beyond [`MAX_NOTES`] of them it is lost: nobody but a peer that lets us say something
    /// and acknowledges nothing comes to that.
    pub fn keep_note(&mut self, text: String) {
        if self.notes < MAX_NOTES {
            self.notes += 1;
            self.kept.push_back(Item { id: None, text, is_transmitted: false });
        }
    }

    /// What is to go out next on the present connection. It counts as sent.
    pub fn transmit(&mut self) -> Option<Next<'_>> {
        let place = usize::try_from(self.position - self.acknowledged).ok()?;
        let kept = self.kept.get_mut(place)?;
        kept.is_transmitted = true;
        self.position += 1;
        self.transmitted = self.transmitted.max(self.position);
        Some(Next { number: self.position, text: &kept.text, is_note: kept.id.is_none() })
    }

    /// The other side says that its program has taken our texts up to this number. Returns the number that events have
    /// for the last of them. What says nothing new, and what was never sent, has no effect.
    pub fn acknowledge(&mut self, number: u64) -> Option<u64> {
        if number > self.transmitted {
            return None;
        }
        let mut last = None;
        while self.acknowledged < number {
            let kept = self.kept.pop_front()?;
            self.bytes -= kept.bytes();
            self.notes -= usize::from(kept.id.is_none());
            self.acknowledged += 1;
            last = kept.id.or(last);
        }
        self.position = self.position.max(self.acknowledged);
        last
    }

    /// A text or a note with this number has come.
    pub fn receive(&mut self, number: u64) -> TextArrival {
        if number <= self.received {
            TextArrival::Again
        } else if number == self.received + 1 {
            self.received = number;
            TextArrival::New
        } else {
            TextArrival::Gap
        }
    }

    /// Our user has taken the text with this number, and all before it. What is a note needs no user.
    pub fn take(&mut self, number: u64) {
        self.taken = self.taken.max(number.min(self.received));
        while let Some((_, to)) = self.notes_taken.front().copied().filter(|(from, _)| *from <= self.taken + 1) {
            self.taken = self.taken.max(to);
            self.notes_taken.pop_front();
        }
    }

    /// What came last is a note, which is dealt with.
    pub fn take_note(&mut self) {
        let number = self.received;
        match self.notes_taken.back_mut() {
            Some((_, to)) if *to + 1 == number => *to = number,
            _ => self.notes_taken.push_back((number, number)),
        }
        self.take(self.taken);
    }

    /// How far our user has come.
    pub fn taken(&self) -> u64 {
        self.taken
    }

    /// How far our user has come, which the other side is told by this.
    pub fn tell(&mut self) -> u64 {
        self.told = self.taken;
        self.taken
    }

    /// Whether the other side does not know yet how far our user has come.
    pub fn is_due(&self) -> bool {
        self.told < self.taken
    }

    /// Whether our user has taken all that came.
    pub fn is_all_taken(&self) -> bool {
        self.taken == self.received
    }

    /// The number of the last text that came.
    pub fn received(&self) -> u64 {
        self.received
    }

    /// Whether the other side's program has taken all.
    pub fn is_all_acknowledged(&self) -> bool {
        self.kept.is_empty()
    }

    /// What is kept, in bytes.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Goes on with the same instance of the other side, which has our texts up to this number: what comes after it is
    /// sent, again if need be.
    pub fn resume(&mut self, received: u64) {
        self.position = received.clamp(self.acknowledged, self.transmitted);
        self.told = 0;
    }

    /// Begins anew with another instance of the other side, and gives back the texts that were sent to the one before:
    /// they may have been shown. What was never sent is kept, but for notes, which were said to the one before.
    pub fn restart(&mut self) -> Vec<Kept> {
        let sent = self.kept.iter().take_while(|kept| kept.is_transmitted).count();
        let unconfirmed: Vec<Kept> = self.kept.drain(..sent).filter_map(Item::into_text).collect();
        self.kept.retain(|kept| kept.id.is_some());
        let bytes = self.kept.iter().map(Item::bytes).sum();
        *self = Self { kept: std::mem::take(&mut self.kept), bytes, ..Self::default() };
        unconfirmed
    }

    /// The other side's program has ended and says that it has taken nothing of what is kept: all of it counts as never
    /// sent.
    pub fn take_back(&mut self) {
        self.kept.iter_mut().for_each(|kept| kept.is_transmitted = false);
        self.transmitted = self.acknowledged;
        self.position = self.acknowledged;
    }

    /// Gives back all texts that are kept, at the end.
    pub fn give_back(&mut self) -> impl Iterator<Item = Kept> {
        (self.bytes, self.notes) = (0, 0);
        std::mem::take(&mut self.kept).into_iter().filter_map(Item::into_text)
    }
}

/// What may be kept for one peer, in bytes: texts that wait for a connection, or that its program has not taken yet.
pub const MAX_KEPT_BYTES: usize = 8 * 1024 * 1024;

/// How many notes may be kept for one peer. There are a few for each file, and a thousand files at most at once.
pub const MAX_NOTES: usize = 4096;

/// What a text counts for besides its own bytes, so that a flood of empty ones is bounded too.
const KEPT_EXTRA_BYTES: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    fn sent(texts: &mut Texts) -> Vec<(u64, String)> {
        std::iter::from_fn(|| texts.transmit().map(|next| (next.number, next.text.to_owned()))).collect()
    }

    fn with(count: u64) -> Texts {
        let mut texts = Texts::default();
        (1..=count).for_each(|id| texts.keep(id * 10, id.to_string()).unwrap());
        texts
    }

    fn numbers(texts: &mut Texts) -> Vec<u64> {
        sent(texts).into_iter().map(|(number, _)| number).collect()
    }

    #[test]
    fn texts_are_numbered_and_kept_until_they_are_acknowledged() {
        let mut texts = with(3);
        assert_eq!(sent(&mut texts), [(1, "1".to_owned()), (2, "2".to_owned()), (3, "3".to_owned())]);
        assert_eq!(sent(&mut texts), []);
        assert_eq!(texts.acknowledge(2), Some(20), "cumulative");
        assert!(!texts.is_all_acknowledged());
        assert_eq!(texts.acknowledge(3), Some(30));
        assert!(texts.is_all_acknowledged());
        assert_eq!(texts.bytes(), 0);
    }

    #[test]
    fn an_acknowledgement_of_nothing_new_or_nothing_sent_has_no_effect() {
        let mut texts = with(3);
        assert_eq!(texts.acknowledge(1), None, "not sent yet");
        texts.transmit();
        texts.transmit();
        for (number, id) in [(0, None), (3, None), (u64::MAX, None), (1, Some(10)), (1, None), (0, None)] {
            assert_eq!(texts.acknowledge(number), id, "{number}");
        }
        assert_eq!(numbers(&mut texts), [3]);
        assert_eq!(texts.acknowledge(3), Some(30));
    }

    #[test]
    fn what_comes_is_taken_once_and_in_order() {
        let mut texts = Texts::default();
        let arrivals = [1, 1, 3, 2, 0, u64::MAX, 3].map(|number| texts.receive(number));
        use TextArrival::{Again, Gap, New};
        assert_eq!(arrivals, [New, Again, Gap, New, Again, Gap, New]);
        texts.take(2);
        assert!(texts.is_due() && !texts.is_all_taken());
        assert_eq!(texts.tell(), 2);
        assert!(!texts.is_due());
        texts.take(1);
        assert!(!texts.is_due(), "never backwards");
        texts.take(7);
        assert_eq!(texts.tell(), 3, "no further than what came");
        assert!(texts.is_all_taken());
    }

    #[test]
    fn the_same_instance_is_sent_the_rest_again() {
        let mut texts = with(4);
        assert_eq!(numbers(&mut texts), [1, 2, 3, 4]);
        assert_eq!(texts.acknowledge(1), Some(10));
        texts.receive(1);
        texts.take(1);
        texts.tell();
        // It has the second one, whose acknowledgement is still to come.
        texts.resume(2);
        assert!(texts.is_due(), "the last acknowledgement may have been lost");
        assert_eq!(numbers(&mut texts), [3, 4]);
        texts.resume(4);
        assert_eq!(texts.acknowledge(4), Some(40), "of texts that were sent before");
        texts.keep(50, "5".to_owned()).unwrap();
        assert_eq!(numbers(&mut texts), [5]);
        // A number that cannot be harms nobody.
        for received in [0, u64::MAX] {
            texts.resume(received);
        }
        assert!(numbers(&mut texts).is_empty());
        assert_eq!(texts.acknowledge(5), Some(50));
    }

    #[test]
    fn an_acknowledgement_overtakes_what_is_sent_again() {
        let mut texts = with(3);
        assert_eq!(numbers(&mut texts), [1, 2, 3]);
        texts.resume(0);
        assert_eq!(texts.acknowledge(2), Some(20));
        assert_eq!(numbers(&mut texts), [3]);
    }

    #[test]
    fn another_instance_is_sent_only_what_was_never_sent() {
        let mut texts = with(2);
        assert_eq!(numbers(&mut texts), [1, 2]);
        texts.acknowledge(1);
        texts.keep(30, "3".to_owned()).unwrap();
        texts.receive(1);
        assert_eq!(texts.restart(), [Kept { id: 20, text: "2".to_owned(), is_transmitted: true }]);
        assert_eq!(texts.bytes(), 1 + KEPT_EXTRA_BYTES);
        assert_eq!(sent(&mut texts), [(1, "3".to_owned())]);
        assert_eq!(texts.receive(1), TextArrival::New);
        assert_eq!(texts.acknowledge(1), Some(30));
    }

    #[test]
    fn another_instance_is_sent_what_the_one_before_has_not_taken_by_its_own_word() {
        let mut texts = with(3);
        assert_eq!(numbers(&mut texts), [1, 2, 3]);
        texts.acknowledge(1);
        texts.take_back();
        assert_eq!(texts.acknowledge(3), None, "its word was the last");
        assert_eq!(texts.restart(), []);
        assert_eq!(sent(&mut texts), [(1, "2".to_owned()), (2, "3".to_owned())]);
        assert_eq!(texts.acknowledge(2), Some(30));
    }

    #[test]
    fn what_is_kept_is_bounded() {
        let mut texts = Texts::default();
        let text = "x".repeat(MAX_KEPT_BYTES / 2);
        assert_eq!(texts.keep(1, text.clone()), Ok(()));
        assert_eq!(texts.keep(2, text.clone()), Err(text));
        let mut texts = Texts::default();
        let count = (0..).take_while(|id| texts.keep(*id, String::new()).is_ok()).count();
        assert_eq!(count, MAX_KEPT_BYTES / KEPT_EXTRA_BYTES);
        texts.transmit();
        texts.acknowledge(1);
        assert_eq!(texts.keep(0, String::new()), Ok(()), "there is room again");
        assert_eq!(texts.give_back().count(), count);
    }

    #[test]
    fn notes_stand_among_the_texts_and_wait_for_no_user() {
        let mut texts = with(1);
        texts.keep_note("note".to_owned());
        texts.keep(20, "2".to_owned()).unwrap();
        assert_eq!(texts.bytes(), 2 * (1 + KEPT_EXTRA_BYTES), "they take no room of texts");
        let kinds: Vec<bool> = std::iter::from_fn(|| texts.transmit().map(|next| next.is_note)).collect();
        assert_eq!(kinds, [false, true, false]);
        assert_eq!(texts.acknowledge(2), Some(10));
        assert_eq!(texts.acknowledge(3), Some(20));
        // What comes: notes 1 and 2, a text, two notes, a text, a note.
        let mut other = Texts::default();
        for (number, is_note) in [true, true, false, true, true, false, true].into_iter().enumerate() {
            assert_eq!(other.receive(number as u64 + 1), TextArrival::New);
            if is_note {
                other.take_note();
            }
        }
        assert_eq!(other.tell(), 2);
        other.take(3);
        assert_eq!(other.tell(), 5);
        other.take(6);
        assert!(other.is_due() && other.is_all_taken());
        assert_eq!(other.tell(), 7);
    }

    #[test]
    fn notes_are_not_said_to_another_instance_and_are_bounded() {
        let mut texts = with(1);
        texts.keep_note("said".to_owned());
        numbers(&mut texts);
        texts.keep_note("not said".to_owned());
        texts.keep(20, "2".to_owned()).unwrap();
        assert_eq!(texts.restart(), [Kept { id: 10, text: "1".to_owned(), is_transmitted: true }]);
        assert_eq!(sent(&mut texts), [(1, "2".to_owned())]);
        (0..2 * MAX_NOTES).for_each(|_| texts.keep_note(String::new()));
        assert_eq!(sent(&mut texts).len(), MAX_NOTES);
        assert_eq!(texts.give_back().count(), 1);
    }
}
