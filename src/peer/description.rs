//! Descriptions of a data channel (SDP, RFC 8866 and RFC 8841) as others write them, turned into what our WebRTC reads;
//! and ours, turned into what the other side asked for. WebRTC never sees a line of somebody else's: what it takes
//! amiss, such as a candidate that it cannot read or a missing name, it would answer with silence.

use super::candidate::{Candidate, is_token};
use super::sdp::{CHANNELS, SCTP_PORT, SdpText, Section};
pub use super::unfit::Unfit;

/// What one side says of its connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Description {
    /// The user and password of its ICE (RFC 8839, section 5.4).
    ufrag: String,
    password: String,
    fingerprint: [u8; 32],
    setup: Setup,
    /// It only answers connectivity checks (RFC 8839, section 5.3).
    is_lite: bool,
    max_message: usize,
    candidates: Vec<Candidate>,
    /// Its media sections, of which an answer repeats each (RFC 3264, section 6), and which of them is the channel's.
    sections: Vec<Section>,
    channel: usize,
    /// The sections share one connection, as named in the offer (RFC 9143).
    is_bundled: bool,
}

/// Who begins the DTLS handshake (RFC 4145, section 4).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Setup {
    /// Its author does.
    Active,
    /// The other side does.
    Passive,
    /// Either of them.
    Either,
}

/// What of an offer has its place in the answer to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layout {
    setup: Setup,
    sections: Vec<Section>,
    channel: usize,
    is_bundled: bool,
}

impl Description {
    /// Reads a description. What is not known in it is passed over, and so is what cannot be read and is not needed.
    ///
    /// # Errors
    /// Why it is of no use. Nothing can be guessed then: without ICE's words nothing is answered, and without a
    /// certificate nobody knows whom it leads to.
    pub fn read(sdp: &str) -> Result<Self, Unfit> {
        let text = SdpText::read(sdp)?;
        let channel = text.channel().ok_or(Unfit::NoChannel)?;
        let bundle = text.bundle_of(channel);
        // What stands in the section itself goes before what is said for all; and in a bundle the first section speaks
        // for each.
        let places = [Some(channel + 1), bundle, Some(0)];
        let find = |name: &str| places.iter().flatten().find_map(|place| text.attribute(*place, name));
        let credential = |name: &str, longest: usize| {
            find(name).filter(|value| is_token(value, longest)).map(str::to_owned).ok_or(Unfit::Credentials)
        };
        let setup = match find("setup").map(str::to_ascii_lowercase).as_deref() {
            Some("active") => Setup::Active,
            Some("passive") => Setup::Passive,
            Some("holdconn") => return Err(Unfit::OnHold),
            _ => Setup::Either,
        };
        let candidates = places[..2].iter().flatten().flat_map(|place| text.attributes(*place, "candidate"));
        let description = Self {
            ufrag: credential("ice-ufrag", MAX_UFRAG)?,
            password: credential("ice-pwd", MAX_PASSWORD)?,
            fingerprint: text.fingerprint(&places)?,
            setup,
            is_lite: text.attribute(0, "ice-lite").is_some(),
            max_message: max_message(text.attribute(channel + 1, "max-message-size")),
            candidates: candidates.filter_map(Candidate::read).collect(),
            sections: text.sections().ok_or(Unfit::Unreadable)?,
            channel,
            is_bundled: bundle.is_some(),
        };
        Ok(description)
    }

    /// The SHA-256 fingerprint of its author's certificate, the only one that counts (RFC 8122, section 5).
    pub fn fingerprint(&self) -> [u8; 32] {
        self.fingerprint
    }

    /// The largest message that its author takes, in bytes (RFC 8841, section 6); `usize::MAX` for any.
    pub(crate) fn max_message(&self) -> usize {
        self.max_message
    }

    /// Its candidates, which are to be added one by one.
    pub fn candidates(&self) -> &[Candidate] {
        &self.candidates
    }

    /// What an answer to it has to repeat.
    pub fn layout(&self) -> Layout {
        let Self { setup, sections, channel, is_bundled, .. } = self;
        Layout { setup: *setup, sections: sections.clone(), channel: *channel, is_bundled: *is_bundled }
    }

