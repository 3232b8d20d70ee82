//! Identities. All are opaque numbers: drawn at random once, kept with the data, never reused.

use std::fmt;

/// One member of the ring: a loop with its own share of partitions. Drawn at random when its data directory is made.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeId(pub u64);

/// One physical failure domain. Copies of a partition go to distinct machines; a server process has one machine id
/// for all of its nodes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MachineId(pub u64);

/// A namespace, as stored in keys. `0` to `15` are the Redis databases; named ones hash their name
/// (see [`NamespaceId::of_name`]), so that every node computes the same id without asking.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NamespaceId(pub u32);

impl NamespaceId {
    /// How many namespaces are numbered, as Redis databases are.
    pub const NUMBERED: u32 = 16;

    /// The id of a name: its number for `0`…`15`, otherwise 32 bits of its hash, kept clear of the numbered range.
    /// Whoever founds namespaces refuses two names with one id.
    pub fn of_name(name: &str) -> Self {
        match name.parse::<u32>() {
            Ok(number) if number < Self::NUMBERED && name == number.to_string() => Self(number),
            _ => {
                let hash = xxhash_rust::xxh3::xxh3_64(name.as_bytes()).to_be_bytes();
                let folded = u32::from_be_bytes([hash[0], hash[1], hash[2], hash[3]]);
                Self(folded.max(Self::NUMBERED))
            }
        }
    }
}

macro_rules! hex_identity {
    ($type:ident) => {
        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:016x}", self.0)
            }
        }

        impl fmt::Debug for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($type), "({:x})"), self.0)
            }
        }
    };
}

hex_identity!(NodeId);
hex_identity!(MachineId);

impl fmt::Debug for NamespaceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "NamespaceId({})", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbered_namespaces_keep_their_number() {
        assert_eq!(NamespaceId::of_name("0"), NamespaceId(0));
        assert_eq!(NamespaceId::of_name("15"), NamespaceId(15));
        assert!(NamespaceId::of_name("16").0 >= NamespaceId::NUMBERED);
        assert!(
            NamespaceId::of_name("07").0 >= NamespaceId::NUMBERED,
            "not the canonical spelling of 7"
        );
        assert!(NamespaceId::of_name("carts").0 >= NamespaceId::NUMBERED);
    }
}
