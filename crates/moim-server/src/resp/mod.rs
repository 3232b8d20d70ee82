//! Stand-in for the Redis protocol until its branch is merged.

use std::rc::Rc;

use tokio::net::TcpStream;

use crate::config::Config;
use crate::handle::NodeHandle;

/// Which of the two ports of Redis clients.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Port {
    /// One big Redis.
    Plain,
    /// A master of a Redis Cluster.
    Cluster,
}

/// Settings of the Redis protocol.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RespSettings {
    /// Asked of every client; `None` asks nothing.
    pub password: Option<String>,
}

impl From<&Config> for RespSettings {
    fn from(config: &Config) -> Self {
        let password = &config.node.password;
        Self { password: (!password.is_empty()).then(|| password.clone()) }
    }
}

/// What all connections of Redis clients share.
#[derive(Debug)]
pub struct Front {
    _handle: NodeHandle,
    _settings: RespSettings,
}

impl Front {
    /// For the node of this thread.
    pub fn new(handle: NodeHandle, settings: RespSettings) -> Rc<Self> {
        Rc::new(Self { _handle: handle, _settings: settings })
    }

    /// Serves one connection to its end.
    #[expect(clippy::unused_async, reason = "a stand-in")]
    pub async fn serve(self: &Rc<Self>, stream: TcpStream, _port: Port) {
        drop(stream.try_write(b"-ERR the Redis protocol is not served yet\r\n"));
    }
}