    /// The same as our WebRTC reads it, without candidates. Who leaves open who begins the DTLS handshake is said to do
    /// so: that is what our [`answer`](Self::answer) leaves to a caller, and what an answer means that says nothing
    /// (RFC 4145, section 4).
    ///
    /// WebRTC drops what is longer than either side takes, also where it comes from the one who set the bound. So what
    /// it is told is our own bound, and what we send is bounded by theirs before it gets there.
    pub fn for_webrtc(&self) -> String {
        let setup = if self.setup == Setup::Passive { Setup::Passive } else { Setup::Active };
        let [media, protocol, format] = ["application", "UDP/DTLS/SCTP", CHANNELS].map(str::to_owned);
        let sections = vec![Section { media, protocol, format, mid: Some("0".to_owned()) }];
        self.write(setup, &Layout { setup, sections, channel: 0, is_bundled: true }, &[])
    }

    /// Our offer as others read it, with these candidates.
    pub fn offer(&self, candidates: &[&Candidate]) -> String {
        self.write(Setup::Either, &Layout { is_bundled: true, ..self.layout() }, candidates)
    }

    /// Our answer to an offer, with these candidates: each section of the offer in its place, all refused but the
    /// channel's. The caller begins the DTLS handshake wherever it may. Our WebRTC begins SCTP only where it began the
    /// handshake, and refuses the other side's beginning there, though both may begin (RFC 8841, section 9.3); some
    /// others leave it to the caller. And a caller is ready for its own handshake, but perhaps not yet for one of ours.
    pub fn answer(&self, offer: &Layout, candidates: &[&Candidate]) -> String {
        let setup = if offer.setup == Setup::Passive { Setup::Active } else { Setup::Passive };
        self.write(setup, offer, candidates)
    }

    fn write(&self, setup: Setup, layout: &Layout, candidates: &[&Candidate]) -> String {
        let Layout { sections, channel, is_bundled, .. } = layout;
        let mut lines = ["v=0", "o=- 1 1 IN IP4 0.0.0.0", "s=-", "t=0 0"].map(str::to_owned).to_vec();
        if let Some(mid) = sections[*channel].mid.as_ref().filter(|_| *is_bundled) {
            lines.push(format!("a=group:BUNDLE {mid}"));
        }
        if self.is_lite {
            lines.push("a=ice-lite".to_owned());
        }
        for (place, Section { media, protocol, format, mid }) in sections.iter().enumerate() {
            let port = if place == *channel { 9 } else { 0 };
            lines.push(format!("m={media} {port} {protocol} {format}"));
            lines.push("c=IN IP4 0.0.0.0".to_owned());
            lines.extend(mid.iter().map(|mid| format!("a=mid:{mid}")));
            if place != *channel {
                lines.push("a=inactive".to_owned());
                continue;
            }
            let digits: Vec<String> = self.fingerprint.iter().map(|byte| format!("{byte:02X}")).collect();
            let setup = match setup {
                Setup::Active => "active",
                Setup::Passive => "passive",
                Setup::Either => "actpass",
            };
            let sctp = match format == SCTP_PORT {
                true => format!("sctpmap:{SCTP_PORT} {CHANNELS} 65535"),
                false => format!("sctp-port:{SCTP_PORT}"),
            };
            lines.extend([
                "a=sendrecv".to_owned(),
                format!("a=ice-ufrag:{}", self.ufrag),
                format!("a=ice-pwd:{}", self.password),
                "a=ice-options:trickle".to_owned(),
                format!("a=fingerprint:sha-256 {}", digits.join(":")),
                format!("a=setup:{setup}"),
                format!("a={sctp}"),
                format!("a=max-message-size:{MAX_MESSAGE}"),
            ]);
            lines.extend(candidates.iter().map(|candidate| format!("a={candidate}")));
        }
        lines.join("\r\n") + "\r\n"
    }
}

impl Layout {
    /// How our candidates name the channel's section: by its name, if it has one, and by its place.
    pub fn place(&self) -> (Option<String>, u16) {
        (self.sections[self.channel].mid.clone(), self.channel as u16)
    }
}

