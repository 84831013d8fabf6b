//! Those who call us, until our user has said yes or no. Another of Lowkey's own programs is answered at once, without
//! a question and whoever it is, which tells no more than that such a program is here, too; the user is asked only
//! about somebody who has proven who they are (protocol 2.1 and 2.3), or about an old app, which gets nothing before
//! (1.5).

use super::super::agreement::{self, Agreement, Greeting, Names, Side};
use super::super::candidate::{Candidate, Candidates};
use super::super::event::{CloseReason, Event};
use super::super::hello::{self, Refusal};
use super::super::keys::PublicKey;
use super::super::planted::{self, Fault};
use super::call::{ANSWER_TIME, Call, CallStage, HELLO_TIME};
use super::interface::Round;
use super::peers::Peers;
use super::proof::{self, Guest};
use super::request::{Approach, Caller, MAX_APPROACHES, Request, RequestState};
use crate::protocol::MessageType;

impl Peers {
    // What callers say.

    /// Somebody greets us (C1), who uses no old app.
    pub(super) fn greeted(&mut self, peer: &str, greeting: &Greeting, round: &mut Round<'_>) -> Option<()> {
        let open = self.chats.get(peer).and_then(|chat| chat.connection.as_ref());
        let is_repeated = self.calls.get(peer).is_some_and(|call| call.has_key(greeting.key))
            || self.approaches.get(peer).is_some_and(|approach| approach.agreement.other_key() == greeting.key)
            || open.is_some_and(|connection| connection.other.key == greeting.key)
            || self.requests.get(peer).is_some_and(|request| match &request.caller {
                Caller::Guest(guest) => guest.agreement.other_key() == greeting.key,
                _ => false,
            });
        // A key of our own comes back from nobody honest.
        let is_own = match self.calls.get(peer).map(|call| &call.stage) {
            Some(CallStage::Greeting(own)) => own.key() == greeting.key,
            _ => false,
        };
        if is_repeated || is_own || !self.take_announcement(peer, round) {
            return None;
        }
        // That our user wants to talk is the consent to this call, unless ours goes on in its stead.
        let mut wants_to = false;
        match self.calls.get(peer) {
            Some(Call { stage: CallStage::Greeting(_), .. }) if planted::has(Fault::BothWin) => return None,
            Some(Call { stage: CallStage::Calling, .. }) if self.pacing.is_waiting(peer) => wants_to = true,
            // Both have called at once. The smaller name is the caller.
            Some(Call { stage: CallStage::Calling | CallStage::Greeting(_), .. }) => {
                if *round.username < *peer {
                    return None;
                }
                wants_to = true;
            }
            // It has answered us before, so this call is newer than ours.
            Some(Call { stage: CallStage::OldApp(..) | CallStage::AwaitingHello { .. }, .. }) => wants_to = true,
            Some(Call { stage: CallStage::Greeted { .. }, .. }) => wants_to = true,
            Some(Call { stage: CallStage::Negotiating(_), side, .. }) => wants_to = *side == Side::Caller,
            // A chat that is about to go on is given up for nobody who has not proven who they are.
            Some(Call { stage: CallStage::Confirming(_), .. }) | None => {}
        }
        let names = Names { caller: peer, called: round.username };
        let (answer, agreement) = agreement::answer(greeting, names)?;
        round.signal(MessageType::KeyExchange, peer, Some(&hello::write_answer(&answer)));
        let deadline = round.now + HELLO_TIME;
        if wants_to {
            let farewell = self.calls.get_mut(peer).and_then(|call| call.farewell.take());
            self.drop_call(peer, round);
            let stage = CallStage::Greeted { agreement, calls_then: !self.chats.contains_key(peer) };
            self.add_call(peer.to_owned(), Side::Called, stage, deadline).farewell = farewell;
        } else {
            if self.calls.get(peer).is_some_and(|call| !matches!(call.stage, CallStage::Confirming(_))) {
                self.fail(peer, CloseReason::Replaced, round);
            }
            self.add_approach(peer, Approach { agreement, deadline, is_for_another: false }, round);
        }
        Some(())
    }

