//! Whether members hold down whom they hear.
//!
//! A verdict may be wrong for a moment: two that have both lost sight of a member may agree before its next heartbeat
//! comes to them another way. It may not last while the heartbeats come.

use std::collections::BTreeMap;

use moim_node::views::MemberState;

use super::World;
use super::server::Server;

/// How often everybody is looked at, in microseconds.
const LOOK_US: u64 = 250_000;

/// Looks that are judged together: ten seconds.
const WINDOW_LOOKS: u32 = 40;

/// Looks of a window at which a member that is heard may be held down: three seconds.
const DOWN_LOOKS_MAX: u32 = 12;

/// A member is heard while its heartbeats, one a second, are no older than this, in milliseconds.
const HEARD_MS_MAX: u64 = 2_000;

/// So many others hear a member, or it is not judged.
const HEARERS_MIN: usize = 2;

/// What is noted while a member is heard.
#[derive(Debug, Default)]
pub(super) struct Watch {
    next_us: u64,
    /// Who hears (first) whom: looks in this window, and those of them at which it held it down.
    pairs: BTreeMap<(usize, usize), (u32, u32)>,
    found: Option<String>,
}

impl World {
    /// Looks at everybody, if it is time.
    pub(super) fn look_around(&mut self) {
        if self.now_us < self.watch.next_us {
            return;
        }
        self.watch.next_us = self.now_us + LOOK_US;
        let heard = self.heard();
        self.watch.pairs.retain(|pair, _| heard.contains_key(pair));
        for (pair, is_down) in heard {
            let (looks, down) = self.watch.pairs.entry(pair).or_default();
            *looks += 1;
            *down += u32::from(is_down);
            let (of, held_down) = (*looks, *down);
            if of < WINDOW_LOOKS {
                continue;
            }
            self.watch.pairs.remove(&pair);
            if held_down > DOWN_LOOKS_MAX && self.watch.found.is_none() {
                let (hearer, member) = pair;
                let what = format!(
                    "n{hearer} held n{member} down at {held_down} of {of} looks, up to {} us, although it and others \
                     heard it all the time",
                    self.now_us
                );
                self.watch.found = Some(what);
            }
        }
    }

    /// The first member that was held down although it was heard, in words.
    pub(crate) fn take_wrongly_down(&mut self) -> Option<String> {
        self.watch.found.take()
    }

    /// Members that several others hear: by hearer and member, and whether the one holds the other down.
    fn heard(&self) -> BTreeMap<(usize, usize), bool> {
        let runs = |server: &Server| server.is_up() && !server.paused && server.doom.is_none();
        let running: Vec<_> = self.servers.iter().map(runs).collect();
        let mut heard = BTreeMap::new();
        for (hearer, server) in self.servers.iter().enumerate().filter(|&(at, _)| running[at]) {
            let Some(node) = &server.node else { continue };
            for view in node.members().into_iter().filter(|view| !view.own) {
                let Some(member) = self.index_of(view.info.member.node) else { continue };
                let is_heard = view.generation > 0 && view.heartbeat_age_ms <= HEARD_MS_MAX;
                if is_heard && running[member] {
                    heard.insert((hearer, member), view.state == MemberState::Down);
                }
            }
        }
        let hearers = |member| heard.keys().filter(|&&(_, heard)| heard == member).count();
        let by_several: Vec<_> =
            (0..self.servers.len()).map(|member| hearers(member) >= HEARERS_MIN).collect();
        heard.retain(|&(_, member), _| by_several[member]);
        heard
    }
}
