//! Accepting connections, whatever goes wrong with single ones.

use std::io::ErrorKind;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tracing::warn;

use super::error::ServerError;

/// The wait after the system had no room for a connection: some must close before it makes sense to try again.
const NO_ROOM_WAIT: Duration = Duration::from_millis(100);

/// An open port on this thread's event loop.
pub(super) fn adopt(listener: std::net::TcpListener) -> Result<TcpListener, ServerError> {
    TcpListener::from_std(listener)
        .map_err(|error| ServerError::System { what: "use an open port", error })
}

/// Hands every connection to `serve`, for ever. A process out of file descriptors keeps its listeners and tries again.
pub(crate) async fn accept_forever(
    listener: TcpListener,
    port: &str,
    mut serve: impl FnMut(TcpStream),
) {
    let mut failing = false;
    loop {
        match listener.accept().await {
            Ok((stream, _address)) => {
                failing = false;
                match stream.set_nodelay(true) {
                    Ok(()) => serve(stream),
                    // The client has gone again.
                    Err(_closed) => {}
                }
            }
            // The client went away while it waited in the queue.
            Err(error) if is_clients_own(error.kind()) => {}
            Err(error) => {
                if !failing {
                    warn!(port, "cannot accept connections: {error}; trying on");
                }
                failing = true;
                tokio::time::sleep(NO_ROOM_WAIT).await;
            }
        }
    }
}

fn is_clients_own(kind: ErrorKind) -> bool {
    matches!(
        kind,
        ErrorKind::ConnectionAborted | ErrorKind::ConnectionReset | ErrorKind::ConnectionRefused
    )
}