    /// A newer call takes the place of an older one. Of too many whose hello is still to come, the oldest gives way.
    fn add_approach(&mut self, peer: &str, approach: Approach, round: &mut Round<'_>) {
        match self.requests.get_mut(peer) {
            Some(Request { caller: Caller::OldApp(..), .. }) => self.end_request(peer, CloseReason::Replaced, round),
            Some(request) => {
                let Caller::Guest(guest) = &request.caller else { return self.insert_approach(peer, approach) };
                request.caller = Caller::Anew(guest.identity);
            }
            None => {}
        }
        self.insert_approach(peer, approach);
    }

    fn insert_approach(&mut self, peer: &str, approach: Approach) {
        self.approaches.insert(peer.to_owned(), approach);
        if self.approaches.len() > MAX_APPROACHES {
            let oldest = self.approaches.iter().min_by_key(|(_, approach)| approach.deadline);
            let oldest = oldest.map(|(peer, _)| peer.clone());
            oldest.map(|peer| self.approaches.remove(&peer));
        }
    }

    /// Takes the approach of somebody whom our user calls, too; `None` if that one seems to mean somebody else.
    pub(super) fn take_approach(&mut self, peer: &str) -> Option<Agreement> {
        self.approaches.remove(peer).filter(|approach| !approach.is_for_another).map(|approach| approach.agreement)
    }

    /// Reads the hello of a caller (C2). `None` where it is not even one: it may be a late signal of an earlier call.
    /// Whatever else is wrong with it, its sender is told nothing: it would learn whom our user knows.
    pub(super) fn receive_first(&mut self, peer: &str, sealed: &str, round: &mut Round<'_>) -> Option<()> {
        let agreement = match (self.calls.get(peer), self.approaches.get(peer)) {
            (Some(Call { stage: CallStage::Greeted { agreement, .. }, .. }), _) => agreement,
            (_, Some(Approach { agreement, .. })) => agreement,
            _ => return None,
        };
        let Some((first, knows_us)) = agreement.open_first(sealed, &round.setup.identity) else {
            self.approaches.get_mut(peer).into_iter().for_each(|approach| approach.is_for_another = true);
            return None;
        };
        let hello = proof::read_hello(agreement, &[], &first, round);
        let is_called = matches!(self.calls.get(peer), Some(Call { stage: CallStage::Greeted { .. }, .. }));
        if !is_called {
            let agreement = self.approaches.remove(peer)?.agreement;
            let Some(hello) = hello else { return Some(()) };
            let guest = Guest::new(agreement, first, &hello, knows_us);
            self.receive_guest(peer, guest, round);
            return Some(());
        }
        let Some(hello) = hello else {
            self.fail(peer, CloseReason::NotProven, round);
            return Some(());
        };
        let call = self.calls.get_mut(peer)?;
        let CallStage::Greeted { agreement, .. } = std::mem::replace(&mut call.stage, CallStage::Calling) else {
            return None;
        };
        let farewell = call.farewell.take();
        let guest = Guest::new(agreement, first, &hello, knows_us);
        if let Some(farewell) = farewell {
            self.drop_call(peer, round);
            match farewell.identity == guest.identity {
                true => self.answer_with_farewell(peer, guest, farewell, round),
                false => self.receive_guest(peer, guest, round),
            }
            return Some(());
        }
        // Our user called, and so has said yes to whom they may call.
        match self.judge_called(peer, Some(guest.identity), round) {
            Ok(_) => self.answer_guest(peer, guest, round),
            Err(reason) => {
                self.fail(peer, reason, round);
                self.add_request(peer, Caller::Guest(Box::new(guest)), RequestState::Refused, round);
            }
        }
        Some(())
    }

