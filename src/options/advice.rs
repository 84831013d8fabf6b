//! What to type where a peer tells of something that an option or a setting can help. The library knows the causes, and
//! no option or variable; the programs say both. Pure.

use crate::peer::{CloseReason, Error, NoRelay, NoRelayCause, OfflineReason};

/// Why a chat has ended or did not come about, with what to type.
pub(crate) fn on_close(reason: &CloseReason) -> String {
    let to_type = match reason {
        CloseReason::NoConnection | CloseReason::PeerHasNoRelay => " (--turn)",
        CloseReason::LocalOnly => " (--stun, --turn)",
        CloseReason::Unproven | CloseReason::KeyChanged => " (--strict)",
        CloseReason::NoRelay(NoRelay { cause, is_offered }) => match cause {
            NoRelayCause::NoServer => " (--relay-only): name one with --turn",
            NoRelayCause::NoneByProxy => {
                ": name one with --turn that is reached over TCP (?transport=tcp) or TLS (turns:), or give --direct, \
                 by which peers see your address"
            }
            cause if cause.is_full() => "",
            _ if *is_offered => ", or name another with --turn",
            _ => "; look at what --turn says",
        },
        CloseReason::NotBegun { .. } | CloseReason::Failed { .. } => {
            "; if that is of no use, the log says more (RUST_LOG=debug)"
        }
        _ => "",
    };
    format!("{reason}{to_type}")
}

/// Why the server is out of reach, with what to type.
pub fn on_loss(reason: &OfflineReason) -> String {
    let to_type = match reason {
        OfflineReason::NameTaken => "; --name chooses another one",
        OfflineReason::AccessToken => ", and give it as access_token",
        _ => "",
    };
    format!("{reason}{to_type}")
}

/// Why a peer cannot begin, with what to type.
pub fn on_start(error: &Error) -> String {
    let to_type = match error {
        Error::NoRelay => ": name one with --turn",
        Error::PastProxy => ", or give --direct to go past the proxy",
        _ => "",
    };
    format!("{error}{to_type}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cause_says_what_it_is_and_the_program_what_to_type() {
        let no_relay = |cause, is_offered| CloseReason::NoRelay(NoRelay { cause, is_offered });
        for (reason, with_advice) in [
            (CloseReason::LocalOnly, "each needs a STUN server or a TURN server (--stun, --turn)"),
            (CloseReason::Unproven, "is refused (--strict)"),
            (no_relay(NoRelayCause::NoServer, false), "no TURN server is known (--relay-only): name one with --turn"),
            (no_relay(NoRelayCause::Refused(401), false), "the user or the secret; look at what --turn says"),
            (no_relay(NoRelayCause::NoAnswer, true), "which named it, or name another with --turn"),
            (no_relay(NoRelayCause::Refused(486), false), "has no room for another; try again later"),
            (
                CloseReason::Failed { message: "call again".to_owned() },
                "call again; if that is of no use, the log says more (RUST_LOG=debug)",
            ),
        ] {
            let (told, cause) = (on_close(&reason), reason.to_string());
            assert!(told.ends_with(with_advice) && !cause.contains("--") && !cause.contains("RUST_LOG"), "{told}");
        }
        assert_eq!(
            on_loss(&OfflineReason::NameTaken),
            "the name is taken by somebody else; --name chooses another one"
        );
        assert!(on_start(&Error::PastProxy).ends_with("reached by the proxy, or give --direct to go past the proxy"));
    }
}