fn max_message(value: Option<&str>) -> usize {
    match value.and_then(|value| value.parse().ok()) {
        None => DEFAULT_MAX_MESSAGE,
        Some(0) => usize::MAX,
        Some(size) => size,
    }
}

/// The largest message of ours, in bytes, which is also what browsers take and what we take ourselves, whatever the
/// other side takes.
pub(crate) const MAX_MESSAGE: usize = 262_144;

/// What a description means that names no size, in bytes (RFC 8841, section 6.1).
pub(crate) const DEFAULT_MAX_MESSAGE: usize = 65_536;

/// The longest words of ICE, in bytes. Those of RFC 8839, section 5.4, may have 256 each; but the user goes along in
/// every check, where browsers have 4 and some 32.
pub(crate) const MAX_UFRAG: usize = 32;
/// See [`MAX_UFRAG`].
pub(crate) const MAX_PASSWORD: usize = 256;

#[cfg(test)]
mod tests {
    use super::*;

    const DIGITS: &str =
        "AB:CD:EF:01:23:45:67:89:AB:CD:EF:01:23:45:67:89:AB:CD:EF:01:23:45:67:89:AB:CD:EF:01:23:45:67:89";

    /// A description of a data channel with these lines more.
    fn with(lines: &[&str]) -> String {
        let usual =
            ["v=0", "m=application 9 UDP/DTLS/SCTP webrtc-datachannel", "a=mid:0", "a=ice-ufrag:u", "a=ice-pwd:p"];
        let fingerprint = format!("a=fingerprint:sha-256 {DIGITS}");
        usual.iter().chain(&[&*fingerprint]).chain(lines).flat_map(|line| [line, "\r\n"]).collect()
    }