    /// Somebody who calls has proven who it is. Whoever carries on a chat that there is, is answered without a
    /// question; another one under a known name is refused without one.
    fn receive_guest(&mut self, peer: &str, guest: Guest, round: &mut Round<'_>) {
        if planted::has(Fault::AnswerBeforeConsent) {
            return self.answer_guest(peer, guest, round);
        }
        let mut before = None;
        if let Some(request) = self.requests.get(peer) {
            if request.identity() == Some(guest.identity) {
                before = Some((request.state, request.deadline));
                self.requests.remove(peer);
            } else {
                self.end_request(peer, CloseReason::Replaced, round);
            }
        }
        if let Some(due) = self.answers_unasked_at(peer, &guest, round) {
            if matches!(before, Some((RequestState::Asked, _))) {
                round.tell(Event::RequestEnded { peer: peer.to_owned() });
            }
            match due <= round.now {
                true => self.resume_guest(peer, guest, round),
                false => self.add_request(peer, Caller::Guest(Box::new(guest)), RequestState::Waiting(due), round),
            }
            return;
        }
        let trust = match self.judge(peer, Some(guest.identity), round) {
            Ok(trust) => trust,
            Err(reason) => {
                if before.is_none_or(|(state, _)| state != RequestState::Refused) {
                    round.tell(Event::Refused { peer: peer.to_owned(), reason });
                }
                return self.add_request(peer, Caller::Guest(Box::new(guest)), RequestState::Refused, round);
            }
        };
        if let Some((state @ (RequestState::Asked | RequestState::Accepted), deadline)) = before {
            // It repeats itself, and gets no more time by that.
            self.add_request(peer, Caller::Guest(Box::new(guest)), state, round);
            self.requests.get_mut(peer).into_iter().for_each(|request| request.deadline = deadline);
            if state == RequestState::Accepted {
                self.accept(peer.to_owned(), round);
            }
            return;
        }
        let identity = Some(guest.identity);
        if self.has_room(trust.is_known(), round) {
            self.add_request(peer, Caller::Guest(Box::new(guest)), RequestState::Asked, round);
            round.tell(Event::Request { peer: peer.to_owned(), trust, identity });
        } else {
            self.drop_message();
        }
    }

    /// An old app calls.
    pub(super) fn called_by_old_app(&mut self, peer: &str, key: PublicKey, round: &mut Round<'_>) -> Option<()> {
        let connection = self.chats.get(peer).and_then(|chat| chat.connection.as_ref());
        let is_repeated = self.calls.get(peer).is_some_and(|call| call.has_key(key))
            || connection.is_some_and(|connection| connection.other.key == key);
        if is_repeated || self.approaches.contains_key(peer) || !self.take_announcement(peer, round) {
            return None;
        }
        match self.requests.get_mut(peer) {
            Some(Request { caller: caller @ Caller::OldApp(..), .. }) => {
                // It repeats itself, and gets no more time by that.
                *caller = Caller::OldApp(key, Candidates::default());
                return Some(());
            }
            // Who has proven who they are does not become somebody who proves nothing.
            Some(_) => return None,
            None => {}
        }
        let caller = Caller::OldApp(key, Candidates::default());
        match self.judge_called(peer, None, round) {
            Ok(trust) if self.has_room(false, round) => {
                self.add_request(peer, caller, RequestState::Asked, round);
                round.tell(Event::Request { peer: peer.to_owned(), trust, identity: None });
            }
            Ok(_) => return None,
            Err(reason) => {
                self.add_request(peer, caller, RequestState::Refused, round);
                round.tell(Event::Refused { peer: peer.to_owned(), reason });
            }
        }
        Some(())
    }

    /// Whether there is room for one request more. Strangers, who can have as many names as they like, leave the places
    /// of those who are known free.
    fn has_room(&self, is_known: bool, round: &Round<'_>) -> bool {
        let is_alike = |(peer, request): &(&String, &Request)| {
            let trust = self.judge(peer, request.identity(), round);
            request.is_asked() && trust.is_ok_and(|trust| trust.is_known()) == is_known
        };
        self.requests.iter().filter(is_alike).count() < round.setup.max_requests
    }

    fn add_request(&mut self, peer: &str, caller: Caller, state: RequestState, round: &Round<'_>) {
        // Of too many who were refused, nobody waits for an answer.
        let refused = self.requests.values().filter(|request| request.state == RequestState::Refused).count();
        if state != RequestState::Refused || refused < MAX_APPROACHES {
            let deadline = round.now + ANSWER_TIME;
            self.requests.insert(peer.to_owned(), Request { caller, state, deadline });
        }
    }

