//! What a replica does not take: versions that it would know, had they not been removed and forgotten.

use moim_core::object::Object;

use crate::api::Why;
use crate::node::Node;
use crate::replica::Target;
use crate::store::Stored;

/// Whether an object may be joined into the local copy.
#[derive(Debug)]
pub(crate) enum Admission {
    /// Join this: what came, or in `siblings` what came without versions that are gone.
    Join(Stored),
    /// It says only what is known anyway: that something old is gone.
    Known,
    /// Nothing of it is to be taken.
    Refuse(Why),
}

impl Node {
    /// Judges an incoming object by what this node is complete up to.
    pub(crate) fn admit_incoming(
        &mut self,
        target: &Target,
        held: Option<&Object>,
        incoming: Stored,
    ) -> Admission {
        // Looked up only where it decides: it lies far from everything else that a write touches.
        let complete = || self.complete(target.partition);
        if self.options.mutation == Some(crate::options::Mutation::RetireTombstonesByAge) {
            return Admission::Join(incoming);
        }
        match (&incoming.object, held) {
            (Object::Lww(version), None) if version.written <= complete() => {
                if version.is_live(self.now.wall_ms) {
                    self.refuse_forgotten()
                } else {
                    Admission::Known
                }
            }
            (Object::Siblings(siblings), held) => {
                let complete = complete();
                let known = match held {
                    Some(Object::Siblings(known)) => Some(known),
                    _ => None,
                };
                let (kept, any) = siblings.without_forgotten(known, complete);
                let nothing_new = held.is_none() && kept.versions().is_empty();
                match () {
                    () if nothing_new && any => self.refuse_forgotten(),
                    () if nothing_new && siblings.written() <= complete => Admission::Known,
                    () if any => {
                        self.figures.forgotten_refused += 1;
                        Admission::Join(Stored::new(Object::Siblings(kept)))
                    }
                    () => Admission::Join(incoming),
                }
            }
            _ => Admission::Join(incoming),
        }
    }

    fn refuse_forgotten(&mut self) -> Admission {
        self.figures.forgotten_refused += 1;
        Admission::Refuse(Why::Forgotten)
    }
}
