//! Passwords: kept as a digest, compared in constant time, and answered with one text whatever was wrong.

use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

/// The only user there is for now, as in a Redis without ACL rules.
pub(crate) const DEFAULT_USER: &[u8] = b"default";

/// The SHA-256 of a password. Passwords are expected to be long random texts, as Redis's own are: a plain digest
/// protects a configuration file that leaks, not a weak password.
#[derive(Clone, PartialEq, Eq)]
pub struct PasswordDigest([u8; 32]);

impl PasswordDigest {
    /// Of a password.
    pub fn of(password: &[u8]) -> Self {
        Self(Sha256::digest(password).into())
    }

    /// From the 64 hexadecimal digits that Redis's ACL files use.
    pub fn from_hex(text: &str) -> Option<Self> {
        let digits = text.as_bytes();
        let mut digest = [0_u8; 32];
        if digits.len() != 2 * digest.len() || !text.is_ascii() {
            return None;
        }
        for (byte, pair) in digest.iter_mut().zip(digits.chunks(2)) {
            let pair = std::str::from_utf8(pair).ok()?;
            *byte = u8::from_str_radix(pair, 16).ok()?;
        }
        Some(Self(digest))
    }

    /// Whether user and password are right. Both are looked at in any case, so that the time tells nothing.
    pub(crate) fn admits(&self, user: &[u8], password: &[u8]) -> bool {
        let given = Self::of(password);
        let user = Self::of(user).0.ct_eq(&Self::of(DEFAULT_USER).0);
        (self.0.ct_eq(&given.0) & user).into()
    }
}

impl std::fmt::Debug for PasswordDigest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("PasswordDigest(hidden)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn user_and_password_must_both_be_right() {
        let digest = PasswordDigest::of(b"secret");
        assert!(digest.admits(b"default", b"secret"));
        for (user, password) in
            [("default", "Secret"), ("root", "secret"), ("", ""), ("default", "")]
        {
            assert!(!digest.admits(user.as_bytes(), password.as_bytes()), "{user} {password}");
        }
    }

    #[test]
    fn a_digest_is_read_from_hexadecimal_and_never_shown() {
        let hex = "2bb80d537b1da3e38bd30361aa855686bde0eacd7162fef6a25fe97bf527a25b";
        assert_eq!(PasswordDigest::from_hex(hex), Some(PasswordDigest::of(b"secret")));
        assert_eq!(PasswordDigest::from_hex(&hex[1..]), None);
        assert_eq!(PasswordDigest::from_hex(&hex.replace('b', "g")), None);
        assert!(!format!("{:?}", PasswordDigest::of(b"secret")).contains("2bb8"));
    }
}