    /// Whom we have called is an old app under the name of somebody who proved who they were. It may be told so.
    pub(super) fn turn_away_old_app(&mut self, peer: &str, round: &Round<'_>) {
        if let Some(Call { stage: CallStage::Greeting(own), .. }) = self.calls.get(peer) {
            let caller = Caller::OldApp(own.key(), Candidates::default());
            self.add_request(peer, caller, RequestState::Refused, round);
        }
    }

    /// A candidate of an old app that calls.
    pub(super) fn early_candidate(&mut self, peer: &str, candidate: &Candidate, round: &Round<'_>) -> Option<()> {
        let Caller::OldApp(_, early) = &mut self.requests.get_mut(peer)?.caller else { return None };
        early.admit(candidate, round.setup.with_loopback).then_some(())
    }

    /// A caller that has proven who it is says that the call is over. If it was to carry a chat on, its user has left
    /// that.
    pub(super) fn receive_refusal(&mut self, peer: &str, sealed: &str, round: &mut Round<'_>) -> Option<()> {
        let Caller::Guest(guest) = &mut self.requests.get_mut(peer)?.caller else { return None };
        let inside = guest.agreement.signals().open(sealed).ok()?;
        let Some(hello::Inside::Refused(refusal)) = hello::Inside::read(MessageType::SignalIce, &inside) else {
            return None;
        };
        let leaves = refusal == Refusal::Declined && self.is_of_chat(peer, self.requests.get(peer)?);
        self.end_request(peer, CloseReason::Declined, round);
        if leaves {
            self.finish(peer, CloseReason::PeerLeft, round);
        }
        Some(())
    }

    fn is_of_chat(&self, peer: &str, request: &Request) -> bool {
        match &request.caller {
            Caller::Guest(guest) => self.is_resumed_by(peer, guest),
            _ => false,
        }
    }

    /// An old app says that its user has ended the call.
    pub(super) fn declined_by_old_app(&mut self, peer: &str, round: &mut Round<'_>) -> Option<()> {
        let Caller::OldApp(..) = self.requests.get(peer)?.caller else { return None };
        self.end_request(peer, CloseReason::Declined, round);
        Some(())
    }

    // What the user says.

    /// Whether a call of the user's is the answer to a request that there is. Who was refused, and is taken again, is
    /// calling still.
    pub(super) fn takes_request_by_calling(&mut self, peer: &str, round: &mut Round<'_>) -> bool {
        let Some(request) = self.requests.get(peer) else { return false };
        match request.state {
            // Whoever is called may prove who they are, and the request may be the server's.
            RequestState::Asked | RequestState::Accepted if matches!(request.caller, Caller::OldApp(..)) => {
                self.end_request(peer, CloseReason::Replaced, round);
                false
            }
            RequestState::Asked | RequestState::Accepted => true,
            RequestState::Waiting(_) => false,
            RequestState::Refused => {
                let is_taken = self.judge_called(peer, request.identity(), round).is_ok();
                match is_taken {
                    true => {
                        self.requests.get_mut(peer).into_iter().for_each(|request| request.state = RequestState::Asked)
                    }
                    false => drop(self.requests.remove(peer)),
                }
                is_taken
            }
        }
    }

    /// The user takes a request, or the chat with an old app that was called.
    pub(super) fn accept(&mut self, peer: String, round: &mut Round<'_>) {
        if self.accept_old_app(&peer, round) {
            return;
        }
        let Some(request) = self.requests.get_mut(&peer).filter(|request| request.is_asked()) else {
            // It may have ended while the user said yes; nobody should go on waiting for the chat.
            if !self.chats.contains_key(&peer) && !self.calls.contains_key(&peer) {
                round.tell(Event::Closed { peer, reason: CloseReason::NotCalling });
            }
            return;
        };
        request.state = RequestState::Accepted;
        let identity = request.identity();
        if let Caller::Anew(_) = request.caller {
            return;
        }
        // The user may have learnt in the meantime who it should be.
        if let Err(reason) = self.judge(&peer, identity, round) {
            self.requests.get_mut(&peer).into_iter().for_each(|request| request.state = RequestState::Refused);
            return round.tell(Event::Refused { peer, reason });
        }
        let Some(request) = self.requests.remove(&peer) else { return };
        if !self.carries_on(&peer, identity) {
            if self.chats.contains_key(&peer) {
                self.drop_call(&peer, round);
                self.finish(&peer, CloseReason::Replaced, round);
            } else {
                self.fail(&peer, CloseReason::Replaced, round);
            }
        }
        match request.caller {
            Caller::OldApp(key, early) => self.answer_old_app(&peer, key, early, round),
            Caller::Guest(guest) => self.answer_guest(&peer, *guest, round),
            Caller::Anew(_) => {}
        }
    }

