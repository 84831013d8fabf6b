//! Folders of the unit tests' own. Only tests have this.

#![cfg(test)]

use std::fs;
use std::path::PathBuf;

/// A folder of a test's own, which goes with it.
pub struct Scratch(pub PathBuf);

impl Scratch {
    /// One that is not there yet. No other test may have this name.
    pub fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("lowkey-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&path);
        Self(path)
    }

    /// One that is there, and empty.
    pub fn made(name: &str) -> Self {
        let scratch = Self::new(name);
        fs::create_dir_all(&scratch.0).unwrap();
        scratch
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}
