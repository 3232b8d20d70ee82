//! Flags that many commands share.

use std::path::PathBuf;

use clap::Args;

use crate::ending::Trouble;

/// Where the node is, if nobody says.
pub(crate) const ADDRESS_DEFAULT: &str = "127.0.0.1:7379";

/// Where the first node of a cluster of `moim dev` is.
pub(crate) const ADDRESS_DEV: &str = "127.0.0.1:8001";

/// How to answer.
#[derive(Clone, Copy, Debug, Args)]
pub(crate) struct Output {
    /// Answer in JSON, errors too.
    #[arg(long)]
    pub(crate) json: bool,
}

/// Which node to ask, and how to answer.
#[derive(Clone, Debug, Args)]
pub(crate) struct Connection {
    /// HTTP address of any node. Without it: 127.0.0.1:7379, and if nothing listens there, 127.0.0.1:8001, the
    /// first node of `moim dev`.
    #[arg(long, value_name = "HOST:PORT", env = "MOIM_ADDR")]
    pub(crate) addr: Option<String>,
    /// A file with the password.
    #[arg(long, value_name = "FILE", env = "MOIM_PASSWORD_FILE")]
    pub(crate) password_file: Option<PathBuf>,
    /// The password. Only from the environment: other users of this machine can see command lines.
    #[arg(skip = std::env::var("MOIM_PASSWORD").ok())]
    pub(crate) password: Option<String>,
    #[command(flatten)]
    pub(crate) output: Output,
}

impl Connection {
    /// The password, from wherever it is.
    pub(crate) fn secret(&self) -> Result<Option<String>, Trouble> {
        let Some(path) = &self.password_file else { return Ok(self.password.clone()) };
        let text = std::fs::read_to_string(path).map_err(|error| {
            Trouble::usage(format!("--password-file {}: {error}", path.display()))
        })?;
        Ok(Some(text.trim_end_matches(['\r', '\n']).to_owned()))
    }
}

/// Which namespace.
#[derive(Clone, Debug, Args)]
pub(crate) struct InNamespace {
    /// The namespace: 0 to 15, or a name.
    #[arg(short, long, value_name = "NAMESPACE", default_value = "0", env = "MOIM_NAMESPACE")]
    pub(crate) namespace: String,
}

/// How long to wait for replicas.
#[derive(Clone, Debug, Args)]
pub(crate) struct Patience {
    /// How long the node waits for replicas, as 250ms or 5s.
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    pub(crate) timeout: Option<String>,
}

/// Checks a duration here, so that a mistyped one is a usage error; the server reads it.
pub(crate) fn duration(text: &str) -> Result<String, String> {
    moim_server::http::duration::parse_ms(text).map(|_ms| text.to_owned())
}

/// As [`duration`], or `never`.
pub(crate) fn lifetime(text: &str) -> Result<String, String> {
    if text == "never" { Ok(text.to_owned()) } else { duration(text) }
}
