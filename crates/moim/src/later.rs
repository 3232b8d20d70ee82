//! Commands that are promised and not served yet: they say so, rather than look mistyped.

use clap::Subcommand;

use crate::Ended;
use crate::ending::Trouble;

/// Whatever follows.
#[derive(Debug, clap::Args)]
pub(crate) struct Rest {
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, hide = true)]
    rest: Vec<String>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Later {
    #[command(hide = true)]
    Node(Rest),
    #[command(hide = true)]
    Namespace(Rest),
    #[command(hide = true)]
    Backup(Rest),
    #[command(hide = true)]
    Export(Rest),
    #[command(hide = true)]
    Import(Rest),
    #[command(hide = true)]
    Autoscale(Rest),
    #[command(hide = true)]
    Plan(Rest),
    #[command(hide = true)]
    User(Rest),
    #[command(hide = true)]
    Drain(Rest),
    #[command(hide = true)]
    Top(Rest),
    #[command(hide = true)]
    Trace(Rest),
    #[command(hide = true)]
    Doctor(Rest),
}

impl Later {
    pub(crate) fn run(self) -> Ended {
        let (name, Rest { rest }) = match self {
            Self::Node(rest) => ("node", rest),
            Self::Namespace(rest) => ("namespace", rest),
            Self::Backup(rest) => ("backup", rest),
            Self::Export(rest) => ("export", rest),
            Self::Import(rest) => ("import", rest),
            Self::Autoscale(rest) => ("autoscale", rest),
            Self::Plan(rest) => ("plan", rest),
            Self::User(rest) => ("user", rest),
            Self::Drain(rest) => ("drain", rest),
            Self::Top(rest) => ("top", rest),
            Self::Trace(rest) => ("trace", rest),
            Self::Doctor(rest) => ("doctor", rest),
        };
        let words = std::iter::once(name).chain(rest.iter().map(String::as_str));
        let command = words.collect::<Vec<_>>().join(" ");
        Err(Trouble::failed(format!(
            "`moim {command}` is not served yet; `moim help` lists what is"
        )))
    }
}
