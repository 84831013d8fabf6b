//! The lines of SDP (RFC 8866) by their places, and the words in them that matter to a data channel. What is not known
//! is passed over.

use super::candidate::is_token;
use super::unfit::Unfit;

/// A description's lines by their places: first those for all of it, then those of each section, which begin with its
/// `m=`.
pub struct SdpText<'a> {
    parts: Vec<Vec<(char, &'a str)>>,
}

/// One `m=` section: its line, and its name if it has one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Section {
    /// What it is for, such as `application`.
    pub media: String,
    /// What carries it, such as `UDP/DTLS/SCTP`.
    pub protocol: String,
    /// Its formats, with spaces between them.
    pub format: String,
    /// Its name.
    pub mid: Option<String>,
}

impl<'a> SdpText<'a> {
    pub fn read(sdp: &'a str) -> Result<Self, Unfit> {
        let mut parts = vec![Vec::new()];
        for line in sdp.split(['\r', '\n']) {
            let Some((kind, value)) = line.trim().split_once('=') else { continue };
            let mut kind = kind.chars();
            let (Some(kind), None) = (kind.next(), kind.next()) else { continue };
            if kind == 'm' {
                parts.push(Vec::new());
            }
            if let Some(part) = parts.last_mut() {
                part.push((kind, value.trim()));
            }
        }
        match parts.len() {
            1 if parts[0].is_empty() => Err(Unfit::Unreadable),
            1..=MAX_PARTS => Ok(Self { parts }),
            _ => Err(Unfit::TooManySections),
        }
    }

    /// The values of all attributes of this name in a part; empty for one without a value.
    pub fn attributes(&self, part: usize, name: &str) -> impl Iterator<Item = &'a str> {
        self.parts[part].iter().filter(|(kind, _)| *kind == 'a').filter_map(move |(_, attribute)| {
            let (of, value) = attribute.split_once(':').unwrap_or((attribute, ""));
            of.trim().eq_ignore_ascii_case(name).then(|| value.trim())
        })
    }

    pub fn attribute(&self, part: usize, name: &str) -> Option<&'a str> {
        self.attributes(part, name).next()
    }

    /// The words of a section's `m=` line.
    fn words(&self, section: usize) -> impl Iterator<Item = &'a str> {
        self.parts[section + 1].first().map_or("", |(_, value)| value).split_ascii_whitespace()
    }

    /// All sections; `None` where one has no sense.
    pub fn sections(&self) -> Option<Vec<Section>> {
        (0..self.parts.len() - 1).map(|section| self.section(section)).collect()
    }

    fn section(&self, section: usize) -> Option<Section> {
        let words: Vec<&str> = self.words(section).collect();
        let [media, _, protocol, formats @ ..] = &words[..] else { return None };
        let is_plain = [media, protocol].into_iter().chain(formats).all(|word| is_token(word, MAX_WORD));
        let mid = self.attribute(section + 1, "mid").filter(|mid| is_token(mid, MAX_WORD));
        is_plain.then(|| Section {
            media: (*media).to_owned(),
            protocol: (*protocol).to_owned(),
            format: formats.join(" "),
            mid: mid.map(str::to_owned),
        })
    }

    /// The first section of a data channel that is not refused. Port 0 refuses it, unless that means that it has none
    /// of its own in a bundle (RFC 9143, section 6). Older apps name the port of SCTP where newer ones name what it
    /// carries.
    pub fn channel(&self) -> Option<usize> {
        (0..self.parts.len() - 1).find(|section| {
            let mut words = self.words(*section);
            let (media, port, protocol, format) = (words.next(), words.next(), words.next(), words.next());
            let is = |word: Option<&str>, text: &str| word.is_some_and(|word| word.eq_ignore_ascii_case(text));
            let is_taken = port != Some("0") || self.attribute(section + 1, "bundle-only").is_some();
            let is_sctp = ["UDP/DTLS/SCTP", "TCP/DTLS/SCTP", "DTLS/SCTP"].into_iter().any(|text| is(protocol, text));
            let is_channels = is(format, CHANNELS) || format == Some(SCTP_PORT);
            let has_port = self.attribute(section + 1, "sctp-port").is_none_or(|port| port == SCTP_PORT);
            is(media, "application") && is_taken && is_sctp && is_channels && has_port && words.next().is_none()
        })
    }

    /// The part that speaks for all sections of the bundle that a section is in.
    pub fn bundle_of(&self, section: usize) -> Option<usize> {
        let mid = self.attribute(section + 1, "mid")?;
        let groups = self.attributes(0, "group").filter_map(|group| {
            let mut words = group.split_ascii_whitespace();
            words.next().filter(|semantics| semantics.eq_ignore_ascii_case("BUNDLE")).map(|_| words)
        });
        let mut group = groups.into_iter().find(|words| words.clone().any(|word| word == mid))?;
        let first = group.next()?;
        (1..self.parts.len()).find(|part| self.attribute(*part, "mid") == Some(first)).or(Some(section + 1))
    }

    /// The one SHA-256 fingerprint that the first of these parts with one names. Others of the same certificate, by
    /// other hashes, say nothing more; but another of this hash is another certificate, and nobody could say which of
    /// them counts.
    pub fn fingerprint(&self, places: &[Option<usize>]) -> Result<[u8; 32], Unfit> {
        let mut is_other = false;
        for part in places.iter().flatten() {
            let mut named = None;
            for value in self.attributes(*part, "fingerprint") {
                is_other = true;
                let Some(fingerprint) = read_fingerprint(value) else { continue };
                if named.replace(fingerprint).is_some_and(|before| before != fingerprint) {
                    return Err(Unfit::SeveralFingerprints);
                }
            }
            if let Some(fingerprint) = named {
                return Ok(fingerprint);
            }
        }
        Err(if is_other { Unfit::Hash } else { Unfit::NoFingerprint })
    }
}

/// Reads `sha-256 AB:CD:…`, in any case; `None` for another hash.
fn read_fingerprint(value: &str) -> Option<[u8; 32]> {
    let (hash, digits) = value.split_once([' ', '\t'])?;
    let byte = |pair: &str| (pair.len() == 2).then(|| u8::from_str_radix(pair, 16).ok())?;
    let is_ours = hash.eq_ignore_ascii_case("sha-256") && !digits.contains('+');
    let bytes: Vec<u8> = digits.trim().split(':').map(byte).collect::<Option<_>>()?;
    bytes.try_into().ok().filter(|_| is_ours)
}

/// Parts that are looked at, so that an answer, which repeats them, stays short. A call with sound and pictures has
/// three or four.
const MAX_PARTS: usize = 17;

/// The longest word of an `m=` line, and the longest name of a section, in bytes.
const MAX_WORD: usize = 64;

/// What an `m=` line of data channels says that it carries (RFC 8841, section 4.4), and the only port of SCTP that
/// anybody uses.
pub const CHANNELS: &str = "webrtc-datachannel";
pub const SCTP_PORT: &str = "5000";
