//! Faults that the search in `engine::search` plants, to see that it finds them. Outside of tests there are none.

/// What is wrong in the handshake.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fault {
    /// A proof is not over what was said in the open.
    ProofWithoutTranscript,
    /// Any proof holds.
    AnyProof,
    /// A caller who has proven who it is is answered without consent.
    AnswerBeforeConsent,
    /// An answer counts for whatever greeting.
    AnyAnswer,
    /// A caller that does not know us carries a chat on.
    ResumedByStranger,
    /// Both directions have one key.
    OneKeyBothWays,
    /// An old connection is given up as soon as a new one is open.
    HastyChange,
    /// Where both call, each takes its own call for the one that counts.
    BothWin,
}

/// Whether this fault is planted.
#[cfg(not(test))]
pub(super) const fn has(_: Fault) -> bool {
    false
}

#[cfg(test)]
thread_local! {
    static PLANTED: std::cell::Cell<Option<Fault>> = const { std::cell::Cell::new(None) };
}

#[cfg(test)]
pub(super) fn has(fault: Fault) -> bool {
    PLANTED.get() == Some(fault)
}

/// Plants a fault for the tests of this thread, or takes it out.
#[cfg(test)]
pub(super) fn plant(fault: Option<Fault>) {
    PLANTED.set(fault);
}
