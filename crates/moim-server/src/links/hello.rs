//! The first words on a connection, before anybody is known: bounded in size and in time.

use std::fmt;
use std::time::Duration;

use bytes::Bytes;
use moim_core::codec::DecodeError;
use moim_node::membership::Hello;
use moim_node::wire::{self, HELLO_BYTES_MAX, LENGTH_BYTES};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// How long the other side may take to say hello.
const HELLO_WAIT: Duration = Duration::from_secs(3);

/// Why there was no hello.
#[derive(Debug)]
pub(super) enum HelloError {
    /// The other side closed the connection without a word.
    Closed,
    Silent,
    TooLong(usize),
    Malformed(DecodeError),
    Io(std::io::Error),
}

impl fmt::Display for HelloError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Closed => f.write_str("it closed the connection without a hello"),
            Self::Silent => write!(f, "it did not say hello in {} s", HELLO_WAIT.as_secs()),
            Self::TooLong(bytes) => {
                write!(
                    f,
                    "its hello has {bytes} bytes, the limit is {HELLO_BYTES_MAX}: is it a Moim node?"
                )
            }
            Self::Malformed(error) => write!(f, "its hello is malformed: {error}"),
            Self::Io(error) => error.fmt(f),
        }
    }
}

/// The accepting side: says hello, then hears the other's.
pub(super) async fn welcome(stream: &mut TcpStream, own: &Hello) -> Result<Hello, HelloError> {
    stream.write_all(&frame(own)).await.map_err(HelloError::Io)?;
    hear(stream).await
}

/// Hears a hello, and nothing that follows it.
pub(super) async fn hear(stream: &mut TcpStream) -> Result<Hello, HelloError> {
    match tokio::time::timeout(HELLO_WAIT, read(stream)).await {
        Ok(result) => result,
        Err(_elapsed) => Err(HelloError::Silent),
    }
}

/// The dialing side's answer, without waiting: the buffer of a fresh connection is empty and has room for it.
pub(super) fn say_at_once(stream: &TcpStream, own: &Hello) -> Result<(), HelloError> {
    let frame = frame(own);
    match stream.try_write(&frame) {
        Ok(written) if written == frame.len() => Ok(()),
        Ok(_part) => Err(HelloError::Io(std::io::ErrorKind::WriteZero.into())),
        Err(error) => Err(HelloError::Io(error)),
    }
}

fn frame(own: &Hello) -> Vec<u8> {
    let mut frame = Vec::new();
    wire::encode_hello(own, &mut frame);
    assert!(frame.len() <= HELLO_BYTES_MAX, "configuration bounds names and addresses");
    frame
}

async fn read(stream: &mut TcpStream) -> Result<Hello, HelloError> {
    let mut length = [0; LENGTH_BYTES];
    stream.read_exact(&mut length).await.map_err(ended)?;
    let bytes = u32::from_be_bytes(length) as usize;
    if bytes > HELLO_BYTES_MAX {
        return Err(HelloError::TooLong(bytes));
    }
    let mut body = vec![0; bytes];
    stream.read_exact(&mut body).await.map_err(ended)?;
    wire::decode_hello(Bytes::from(body)).map_err(HelloError::Malformed)
}

fn ended(error: std::io::Error) -> HelloError {
    match error.kind() {
        std::io::ErrorKind::UnexpectedEof | std::io::ErrorKind::ConnectionReset => {
            HelloError::Closed
        }
        _ => HelloError::Io(error),
    }
}
