//! Whether owners' version vectors are small (REQ-17).

use std::collections::BTreeSet;

use moim_core::object::Object;
use moim_node::keyspace;
use moim_storage::Family;

use super::World;

impl World {
    /// A clock on some disk that is longer than its bound and than the epochs of which versions are held, in words.
    pub(crate) fn long_clock(&self) -> Option<String> {
        let pairs_max = self.common.options.clock_pairs_max;
        self.servers.iter().enumerate().find_map(|(node, server)| {
            server.disk.all(Family::Data).find_map(|(data_key, encoded)| {
                let Ok(Object::Siblings(siblings)) = Object::decode(encoded) else { return None };
                let held: BTreeSet<_> =
                    siblings.versions().iter().map(|held| held.dot.actor).collect();
                let pairs = siblings.context().len();
                let (_, _, key) = keyspace::split_data_key(&data_key)?;
                (pairs > pairs_max.max(held.len())).then(|| {
                    format!(
                        "n{node} holds {key:?} with {pairs} pairs, {} of them in use",
                        held.len()
                    )
                })
            })
        })
    }
}
