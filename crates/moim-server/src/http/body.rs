//! Request bodies: read whole, within a limit and a time.
//!
//! A body that is too large is refused by its declared length before a byte is read, and otherwise as soon as it
//! exceeds the limit. What is left of it is then read and thrown away for a moment: a client that is still sending
//! when the connection closes would see a reset in place of the refusal.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt as _;
use hyper::body::{Body as _, Incoming};
use tokio::time::timeout;

use super::problem::{Kind, Refusal};

/// How much of a refused body is read to its end.
const DISCARD_BYTES_MAX: u64 = 4 << 20;

/// And for how long.
const DISCARD_TIME: Duration = Duration::from_secs(1);

/// Why a body was not taken.
pub(super) enum BodyRefused {
    /// It has at least this many bytes, more than the limit.
    TooLarge(u64),
    /// Anything else.
    Other(Refusal),
}

/// The whole body, if it has at most `limit_bytes` and arrives within `patience`.
pub(super) async fn read(
    mut body: Incoming,
    limit_bytes: u64,
    patience: Duration,
) -> Result<Bytes, BodyRefused> {
    let declared = body.size_hint().lower();
    let taken = if declared > limit_bytes {
        Err(BodyRefused::TooLarge(declared))
    } else {
        let whole = timeout(patience, collect(&mut body, limit_bytes)).await;
        whole.unwrap_or_else(|_| Err(slow(patience)))
    };
    if matches!(taken, Err(BodyRefused::TooLarge(_))) {
        discard(body).await;
    }
    taken
}

async fn collect(body: &mut Incoming, limit_bytes: u64) -> Result<Bytes, BodyRefused> {
    // Grows with what arrives, never with what was declared.
    let mut whole = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| {
            BodyRefused::Other(Kind::BadRequest.because(format!("the body broke off: {error}")))
        })?;
        let Ok(data) = frame.into_data() else { continue };
        whole.extend_from_slice(&data);
        if whole.len() as u64 > limit_bytes {
            return Err(BodyRefused::TooLarge(whole.len() as u64));
        }
    }
    Ok(whole.freeze())
}

async fn discard(mut body: Incoming) {
    let mut left = DISCARD_BYTES_MAX;
    let rest = async {
        while let Some(Ok(frame)) = body.frame().await {
            left = left.saturating_sub(frame.data_ref().map_or(0, |data| data.len() as u64));
            if left == 0 {
                break;
            }
        }
    };
    // Whether the rest came in time changes nothing: the refusal is sent either way.
    drop(timeout(DISCARD_TIME, rest).await);
}

fn slow(patience: Duration) -> BodyRefused {
    let seconds = patience.as_secs();
    BodyRefused::Other(
        Kind::SlowBody.because(format!("the body did not arrive within {seconds} s")),
    )
}
