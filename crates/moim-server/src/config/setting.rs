//! Values of settings: from TOML, from text, and back.

use std::net::SocketAddr;
use std::path::PathBuf;

use moim_core::quorum::Level;
use moim_core::ring::PartitionCount;
use moim_node::namespace::Conflict;
use toml::Value;

/// Which storage engine keeps the data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EngineKind {
    /// On disk: what the data directory was made with; [`Self::Lsm`] for a new one.
    Auto,
    /// On disk: a commit log and memory tables of our own above RocksDB's tables.
    Lsm,
    /// On disk: RocksDB alone.
    RocksDb,
    /// In memory: nothing is kept.
    Memory,
}

/// When a write counts as kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DurabilityKind {
    /// After the sync of its group: it survives the machine.
    Sync,
    /// Once the operating system has it, which is made to sync at intervals: it survives the process.
    Interval,
    /// Once the operating system has it.
    Os,
}

/// Something that a key can be set to.
pub(super) trait Setting: Sized {
    /// As TOML.
    fn show(&self) -> Value;

    /// From TOML; the error says what is expected.
    fn read(value: &Value) -> Result<Self, String>;
}

impl Setting for String {
    fn show(&self) -> Value {
        Value::String(self.clone())
    }

    fn read(value: &Value) -> Result<Self, String> {
        value.as_str().map(str::to_owned).ok_or_else(|| "a text is expected".to_owned())
    }
}

impl Setting for bool {
    fn show(&self) -> Value {
        Value::Boolean(*self)
    }

    fn read(value: &Value) -> Result<Self, String> {
        value.as_bool().ok_or_else(|| "true or false is expected".to_owned())
    }
}

impl Setting for Vec<String> {
    fn show(&self) -> Value {
        Value::Array(self.iter().map(Setting::show).collect())
    }

    fn read(value: &Value) -> Result<Self, String> {
        let texts = value.as_array().map(|items| items.iter().map(String::read).collect());
        texts.unwrap_or_else(|| Err("a list of texts is expected".to_owned()))
    }
}

impl Setting for PathBuf {
    fn show(&self) -> Value {
        Value::String(self.display().to_string())
    }

    fn read(value: &Value) -> Result<Self, String> {
        String::read(value).map(Self::from)
    }
}

macro_rules! whole_number {
    ($($type:ident)*) => {$(
        impl Setting for $type {
            fn show(&self) -> Value {
                Value::Integer(i64::try_from(*self).unwrap_or(i64::MAX))
            }

            fn read(value: &Value) -> Result<Self, String> {
                let number = value.as_integer().and_then(|number| Self::try_from(number).ok());
                number.ok_or_else(|| format!("a whole number from 0 to {} is expected", Self::MAX))
            }
        }
    )*};
}

whole_number!(u8 u32 u64);

impl Setting for SocketAddr {
    fn show(&self) -> Value {
        Value::String(self.to_string())
    }

    fn read(value: &Value) -> Result<Self, String> {
        let expected = "an IP address and a port are expected, as 127.0.0.1:6379 or 0.0.0.0:6379";
        String::read(value)?.parse().map_err(|_unparsed| expected.to_owned())
    }
}

impl Setting for Level {
    fn show(&self) -> Value {
        Value::String(self.to_string())
    }

    fn read(value: &Value) -> Result<Self, String> {
        let text =
            value.as_integer().map_or_else(|| String::read(value), |number| Ok(number.to_string()));
        text?.parse::<Self>().map_err(|error| error.to_string())
    }
}

impl Setting for PartitionCount {
    fn show(&self) -> Value {
        Value::Integer(self.get().into())
    }

    fn read(value: &Value) -> Result<Self, String> {
        Self::new(u64::read(value)?).map_err(|error| error.to_string())
    }
}

impl<T: Setting> Setting for Option<T> {
    /// Only what is set is shown.
    fn show(&self) -> Value {
        self.as_ref().map_or_else(|| Value::String(String::new()), Setting::show)
    }

    fn read(value: &Value) -> Result<Self, String> {
        T::read(value).map(Some)
    }
}

/// One of several words.
macro_rules! words {
    ($type:ident { $($word:literal => $variant:ident),* }) => {
        impl Setting for $type {
            fn show(&self) -> Value {
                Value::String(match self { $(Self::$variant => $word),* }.to_owned())
            }

            fn read(value: &Value) -> Result<Self, String> {
                match String::read(value)?.as_str() {
                    $($word => Ok(Self::$variant),)*
                    _ => Err(concat!("one of", $(" '", $word, "'"),*, " is expected").to_owned()),
                }
            }
        }
    };
}

words!(EngineKind { "auto" => Auto, "lsm" => Lsm, "rocksdb" => RocksDb, "memory" => Memory });
words!(Conflict { "lww" => Lww, "siblings" => Siblings });

impl Setting for DurabilityKind {
    fn show(&self) -> Value {
        let name = match self {
            Self::Sync => "sync",
            Self::Interval => "interval",
            Self::Os => "os",
        };
        Value::String(name.to_owned())
    }

    fn read(value: &Value) -> Result<Self, String> {
        match String::read(value)?.as_str() {
            "sync" => Ok(Self::Sync),
            "interval" => Ok(Self::Interval),
            "os" => Ok(Self::Os),
            _ => Err("'sync', 'interval' or 'os' is expected".to_owned()),
        }
    }
}
