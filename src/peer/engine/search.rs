//! Goes through every order in which two whole calls may go, with acts of an adversary in between, and looks at what
//! must hold in each: no address and no hello of the called side before a proof and consent, keys that are shared with
//! nobody else, agreement on who is there and what they can do, no end in which both wait. That this finds faults is
//! tried on such as are planted.
//!
//! The engines, and all that is calculated in them, are the real ones; only their randomness is drawn from a row. So
//! an engine that is in the same state and gets the same does the same, and each of its rounds is gone through once.
//! Two worlds are one where their engines are in the same state by all that `Debug` writes of them, and the same is on
//! its way to them.
//!
//! An act is: to drop a message, to have it come twice, or behind all others; to change who it is from, its version, a
//! bit of what is sealed in it, or one of its keys for that of any other message or the adversary's own; to take our
//! part out of it; to go into the middle of a call by keys of one's own, and stay there, with hellos passed on or
//! stripped of their features; to say anything again to anybody that was ever said; to announce anybody to anybody; and
//! to call as a thief of an identity, who knows too where its owner is in a chat. A message is changed right before it
//! comes: what happens in between does not hang on it.
//!
//! Two bounds of it. Time stands still but for acts: 11 or 61 seconds in which nothing comes, which end a wait for a
//! hello or for a user, and otherwise only the end of each way, where all has to end; that a deadline falls between any
//! two messages of a call without an act is not gone through. And all three programs can do the same: they have the one
//! feature that there is, so that who takes another for less was deceived, and older programs are left to other tests.
//! Descriptions and candidates are sealed, and come after all that is decided here; they are not changed.

#![cfg(test)]

mod actor;
mod adversary;
mod invariants;
mod scenarios;
mod world;

use std::collections::HashSet;
use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher, Hash};
use std::rc::Rc;
use std::time::Instant;

use super::super::planted::{Fault, plant};
use actor::Memory;
use scenarios::{SCENARIOS, Scenario};
use world::{Step, World};

const NAMES: [&str; 3] = ["alice", "bob", "mallory"];

fn place_of(name: &str) -> usize {
    NAMES.iter().position(|one| *one == name).expect("it is one of the three")
}

fn hash(of: &impl Hash) -> u64 {
    BuildHasherDefault::<DefaultHasher>::default().hash_one(of)
}

/// How a world came about: its last step, and those before.
struct Way(Step, Option<Rc<Way>>);

fn steps(way: Option<&Rc<Way>>) -> Vec<Step> {
    let mut steps: Vec<Step> = std::iter::successors(way, |way| way.1.as_ref()).map(|way| way.0).collect();
    steps.reverse();
    steps
}

/// Goes through all that can happen with so many acts; how many states there are.
fn search(scenario: &Scenario, most_acts: usize) -> Result<usize, String> {
    let mut memory = Memory::new();
    let mut seen = HashSet::new();
    let mut open: Vec<(World, Option<Rc<Way>>)> = vec![(scenario.world(&mut memory)?, None)];
    let begin = Instant::now();
    while let Some((world, way)) = open.pop() {
        let mut is_end = true;
        for step in world.steps(most_acts) {
            let mut next = world.clone();
            if next.take(step, &memory).is_none() {
                continue;
            }
            is_end &= step.is_act();
            if !seen.insert(next.state(most_acts)) {
                continue;
            }
            let way = Some(Rc::new(Way(step, way.clone())));
            next.check(&memory).map_err(|fault| format!("{fault}: {:?}", steps(way.as_ref())))?;
            open.push((next, way));
        }
        if is_end {
            let fault = world.check_end(&memory);
            fault.map_err(|fault| format!("{fault}: {:?}", steps(way.as_ref())))?;
        }
    }
    println!(
        "{}, {most_acts} acts: {} states by {} rounds of engines in {:?}",
        scenario.name,
        seen.len(),
        memory.different.get(),
        begin.elapsed()
    );
    Ok(seen.len())
}

fn search_all(most_acts: usize) -> Result<(), String> {
    // The one with the most in it first.
    for scenario in SCENARIOS.iter().rev() {
        search(scenario, most_acts).map_err(|fault| format!("{}: {fault}", scenario.name))?;
    }
    Ok(())
}

#[test]
fn whatever_the_order_and_the_act_of_an_adversary_only_who_is_proven_and_wanted_is_talked_to() {
    search_all(1).unwrap();
}

/// Run by `make trials`.
#[test]
#[ignore = "takes minutes: make trials"]
fn whatever_two_acts_of_an_adversary() {
    search_all(2).unwrap();
}

#[test]
fn planted_faults_are_found() {
    for fault in [
        Fault::ProofWithoutTranscript,
        Fault::AnyProof,
        Fault::AnswerBeforeConsent,
        Fault::AnyAnswer,
        Fault::ResumedByStranger,
        Fault::OneKeyBothWays,
        Fault::HastyChange,
        Fault::BothWin,
    ] {
        plant(Some(fault));
        let found = search_all(0).and_then(|()| search_all(1));
        plant(None);
        println!("{fault:?}: {found:?}");
        assert!(found.is_err(), "{fault:?} is not found");
    }
}
