//! Counting replies towards a level.

/// What is known about a count so far.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Not enough yet, and still possible.
    Pending,
    /// Enough.
    Reached,
    /// Not enough, and never will be: too many can no longer answer yes.
    Impossible,
}

/// Counts yes and no among a fixed number of voters. Who has voted is the caller's to know: this counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tally {
    voters: u8,
    needed: u8,
    yes: u8,
    no: u8,
}

impl Tally {
    /// Nobody has voted. `needed` may exceed `voters`: the verdict is then `Impossible` from the start.
    pub fn new(voters: u8, needed: u8) -> Self {
        assert!(needed > 0, "a count towards nothing is reached before it begins");
        Self { voters, needed, yes: 0, no: 0 }
    }

    /// One more voter said yes.
    pub fn yes(&mut self) -> Verdict {
        self.yes += 1;
        self.check();
        self.verdict()
    }

    /// One more voter said no, or can no longer answer.
    pub fn no(&mut self) -> Verdict {
        self.no += 1;
        self.check();
        self.verdict()
    }

    /// What is known now.
    pub fn verdict(&self) -> Verdict {
        let open = self.voters - self.yes - self.no;
        match () {
            () if self.yes >= self.needed => Verdict::Reached,
            () if self.yes + open < self.needed => Verdict::Impossible,
            () => Verdict::Pending,
        }
    }

    /// How many have said yes.
    pub fn got(&self) -> u8 {
        self.yes
    }

    /// How many must say yes.
    pub fn needed(&self) -> u8 {
        self.needed
    }

    fn check(self) {
        assert!(self.yes + self.no <= self.voters, "more votes than voters");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The definition, counted anew from the list of votes.
    fn recount(voters: usize, needed: usize, votes: &[bool]) -> Verdict {
        let yes = votes.iter().filter(|&&vote| vote).count();
        let silent = voters - votes.len();
        if yes >= needed {
            Verdict::Reached
        } else if yes + silent >= needed {
            Verdict::Pending
        } else {
            Verdict::Impossible
        }
    }

    proptest! {
        #[test]
        fn verdict_equals_a_dumb_recount(
            votes in prop::collection::vec(any::<bool>(), 0..12),
            silent in 0_usize..4,
            needed in 1_u8..14,
        ) {
            let voters = votes.len() + silent;
            let mut tally = Tally::new(u8::try_from(voters).unwrap(), needed);
            for (at, &vote) in votes.iter().enumerate() {
                let verdict = if vote { tally.yes() } else { tally.no() };
                prop_assert_eq!(verdict, recount(voters, usize::from(needed), &votes[..=at]));
            }
            prop_assert_eq!(tally.verdict(), recount(voters, usize::from(needed), &votes));
        }
    }
}
