//! What clients saw, in order.

use std::collections::BTreeMap;
use std::time::{SystemTime, UNIX_EPOCH};

use super::STRICT;

/// What happened to a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(in super::super) enum Kind {
    /// A write was acknowledged.
    Acknowledged,
    /// A value was read that had been acknowledged before.
    Read,
    /// It was not there.
    Lost,
    /// A command failed.
    Failed,
    /// A command that reads and writes said what it must.
    Did,
    /// It said something else.
    Wrong,
    /// No connection could be made: nothing was sent, and another node is tried.
    Moved,
}

/// Something that happened to a client.
#[derive(Clone, Debug)]
pub(in super::super) struct Event {
    pub(in super::super) kind: Kind,
    /// Milliseconds since 1970.
    pub(in super::super) at_ms: u64,
    /// The client: its library and number.
    pub(in super::super) client: String,
    pub(in super::super) key: String,
    pub(in super::super) what: String,
}

impl Event {
    /// Whether it happened where nobody stands in for an owner.
    pub(super) fn is_strict(&self) -> bool {
        self.client.starts_with(STRICT)
    }
}

/// All that clients saw so far.
#[derive(Clone, Debug, Default)]
pub(in super::super) struct Diary {
    pub(in super::super) events: Vec<Event>,
}

impl Diary {
    /// Adds what a program has told. Its last line may be cut short.
    pub(super) fn add(&mut self, library: &str, told: &str) {
        let whole = told.rfind('\n').map_or("", |end| &told[..end]);
        self.events.extend(whole.lines().filter_map(|line| event(library, line)));
    }

    /// Keys of acknowledged writes.
    pub(in super::super) fn acknowledged(&self) -> Vec<&str> {
        let written = self.of(Kind::Acknowledged, 0, u64::MAX);
        written.filter(|event| !event.is_strict()).map(|event| event.key.as_str()).collect()
    }

    /// Reads that found what was acknowledged where nobody stands in.
    pub(in super::super) fn strictly_read(&self) -> usize {
        self.of(Kind::Read, 0, u64::MAX).filter(|event| event.is_strict()).count()
    }

    /// Events of a kind from one moment until before another.
    pub(in super::super) fn of(
        &self,
        kind: Kind,
        from_ms: u64,
        until_ms: u64,
    ) -> impl Iterator<Item = &Event> {
        let during = move |event: &&Event| (from_ms..until_ms).contains(&event.at_ms);
        self.events.iter().filter(move |event| event.kind == kind).filter(during)
    }

    /// How many there are of a kind in a time.
    pub(in super::super) fn count(&self, kind: Kind, from_ms: u64, until_ms: u64) -> usize {
        self.of(kind, from_ms, until_ms).count()
    }

    /// The longest time between acknowledgements of one client that overlaps this time, in milliseconds.
    pub(in super::super) fn pause_ms_max(&self, from_ms: u64, until_ms: u64) -> u64 {
        let mut last = BTreeMap::<&str, u64>::new();
        let mut longest = 0;
        for event in self.events.iter().filter(|event| event.kind == Kind::Acknowledged) {
            if let Some(before) = last.insert(&event.client, event.at_ms)
                && before < until_ms
                && event.at_ms >= from_ms
            {
                longest = longest.max(event.at_ms.saturating_sub(before));
            }
        }
        longest
    }

    /// How often each kind of words was said, numbers taken as equal; the commonest first.
    pub(in super::super) fn words(
        &self,
        kind: Kind,
        from_ms: u64,
        until_ms: u64,
    ) -> Vec<(String, usize)> {
        let mut counted = BTreeMap::<String, usize>::new();
        for event in self.of(kind, from_ms, until_ms) {
            let library = event.client.split('#').next().unwrap_or_default();
            *counted.entry(format!("{library}: {}", gist(&event.what))).or_default() += 1;
        }
        let mut counted: Vec<_> = counted.into_iter().collect();
        counted.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
        counted
    }
}

/// Now, as clients write it down.
pub(in super::super) fn now_ms() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(now.as_millis()).unwrap_or(u64::MAX)
}

fn event(library: &str, line: &str) -> Option<Event> {
    let mut words = line.splitn(5, ' ');
    let kind = match words.next()? {
        "ack" => Kind::Acknowledged,
        "read" => Kind::Read,
        "lost" => Kind::Lost,
        "did" => Kind::Did,
        "wrong" => Kind::Wrong,
        "fail" => Kind::Failed,
        "moved" => Kind::Moved,
        _ => return None,
    };
    let at_ms = words.next()?.parse().ok()?;
    let client = format!("{library}#{}", words.next()?);
    let key = words.next()?.to_owned();
    Some(Event { kind, at_ms, client, key, what: words.next().unwrap_or_default().to_owned() })
}

/// Words without what differs each time.
fn gist(words: &str) -> String {
    const LETTERS_MAX: usize = 110;
    let mut gist = String::new();
    for letter in words.chars().take(LETTERS_MAX) {
        match letter {
            '0'..='9' if gist.ends_with('#') => {}
            '0'..='9' => gist.push('#'),
            letter => gist.push(letter),
        }
    }
    gist
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_told_is_understood() {
        let mut diary = Diary::default();
        diary
            .add("py", "ack 100 0 a:0 \nfail 150 1 b:0 node 2: Gone: 12 ms\nack 400 0 a:1 \nack 9");
        assert_eq!(diary.acknowledged(), ["a:0", "a:1"]);
        assert_eq!(diary.count(Kind::Failed, 100, 150), 0);
        assert_eq!(diary.count(Kind::Failed, 150, 151), 1);
        assert_eq!(diary.words(Kind::Failed, 0, 999), [("py: node #: Gone: # ms".to_owned(), 1)]);
        assert_eq!((diary.pause_ms_max(0, 999), diary.pause_ms_max(401, 999)), (300, 0));
    }
}
