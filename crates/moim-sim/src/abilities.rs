//! What nodes can do by now. What they cannot do yet is neither asked of them nor promised.

/// Stand-ins take writes for owners that cannot be reached, and hand them over (sloppy quorums, hinted handoff).
pub(crate) const STAND_INS: bool = true;

/// Owners compare what they hold, and repair it, without anybody reading (anti-entropy); an engine that was lost is
/// refilled, and is *not ready* until then.
pub(crate) const REPAIRS: bool = false;

/// Tombstones and headers of expired values go when everybody is known to have them.
pub(crate) const FORGETS: bool = true;