    fn lines<'a>(sdp: &'a str, start: &str) -> Vec<&'a str> {
        sdp.lines().filter(|line| line.starts_with(start)).collect()
    }

    #[test]
    fn the_caller_begins_the_handshake_wherever_it_may() {
        for (setup, for_webrtc, answer) in [
            ("a=setup:actpass", "a=setup:active", "a=setup:passive"),
            ("a=setup:active", "a=setup:active", "a=setup:passive"),
            ("a=setup:passive", "a=setup:passive", "a=setup:active"),
            ("a=Setup:PASSIVE", "a=setup:passive", "a=setup:active"),
            ("a=setup:Active", "a=setup:active", "a=setup:passive"),
            ("a=setup:whatever", "a=setup:active", "a=setup:passive"),
            ("a=tool:none", "a=setup:active", "a=setup:passive"),
        ] {
            let offer = Description::read(&with(&[setup])).unwrap();
            assert_eq!(lines(&offer.for_webrtc(), "a=setup"), [for_webrtc], "{setup}");
            let own = Description::read(&with(&["a=setup:active"])).unwrap();
            assert_eq!(lines(&own.answer(&offer.layout(), &[]), "a=setup"), [answer], "{setup}");
            assert_eq!(lines(&own.offer(&[]), "a=setup"), ["a=setup:actpass"]);
        }
        assert_eq!(Description::read(&with(&["a=setup:HoldConn"])), Err(Unfit::OnHold));
    }

    #[test]
    fn one_certificate_counts_in_any_spelling_and_none_is_guessed() {
        let lower = DIGITS.to_lowercase();
        let other = DIGITS.replace("AB:CD", "AB:CE");
        let long = vec!["AB"; 64].join(":");
        let read = |fingerprints: &[&str]| {
            let usual = with(&[]).replace(&format!("a=fingerprint:sha-256 {DIGITS}\r\n"), "");
            let lines: Vec<String> = fingerprints.iter().map(|value| format!("a=fingerprint:{value}\r\n")).collect();
            Description::read(&(usual + &lines.concat())).map(|description| description.fingerprint()[1])
        };
        let ours = format!("SHA-256 {lower}");
        for several in [
            vec![&*ours],
            vec![&format!("sha-512 {long}"), &ours, "sha-1 AB"],
            vec![&ours, &format!("sha-384 {long}"), &format!("sha-256  {DIGITS} ")],
            vec!["sha-256 AB:CD", "sha-256", &ours],
        ] {
            assert_eq!(read(&several), Ok(0xcd), "{several:?}");
        }
        assert_eq!(read(&[&ours, &format!("sha-256 {other}")]), Err(Unfit::SeveralFingerprints));
        assert_eq!(read(&[&format!("sha-512 {long}"), "sha-256 +1"]), Err(Unfit::Hash));
        assert_eq!(read(&[&format!("sha-256 {}", DIGITS.replace(':', ""))]), Err(Unfit::Hash));
        assert_eq!(read(&[]), Err(Unfit::NoFingerprint));
        // What the section says goes before what is said for all.
        let both = with(&[]).replace("v=0\r\n", &format!("v=0\r\na=fingerprint:sha-256 {other}\r\n"));
        assert_eq!(Description::read(&both).unwrap().fingerprint()[1], 0xcd);
    }

    #[test]
    fn what_is_taken_is_bounded_by_us_alone_and_what_is_sent_by_them() {
        for (line, size) in [
            ("a=max-message-size:65536", 65_536),
            ("a=max-message-size: 1000 ", 1000),
            ("a=max-message-size:0", usize::MAX),
            ("a=max-message-size:1073741823", 1_073_741_823),
            ("a=max-message-size:x", 65_536),
            ("a=x", 65_536),
        ] {
            let description = Description::read(&with(&[line])).unwrap();
            assert_eq!(description.max_message(), size, "{line}");
            assert_eq!(lines(&description.for_webrtc(), "a=max-message-size"), ["a=max-message-size:262144"], "{line}");
        }
    }

    #[test]
    fn an_answer_repeats_each_section_and_refuses_what_is_no_channel() {
        let own = Description::read(&with(&[])).unwrap();
        let answer = |offer: &str| own.answer(&Description::read(offer).unwrap().layout(), &[]);
        let plain = answer(&with(&[]));
        assert_eq!(lines(&plain, "a=group"), [""; 0], "it was not asked for");
        assert_eq!(lines(&plain, "m="), ["m=application 9 UDP/DTLS/SCTP webrtc-datachannel"]);
        let bundled = with(&[]).replace("v=0\r\n", "v=0\r\na=group:LS 0\r\na=group:BUNDLE a 0\r\n");
        assert_eq!(lines(&answer(&bundled), "a=group"), ["a=group:BUNDLE 0"]);
        let unnamed = with(&[]).replace("a=mid:0\r\n", "");
        assert_eq!(lines(&answer(&unnamed), "a=mid"), [""; 0]);
        assert_eq!(Description::read(&unnamed).unwrap().layout().place(), (None, 0));
        let old = with(&["a=sctpmap:5000 webrtc-datachannel 1024"])
            .replace("UDP/DTLS/SCTP webrtc-datachannel", "DTLS/SCTP 5000");
        assert_eq!(lines(&answer(&old), "m="), ["m=application 9 DTLS/SCTP 5000"]);
        assert_eq!(lines(&answer(&old), "a=sctp"), ["a=sctpmap:5000 webrtc-datachannel 65535"]);
        // With sound in front, whose section speaks for the channel, which has none of its own.
        let sound = format!(
            "v=0\r\na=group:BUNDLE s d\r\nm=audio 9 UDP/TLS/RTP/SAVPF 111 0\r\na=mid:s\r\na=ice-ufrag:u\r\n\
             a=ice-pwd:p\r\n\
             a=fingerprint:sha-256 {DIGITS}\r\na=candidate:1 1 udp 1 192.0.2.1 1 typ host\r\n\
             m=application 0 UDP/DTLS/SCTP webrtc-datachannel\r\na=bundle-only\r\na=mid:d\r\n"
        );
        let offer = Description::read(&sound).unwrap();
        assert_eq!((offer.layout().place(), offer.candidates().len()), ((Some("d".to_owned()), 1), 1));
        let answer = answer(&sound);
        assert_eq!(
            lines(&answer, "m="),
            ["m=audio 0 UDP/TLS/RTP/SAVPF 111 0", "m=application 9 UDP/DTLS/SCTP webrtc-datachannel"]
        );
        assert_eq!(lines(&answer, "a=group"), ["a=group:BUNDLE d"]);
        assert_eq!(lines(&answer, "a=ice-ufrag").len(), 1);
    }

    #[test]
    fn what_cannot_be_answered_is_told_for_its_reason() {
        let usual = with(&[]);
        let long = |longest: usize| "x".repeat(longest + 1);
        let channel = |section: &str| usual.replace("m=application 9 UDP/DTLS/SCTP webrtc-datachannel", section);
        for (sdp, unfit) in [
            (String::new(), Unfit::Unreadable),
            ("no description".to_owned(), Unfit::Unreadable),
            ("v=0\r\n".to_owned(), Unfit::NoChannel),
            (channel("m=audio 9 UDP/TLS/RTP/SAVPF 0"), Unfit::NoChannel),
            (channel("m=application 0 UDP/DTLS/SCTP webrtc-datachannel"), Unfit::NoChannel),
            (channel("m=application 9 UDP/DTLS/SCTP something-else"), Unfit::NoChannel),
            (channel("m=application"), Unfit::NoChannel),
            (with(&["a=sctp-port:5001"]), Unfit::NoChannel),
            (format!("{usual}m=audio\r\n"), Unfit::Unreadable),
            (usual.clone() + &"m=audio 9 RTP/AVP 0\r\n".repeat(16), Unfit::TooManySections),
            (usual.replace("a=ice-ufrag:u", ""), Unfit::Credentials),
            (usual.replace("a=ice-pwd:p", "a=ice-pwd:"), Unfit::Credentials),
            (usual.replace("ufrag:u", &format!("ufrag:{}", long(MAX_UFRAG))), Unfit::Credentials),
            (usual.replace("pwd:p", &format!("pwd:{}", long(MAX_PASSWORD))), Unfit::Credentials),
            (usual.replace("ufrag:u", "ufrag:u v"), Unfit::Credentials),
            (with(&["a=setup:holdconn"]), Unfit::OnHold),
        ] {
            assert_eq!(Description::read(&sdp), Err(unfit), "{sdp}");
        }
        let longest = usual.replace("ufrag:u", &format!("ufrag:{}", "x".repeat(MAX_UFRAG)));
        assert!(Description::read(&longest.replace("pwd:p", &format!("pwd:{}", "x".repeat(MAX_PASSWORD)))).is_ok());
    }

    #[test]
    fn what_is_not_known_or_not_needed_spoils_nothing_and_is_not_passed_on() {
        let odd = [
            "x=what is this",
            "",
            "=",
            "nonsense",
            "a=",
            "a",
            "aa=b",
            "b=AS:x",
            "t=now",
            "z=",
            "k=prompt",
            "c=IN IP9 nowhere",
            "a=candidate",
            "a=candidate:bad",
            "a=candidate:1 1 udp 1 host.example 1 typ host",
            "a=candidate:1 1 tcp 1 192.0.2.1 9 typ host tcptype active",
            "a=candidate:1 1 UDP 7 192.0.2.1 9000 typ host",
            "a=candidate:1 1 udp 1 fe80::1%3 1 typ host",
            "a=extmap:x",
            "a=rtpmap:999999 x",
            "a=ssrc:x",
            "ü=ü",
        ];
        let spoiled = with(&odd).replace("\r\n", "\n").replacen('\n', "\no=\nx=y\n", 1);
        let description = Description::read(&spoiled).unwrap();
        assert_eq!(description.for_webrtc(), Description::read(&with(&[])).unwrap().for_webrtc());
        let candidates: Vec<String> = description.candidates().iter().map(Candidate::to_string).collect();
        assert_eq!(candidates, ["candidate:1 1 udp 7 192.0.2.1 9000 typ host"]);
        assert_eq!(Description::read(&description.for_webrtc()).unwrap().for_webrtc(), description.for_webrtc());
    }
}