    /// The user says no.
    pub(super) fn decline(&mut self, peer: &str, round: &mut Round<'_>) {
        if self.requests.get(peer).is_none_or(|request| matches!(request.state, RequestState::Waiting(_))) {
            return;
        }
        if let Some(RequestState::Accepted) = self.drop_request(peer, round) {
            round.tell(Event::Refused { peer: peer.to_owned(), reason: CloseReason::Left });
        }
    }

    /// The user leaves: what the user was asked is declined, and of the rest nobody hears.
    pub(super) fn leave_request(&mut self, peer: &str, round: &mut Round<'_>) {
        match self.requests.get(peer).is_some_and(Request::is_asked) {
            true => self.decline(peer, round),
            false => drop(self.requests.remove(peer)),
        }
    }

    /// The user wants to hear nothing of it, and its caller hears nothing of that.
    pub(super) fn ignore(&mut self, peer: &str) {
        if self.requests.get(peer).is_some_and(|request| !matches!(request.state, RequestState::Waiting(_))) {
            self.requests.remove(peer);
        }
    }

    /// Ends a request, and tells its caller that the user says no. Returns the state that it was in.
    fn drop_request(&mut self, peer: &str, round: &mut Round<'_>) -> Option<RequestState> {
        let mut request = self.requests.remove(peer)?;
        let refusal = if request.state == RequestState::Refused { Refusal::Identity } else { Refusal::Declined };
        let mut approach = self.approaches.remove(peer).map(|approach| approach.agreement);
        let agreement = match &mut request.caller {
            Caller::OldApp(..) => {
                round.decline(peer);
                None
            }
            Caller::Guest(guest) => Some(&mut guest.agreement),
            Caller::Anew(_) => None,
        };
        for agreement in agreement.into_iter().chain(approach.as_mut()) {
            round.sealed(MessageType::SignalIce, peer, agreement.signals().seal(&refusal.write()));
        }
        Some(request.state)
    }

    /// Ends a request that comes to nothing, and tells of it. A user who has said yes to it hears why.
    pub(super) fn end_request(&mut self, peer: &str, reason: CloseReason, round: &mut Round<'_>) {
        let Some(request) = self.requests.remove(peer) else { return };
        let peer = peer.to_owned();
        match request.state {
            RequestState::Accepted => round.tell(Event::Refused { peer, reason }),
            RequestState::Asked => round.tell(Event::RequestEnded { peer }),
            RequestState::Waiting(_) | RequestState::Refused => {}
        }
    }

    /// What is to be done about those who call as time passes.
    pub(super) fn tick_requests(&mut self, round: &mut Round<'_>) {
        let now = round.now;
        self.announced.retain(|_, (_, until)| *until > now);
        self.approaches.retain(|_, approach| approach.deadline > now);
        let due = self.requests.iter().filter(|(_, request)| request.next_deadline() <= now);
        let due: Vec<String> = due.map(|(peer, _)| peer.clone()).collect();
        for peer in due {
            match self.requests.get(&peer) {
                Some(Request { state: RequestState::Waiting(_), caller: Caller::Guest(_), deadline })
                    if *deadline > now =>
                {
                    let request = self.requests.remove(&peer);
                    if let Some(Request { caller: Caller::Guest(guest), .. }) = request {
                        self.receive_guest(&peer, *guest, round);
                    }
                }
                _ => self.end_request(&peer, CloseReason::NoAnswer, round),
            }
        }
    }
}
