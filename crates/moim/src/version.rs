//! `moim version`.

use crate::ending::Ending;
use crate::options::Output;
use crate::print;

/// Show the versions of program, protocol and disk format.
#[derive(Debug, clap::Args)]
pub(crate) struct Version {
    #[command(flatten)]
    output: Output,
}

#[derive(serde::Serialize)]
struct Document {
    version: &'static str,
    peer_protocol: String,
    disk_format: u32,
}

impl Version {
    pub(crate) fn run(&self) -> Ending {
        let document = Document {
            version: env!("CARGO_PKG_VERSION"),
            peer_protocol: format!("{:#06x}", moim_server::PEER_PROTOCOL),
            disk_format: moim_server::DISK_FORMAT,
        };
        if self.output.json {
            print::json(&document);
        } else {
            print::line(&format!(
                "moim {}, peer protocol {}, disk format {}",
                document.version, document.peer_protocol, document.disk_format
            ));
        }
        Ending::Done
    }
}
