//! New versions in `siblings` namespaces. They are made at a replica, because a dot needs the object at hand (INV-3);
//! then the whole object goes to the other owners, who join it. A node that stands in for owners makes them as well, of
//! what it keeps for them: its dots are of an epoch that they do not know, so nothing that they hold is lost.

use moim_core::NodeId;
use moim_core::clock::{Epoch, VersionVector};
use moim_core::object::{Content, Context, Object, SIBLINGS_MAX, Siblings, Version};

use super::{Admitted, Fresh, Job, Origin, seen_by, unavailable};
use crate::api::{BatchId, Failure, Intent, Outcome, Queue, Why};
use crate::node::Node;
use crate::replica::{Target, Work};
use crate::store::Stored;

/// A version to be made of the object at hand.
#[derive(Debug)]
pub(crate) struct Mint {
    pub(crate) target: Target,
    pub(crate) origin: Origin,
    admitted: Admitted,
    fresh: Fresh,
    seen: VersionVector,
}

impl Node {
    /// Makes a version that replaces what `context` covers.
    pub(crate) fn begin_mint(&mut self, job: Job, fresh: Fresh, context: Option<Context>) {
        match seen_by(context) {
            Ok(seen) => self.work(Work::Mint(Box::new(Mint::new(job, fresh, seen)))),
            Err(failure) => self.finish(job.origin, Outcome::Failed(failure)),
        }
    }

    /// Deletes what `context` covers, or without one what a read at R sees.
    pub(crate) fn begin_mint_of_deletion(&mut self, job: Job, context: Option<Context>) {
        if context.is_some() {
            return self.begin_mint(job, Fresh::deletion(), context);
        }
        let admitted = job.admitted.clone();
        let mint = Mint::new(job, Fresh::deletion(), VersionVector::new());
        self.begin_read(Job { origin: Origin::DeleteOfRead(Box::new(mint)), admitted });
    }

    /// A deletion has read what it deletes.
    pub(crate) fn delete_what_was_read(&mut self, mut mint: Mint, object: Option<&Object>) {
        match object.map(Object::context) {
            Some(Context::Siblings(seen)) => mint.seen = seen,
            Some(Context::Lww(_)) | None => {}
        }
        self.work(Work::Mint(Box::new(mint)));
    }

    /// Makes the version, keeps it here, and sends the object to the other owners.
    pub(crate) fn mint(&mut self, mint: Mint, held: Option<Stored>, _batch: BatchId) {
        let Mint { origin, admitted, fresh, seen, .. } = mint;
        let mut siblings = match held.map(|held| held.object) {
            None => Siblings::new(),
            Some(Object::Siblings(siblings)) => siblings,
            Some(Object::Lww(_)) => {
                return self.finish(origin, Outcome::Failed(Failure::BadContext));
            }
        };
        let survivors =
            siblings.versions().iter().filter(|version| !seen.contains(version.dot)).count();
        if survivors >= SIBLINGS_MAX {
            let siblings = u32::try_from(survivors).unwrap_or(u32::MAX);
            return self.finish(origin, Outcome::Failed(Failure::Conflict { siblings }));
        }
        let pairs_max = self.options.clock_pairs_refused;
        if siblings.context().len() >= pairs_max && !seen.descends(siblings.context()) {
            let failure = Failure::Overloaded { queue: Queue::ClockPairs, limit: pairs_max as u64 };
            return self.finish(origin, Outcome::Failed(failure));
        }
        self.clock.observe(siblings.written());
        let written = self.stamp();
        let run = self.run;
        let serial = self.next_serial();
        let dot = siblings.next_dot(self.info.member.node, run, &seen, || Epoch { run, serial });
        match fresh.content {
            Content::Value(_) => {
                let created_ms = created_ms(&siblings, &seen, self.now.wall_ms)
                    .unwrap_or_else(|| written.millis());
                let Fresh { content, expires_ms } = fresh;
                siblings.put(Version { written, dot, created_ms, expires_ms, content }, &seen);
            }
            Content::Deleted | Content::Dropped => siblings.delete(dot, written, &seen),
        }
        let mut context = seen;
        context.insert(dot);
        let stored = self.pruned(&admitted.target, Stored::new(Object::Siblings(siblings)));
        // Nothing is left that a pruned pair could cover; handed back, it would only come in again.
        if let Object::Siblings(kept) = &stored.object {
            context.retain(|actor| kept.context().get(actor) > 0);
        }
        let away = match self.may_keep(&admitted, &stored) {
            Ok(away) => away,
            Err(failure) => return self.finish(origin, failure),
        };
        let batch = self.keep(admitted.target.clone(), stored.clone(), away);
        self.begin_write(Job { origin, admitted }, stored, Context::Siblings(context), Some(batch));
    }

    /// Whether this node may keep what it makes: as an owner, or as a stand-in with room for it. Returns the owner to
    /// stand in for.
    fn may_keep(
        &mut self,
        admitted: &Admitted,
        stored: &Stored,
    ) -> Result<Option<NodeId>, Outcome> {
        let own = self.info.member.node;
        if admitted.owners.contains(&own) {
            return Ok(None);
        }
        let away: Vec<_> =
            admitted.owners.iter().copied().filter(|&owner| !self.can_ask(owner)).collect();
        let mut missing: Vec<_> = away.iter().map(|&owner| (owner, self.why_not(owner))).collect();
        if admitted.sloppy {
            match self.hint_room(&admitted.target, stored.encoded.len()) {
                Ok(()) => return Ok(away.first().copied()),
                Err(Why::HintsFull(limit)) => {
                    let failure = Failure::Overloaded { queue: Queue::HintStore, limit };
                    return Err(Outcome::Failed(failure));
                }
                Err(why) => missing.push((own, why)),
            }
        }
        let counts = (admitted.needs_w(), 0);
        Err(unavailable(Intent::Write, admitted.w, counts, missing.into_iter()))
    }

    /// The object at hand could not be read.
    pub(crate) fn mint_failed(&mut self, mint: Mint, why: Why) {
        let own = self.info.member.node;
        let needed = mint.admitted.needs_w();
        let outcome =
            unavailable(Intent::Write, mint.admitted.w, (needed, 0), std::iter::once((own, why)));
        self.finish(mint.origin, outcome);
    }

    /// The serial of a fresh epoch of this run.
    fn next_serial(&mut self) -> u32 {
        self.epoch_serial += 1;
        self.epoch_serial
    }
}

impl Mint {
    /// When its client stops waiting, on the monotonic clock.
    pub(crate) fn until_mono_ms(&self) -> u64 {
        self.admitted.deadline_mono_ms
    }

    /// How long its client has waited.
    pub(crate) fn waited_ms(&self, mono_ms: u64) -> u32 {
        let waited_ms = mono_ms.saturating_sub(self.admitted.started_mono_ms);
        u32::try_from(waited_ms).unwrap_or(u32::MAX)
    }

    fn new(job: Job, fresh: Fresh, seen: VersionVector) -> Self {
        let Job { origin, admitted } = job;
        Self { target: admitted.target.clone(), origin, admitted, fresh, seen }
    }
}

/// A version that replaces live ones continues the life of the oldest.
fn created_ms(siblings: &Siblings, seen: &VersionVector, wall_ms: u64) -> Option<u64> {
    let replaced = siblings
        .versions()
        .iter()
        .filter(|version| seen.contains(version.dot) && version.is_live(wall_ms));
    replaced.map(|version| version.created_ms).min()
}
