//! Chats that outlive their connection, with engines in memory: whatever happens to them, at any moment and in any
//! order.

use std::collections::HashSet;

use lowkey::peer::Event;
use lowkey::peer::engine::Input;
use proptest::prelude::*;

use crate::engine_pair::{ALICE, BOB, EnginePair, NAMES};
use crate::resume_in_memory::send;

/// What has happened to the texts of two users.
#[derive(Default)]
struct Account {
    sent: [u64; 2],
    /// The texts that each user has taken, in order.
    taken: [Vec<String>; 2],
    confirmed: [u64; 2],
    returned: [HashSet<u64>; 2],
    /// How many of a user's events were looked at.
    looked_at: [usize; 2],
}

impl Account {
    /// Looks at what is new. Nothing is ever told to be delivered that the other user has not taken.
    fn look(&mut self, engines: &EnginePair) {
        for user in [ALICE, BOB] {
            for event in &engines.seen(user)[self.looked_at[user]..] {
                match event {
                    Event::Delivered { id, .. } => {
                        assert!(*id > self.confirmed[user], "told once, and forwards");
                        let is_taken = self.taken[1 - user].contains(&format!("{} {id}", NAMES[user]));
                        assert!(is_taken, "{} {id} is delivered, and was not taken", NAMES[user]);
                        self.confirmed[user] = *id;
                    }
                    Event::NotSent { id, .. } => assert!(self.returned[user].insert(*id), "it comes back once"),
                    _ => {}
                }
            }
            self.looked_at[user] = engines.seen(user).len();
        }
    }

    fn take(&mut self, engines: &mut EnginePair, user: usize) {
        self.look(engines);
        let is_text = |event| match event {
            Event::Message { text, .. } => Some(text),
            _ => None,
        };
        let events = engines.take_events(user);
        self.taken[user].extend(events.into_iter().filter_map(is_text));
        self.looked_at[user] = 0;
        engines.come_back(user);
        self.look(engines);
    }

    fn step(&mut self, engines: &mut EnginePair, command: u8, choice: usize) {
        let user = choice % 2;
        match command {
            0 | 1 => {
                self.sent[user] += 1;
                send(engines, user, self.sent[user]);
            }
            2 | 3 => self.take(engines, user),
            4 => engines.lose(choice / 2),
            5 => engines.go_offline(user),
            6 => engines.go_online(user),
            7 => engines.pass(choice as u64 % 40),
            8 => engines.lose_for(user),
            _ => {
                engines.step(choice);
            }
        }
        self.look(engines);
    }

    /// Everything is well again for long enough, and all is read.
    fn recover(&mut self, engines: &mut EnginePair) {
        for user in [ALICE, BOB] {
            engines.go_online(user);
        }
        for _ in 0..30 {
            engines.notice();
            engines.settle();
            self.accept(engines);
            engines.settle();
            for user in [ALICE, BOB] {
                self.take(engines, user);
            }
            engines.pass(31);
        }
        engines.settle();
        self.look(engines);
    }

    /// Whoever is asked says yes.
    fn accept(&mut self, engines: &mut EnginePair) {
        for user in [ALICE, BOB] {
            if engines.seen(user).iter().any(|event| matches!(event, Event::Request { .. })) {
                engines.command(user, |peer| Input::Accept { peer });
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(512) })]

    #[test]
    fn every_text_is_taken_once_and_in_order_whatever_is_lost(
        steps in prop::collection::vec((0u8..20, any::<usize>()), 0..200)
    ) {
        let (mut engines, mut account) = (EnginePair::open(), Account::default());
        for (command, choice) in steps {
            account.step(&mut engines, command, choice);
        }
        account.recover(&mut engines);
        for user in [ALICE, BOB] {
            let sent: Vec<String> = (1..=account.sent[user]).map(|id| format!("{} {id}", NAMES[user])).collect();
            prop_assert_eq!(&account.taken[1 - user], &sent);
            prop_assert_eq!(account.confirmed[user], account.sent[user]);
            prop_assert!(account.returned[user].is_empty());
        }
    }

    #[test]
    fn no_text_is_taken_twice_or_lost_in_silence_where_programs_are_killed(
        steps in prop::collection::vec((0u8..22, any::<usize>()), 0..200)
    ) {
        let (mut engines, mut account) = (EnginePair::open(), Account::default());
        for (command, choice) in steps {
            match command {
                // Only bob's; alice is there to tell of it.
                20 if choice % 4 == 0 => {
                    account.look(&engines);
                    engines.restart(BOB);
                    account.looked_at[BOB] = 0;
                }
                20 => {}
                21 => account.accept(&mut engines),
                0 | 1 => account.step(&mut engines, command, 2 * choice.min(usize::MAX / 2)),
                _ => account.step(&mut engines, command, choice),
            }
        }
        account.recover(&mut engines);
        let taken = &account.taken[BOB];
        prop_assert_eq!(taken.iter().collect::<HashSet<_>>().len(), taken.len(), "twice");
        for id in 1..=account.sent[ALICE] {
            let is_taken = taken.contains(&format!("alice {id}"));
            prop_assert!(is_taken || account.returned[ALICE].contains(&id), "alice {} is lost: {:?}", id, taken);
        }
    }
}
