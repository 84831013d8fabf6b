//! The SHA-256 of a file as far as it has come. It can be written down in the middle and go on from there, so nothing
//! of a file is read twice after a program has ended. Pure.

use sha2::digest::common::hazmat::SerializableState;
use sha2::{Digest as _, Sha256};

use super::note::Digest;

/// The SHA-256 of all bytes up to some place.
#[derive(Debug, Clone, Default)]
pub struct Checksum {
    state: Sha256,
    position: u64,
}

impl Checksum {
    /// Takes the next bytes.
    pub fn take(&mut self, bytes: &[u8]) {
        self.state.update(bytes);
        self.position += bytes.len() as u64;
    }

    /// How many bytes have come.
    pub fn position(&self) -> u64 {
        self.position
    }

    /// The digest of all that has come.
    pub fn digest(&self) -> Digest {
        Digest(self.state.clone().finalize().into())
    }

    /// The digest of what is before its position; `None` at the beginning. A receiver tells it, so that the sender
    /// sees whether it has the same.
    pub fn digest_before(&self) -> Option<Digest> {
        (self.position > 0).then(|| self.digest())
    }

    /// What is to be written down to go on from here.
    pub fn state(&self) -> Vec<u8> {
        self.state.serialize().to_vec()
    }

    /// Goes on from what was written down at this place; `None` for what was not.
    pub fn stored(position: u64, state: &[u8]) -> Option<Self> {
        let state = Sha256::deserialize(state.try_into().ok()?).ok()?;
        Some(Self { state, position })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_goes_on_from_any_place_and_is_what_others_calculate() {
        let file: Vec<u8> = (0..1000).map(|number| (number * 31 % 251) as u8).collect();
        let expected = Digest(Sha256::digest(&file).into());
        for place in [0, 1, 63, 64, 65, 127, 999, 1000] {
            let mut checksum = Checksum::default();
            checksum.take(&file[..place]);
            let mut other = Checksum::stored(checksum.position(), &checksum.state()).unwrap();
            assert_eq!((other.digest(), other.position()), (checksum.digest(), place as u64));
            other.take(&file[place..]);
            assert_eq!((other.digest(), other.position()), (expected, 1000), "{place}");
        }
        let mut abc = Checksum::default();
        assert_eq!(abc.digest_before(), None);
        abc.take(b"abc");
        // FIPS 180-4's own example.
        let known = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(abc.digest_before().unwrap().to_string(), known);
        for bad in [vec![], vec![0; 3], abc.state()[1..].to_vec(), vec![0xff; abc.state().len()]] {
            assert!(Checksum::stored(3, &bad).is_none(), "{bad:?}");
        }
    }
}
