//! The persisted bound of the clock: no stamp above it leaves before the bound that covers it is durable, so that no
//! restart goes back in time.

use bytes::{BufMut, Bytes, BytesMut};
use moim_core::clock::Hlc;
use moim_storage::{Family, Write};

use crate::api::BatchId;
use crate::gate::NOTHING;
use crate::keyspace;
use crate::node::Node;

/// A bound, and the batch that made it durable.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Lease {
    until_ms: u64,
    batch: BatchId,
}

impl Lease {
    /// A bound that the disk kept.
    pub(crate) fn stored(until_ms: u64) -> Self {
        Self { until_ms, batch: NOTHING }
    }
}

impl Node {
    /// A stamp above everything seen; keeps the persisted bound ahead of it.
    pub(crate) fn stamp(&mut self) -> Hlc {
        let written = self.clock.tick(self.now.wall_ms);
        self.extend_lease(written);
        written
    }

    /// Persists a later bound when a stamp comes near the present one.
    fn extend_lease(&mut self, stamp: Hlc) {
        let lease_ms = self.options.clock_lease_ms;
        if self.leases.last().is_some_and(|lease| stamp.millis() + lease_ms / 2 < lease.until_ms) {
            return;
        }
        let until_ms = stamp.millis() + lease_ms;
        let mut value = BytesMut::with_capacity(8);
        value.put_u64(until_ms);
        let key = Bytes::from_static(keyspace::META_CLOCK_BOUND);
        let batch =
            self.store.write(Write::Put { family: Family::Meta, key, value: value.freeze() });
        self.leases.retain(|lease| lease.until_ms > stamp.millis());
        self.leases.push(Lease { until_ms, batch });
    }

    /// The batch that a message with this stamp reveals: the earliest whose bound is above it.
    pub(crate) fn lease_batch(&self, stamp: Hlc) -> BatchId {
        let covering = self.leases.iter().find(|lease| stamp.millis() < lease.until_ms);
        covering.or_else(|| self.leases.last()).map_or(NOTHING, |lease| lease.batch)
    }
}
