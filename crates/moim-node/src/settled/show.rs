//! How far things have settled, and who holds them back: for status pages and alarms.

use moim_core::NodeId;
use moim_core::clock::Hlc;

use super::progress::Track;
use crate::node::Node;
use crate::views::SettledView;

/// A member whose floor is this far behind holds things back, in milliseconds: requests may run that long, and floors
/// travel for a while.
const BEHIND_MS: u64 = 90_000;

impl Node {
    /// How far deletions, expired values and old pairs of clocks may be forgotten.
    pub fn settled_view(&self) -> SettledView {
        let settled = self.settling.partitions.values().map(|progress| progress.settled);
        let until_ms = settled.min().map(Hlc::millis).filter(|&ms| ms > 0);
        let since_ms = until_ms.unwrap_or(self.settling.started_ms);
        let started = self.settling.started_ms > 0;
        let lag_ms = if started { self.now.wall_ms.saturating_sub(since_ms) } else { 0 };
        SettledView { until_ms, lag_ms, held_back_by: self.held_back_by() }
    }

    /// The member with the oldest floor, if that is old; otherwise an owner that is away or still completing itself.
    fn held_back_by(&self) -> Option<NodeId> {
        let members = self.record.iter().flat_map(|record| &record.members);
        let floors = members.map(|info| info.member.node).map(|node| {
            let floor = self.gossip.floor([node]);
            (floor, node)
        });
        let oldest_ms = self.now.wall_ms.saturating_sub(BEHIND_MS);
        let behind = floors.min().filter(|(floor, _)| floor.millis() < oldest_ms);
        let completing = || {
            let said = |node: &NodeId| self.settling.complete.get(node).map(Track::last);
            let nothing = |node: &NodeId| said(node).unwrap_or_default() == Hlc::ZERO;
            self.co_owners().into_iter().find(nothing)
        };
        behind.map(|(_, node)| node).or_else(completing)
    }
}
