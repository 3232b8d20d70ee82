use moim_core::ring::Member as Placed;
use moim_core::{MachineId, NodeId};
use proptest::prelude::*;

use super::word::{Heartbeat, Line, Suspicion, Word};
use super::*;
use crate::views::MemberState;

const START_MS: u64 = 1_000_000;

/// Node n is on machine n, but that of 10 and above on machine n - 10.
fn info(node: u64) -> MemberInfo {
    let member = Placed {
        node: NodeId(node),
        machine: MachineId(node % 10),
        zone: "z".to_owned(),
        dc: "dc".to_owned(),
        weight: 1,
    };
    let address = |port: u64| format!("10.0.0.{node}:{port}");
    MemberInfo {
        member,
        peer_address: address(1),
        redis_address: address(2),
        cluster_address: address(3),
        http_address: address(4),
    }
}

fn gossip(own: u64, members: &[u64]) -> Gossip {
    let mut gossip = Gossip::new(info(own), 5, own, own, &Options::default());
    let members: Vec<_> = members.iter().map(|&node| info(node)).collect();
    gossip.set_members(&members, START_MS);
    gossip
}

fn line(node: u64, counter: u64, suspects: &[(u64, u64)]) -> Line {
    let suspicion = |&(node, counter): &(u64, u64)| Suspicion {
        member: NodeId(node),
        heartbeat: Heartbeat { generation: 5, counter },
    };
    let word = Word {
        heartbeat: Heartbeat { generation: 5, counter },
        suspects: suspects.iter().map(suspicion).collect(),
        ..Word::default()
    };
    Line { member: NodeId(node), word, durable: BatchId(counter), profile: None }
}

fn talking(_node: NodeId) -> Reach {
    Reach::Talking
}

/// Everybody in `nodes` beats each second until `from_s + seconds`, and then nobody judges yet.
fn beat(gossip: &mut Gossip, nodes: &[u64], seconds: std::ops::Range<u64>) {
    for second in seconds {
        let lines: Vec<_> = nodes.iter().map(|&node| line(node, second, &[])).collect();
        let now_ms = START_MS + second * 1_000;
        gossip.hear(&lines, now_ms);
        gossip.judge(now_ms, []);
    }
}

fn states(gossip: &Gossip, nodes: &[u64]) -> Vec<MemberState> {
    nodes.iter().map(|&node| gossip.state(NodeId(node))).collect()
}

#[test]
fn one_reporter_makes_suspect_and_two_make_down() {
    use MemberState::{Alive, Down, Suspect};
    let mut gossip = gossip(1, &[1, 2, 3, 4]);
    beat(&mut gossip, &[2, 3, 4], 0..20);
    assert_eq!(states(&gossip, &[1, 2, 3, 4]), [Alive; 4]);
    beat(&mut gossip, &[2, 3], 20..24);
    assert_eq!(states(&gossip, &[2, 3, 4]), [Alive, Alive, Suspect], "this node alone");
    gossip.hear(&[line(2, 24, &[(4, 18)])], START_MS + 24_000);
    assert_eq!(gossip.state(NodeId(4)), Suspect, "another heartbeat is another suspicion");
    gossip.hear(&[line(2, 25, &[(4, 19)])], START_MS + 25_000);
    assert_eq!(gossip.state(NodeId(4)), Down);
    let reporters = gossip.views(START_MS + 25_000).remove(3).reporters;
    assert_eq!(reporters, [NodeId(1), NodeId(2)]);
    gossip.hear(&[line(2, 26, &[])], START_MS + 26_000);
    assert_eq!(gossip.state(NodeId(4)), Down, "until the heartbeat is outdone");
    gossip.hear(&[line(4, 20, &[])], START_MS + 26_000);
    assert_eq!(gossip.state(NodeId(4)), Alive, "void at the next heartbeat");
}

#[test]
fn two_nodes_of_a_machine_are_one_reporter() {
    let mut gossip = gossip(1, &[1, 2, 3, 11]);
    beat(&mut gossip, &[2, 3, 11], 0..20);
    beat(&mut gossip, &[2, 11], 20..24);
    gossip.hear(&[line(11, 24, &[(3, 19)])], START_MS + 24_000);
    assert_eq!(gossip.state(NodeId(3)), MemberState::Suspect);
    gossip.hear(&[line(2, 24, &[(3, 19)])], START_MS + 24_000);
    assert_eq!(gossip.state(NodeId(3)), MemberState::Down);
}

#[test]
fn the_last_two_need_one_reporter() {
    let mut gossip = gossip(1, &[1, 2]);
    beat(&mut gossip, &[2], 0..20);
    beat(&mut gossip, &[], 20..24);
    assert_eq!(gossip.state(NodeId(2)), MemberState::Down);
    let mut three = self::gossip(1, &[1, 2, 3]);
    beat(&mut three, &[2, 3], 0..20);
    beat(&mut three, &[], 20..24);
    assert_eq!(states(&three, &[2, 3]), [MemberState::Down; 2], "no other witness lives");
}

#[test]
fn reports_of_the_suspected_do_not_count() {
    let mut gossip = gossip(1, &[1, 2, 3, 4]);
    beat(&mut gossip, &[2, 3, 4], 0..19);
    gossip.hear(&[line(2, 19, &[(4, 19)]), line(3, 19, &[]), line(4, 19, &[])], START_MS + 19_000);
    assert_eq!(gossip.state(NodeId(4)), MemberState::Suspect);
    beat(&mut gossip, &[3, 4], 20..24);
    gossip.hear(&[line(4, 24, &[])], START_MS + 24_000);
    assert_eq!(states(&gossip, &[2, 4]), [MemberState::Suspect, MemberState::Alive]);
}

#[test]
fn a_pause_of_this_node_is_nobody_elses_silence() {
    let mut gossip = gossip(1, &[1, 2]);
    beat(&mut gossip, &[2], 0..20);
    let resumed_ms = START_MS + 100_000;
    gossip.pause(80_000, resumed_ms);
    assert_eq!(gossip.judge(resumed_ms, []), 0);
    assert_eq!(gossip.judge(resumed_ms + 1_200, []), 0, "the gap was taken out");
    assert_eq!(gossip.judge(resumed_ms + 3_000, []), 1, "silence after it counts");
    assert_eq!(gossip.state(NodeId(2)), MemberState::Down);
}

#[test]
fn a_lost_connection_makes_suspicion_quick_but_not_alone() {
    let mut gossip = gossip(1, &[1, 2, 3]);
    beat(&mut gossip, &[2, 3], 0..20);
    let lost = [NodeId(2)];
    let last_ms = START_MS + 19_000;
    assert_eq!(gossip.judge(last_ms + 1_100, lost), 0, "its heartbeat may still come");
    assert_eq!(gossip.judge(last_ms + 1_500, lost), 1);
    assert_eq!(gossip.state(NodeId(2)), MemberState::Suspect);
}

#[test]
fn a_member_that_says_goodbye_is_stopping() {
    let mut gossip = gossip(1, &[1, 2]);
    let mut goodbye = line(2, 1, &[]);
    goodbye.word.stopping = true;
    gossip.hear(&[goodbye], START_MS);
    assert_eq!(gossip.state(NodeId(2)), MemberState::Stopping);
}

#[test]
fn the_floor_is_the_lowest_and_unknown_members_make_it_zero() {
    let members = || [1, 2, 3].map(NodeId);
    let mut gossip = gossip(1, &[1, 2, 3]);
    let own = Own { floor: Hlc::from_millis(70), ..Own::default() };
    gossip.beat(own, START_MS, talking, &Options::default());
    let word = |node: u64, floor_ms: u64| {
        let mut line = line(node, 1, &[]);
        line.word.floor = Hlc::from_millis(floor_ms);
        line
    };
    gossip.hear(&[word(2, 50)], START_MS);
    assert_eq!(gossip.floor(members()), Hlc::default());
    gossip.hear(&[word(3, 60)], START_MS);
    assert_eq!(gossip.floor(members()), Hlc::from_millis(50));
    assert_eq!(gossip.floor([NodeId(1)]), Hlc::from_millis(70));
}

#[test]
fn a_node_below_what_others_heard_is_told() {
    let mut wiped = gossip(2, &[1, 2]);
    let mut other = gossip(1, &[1, 2]);
    other.hear(&[line(2, 40, &[])], START_MS);
    let own = Own { durable: BatchId(3), ..Own::default() };
    for letter in wiped.beat(own, START_MS, talking, &Options::default()) {
        other.hear(&letter.lines, START_MS);
    }
    assert_eq!(wiped.heard_durable(NodeId(2)), None);
    for letter in other.greet(NodeId(2), &Options::default()) {
        wiped.hear(&letter.lines, START_MS);
    }
    assert_eq!(wiped.heard_durable(NodeId(2)), Some(BatchId(40)));
    assert_eq!(other.heard_durable(NodeId(2)), Some(BatchId(40)));
}

#[test]
fn a_left_over_word_of_an_earlier_run_is_outdone() {
    let mut gossip = gossip(1, &[1, 2]);
    let mut old = line(1, 77, &[]);
    old.word.heartbeat.generation = 900;
    old.word.run = 0xdead;
    assert!(gossip.hear(&[old.clone()], START_MS).raised);
    assert_eq!(gossip.heartbeat(), Heartbeat { generation: 901, counter: 0 });
    assert!(!gossip.hear(&[old], START_MS).raised);
    assert!(!gossip.has_rival());
}

#[test]
fn of_two_processes_with_one_id_the_later_gives_way_without_ever_meeting() {
    let mut third = gossip(2, &[1, 2]);
    let process = |run: u64, generation: u64| {
        let mut gossip = Gossip::new(info(1), generation, run << 32, run, &Options::default());
        gossip.set_members(&[info(1), info(2)], START_MS);
        gossip
    };
    let (mut original, mut copy) = (process(7, 1_000), process(9, 2_000));
    let mut gave_way = None;
    for round in 0..20 {
        let now_ms = START_MS + round * 1_000;
        for (name, process) in [("original", &mut original), ("copy", &mut copy)] {
            for letter in process.beat(Own::default(), now_ms, talking, &Options::default()) {
                third.hear(&letter.lines, now_ms);
            }
            for letter in third.beat(Own::default(), now_ms, talking, &Options::default()) {
                let news = process.hear(&letter.lines, now_ms);
                if let Some(duplicate) = news.duplicate {
                    gave_way.get_or_insert((name, duplicate));
                }
            }
        }
        if gave_way.is_some() {
            break;
        }
    }
    let (name, duplicate) = gave_way.expect("one of them gives way");
    assert_eq!(name, "copy");
    assert!(duplicate.to_string().contains("a data directory was copied"), "{duplicate}");
}

#[test]
fn a_member_that_moved_is_found_through_others() {
    let mut gossip = gossip(1, &[1, 2, 3]);
    let moved = |generation: u64, address: &str| {
        let mut line = line(3, 1, &[]);
        line.word.heartbeat.generation = generation;
        line.profile = Some(Box::new(MemberInfo { peer_address: address.to_owned(), ..info(3) }));
        line
    };
    let news = gossip.hear(&[moved(5, "10.9.9.9:1")], START_MS);
    assert_eq!(news.moved[0].peer_address, "10.9.9.9:1");
    let news = gossip.hear(&[moved(4, "10.8.8.8:1"), moved(5, "10.7.7.7:1")], START_MS);
    assert_eq!(news, News::default(), "an earlier generation and a repetition change nothing");
    let news = gossip.hear(&[moved(6, "10.9.9.9:1")], START_MS);
    assert_eq!(news, News::default(), "at the same address as before");
}

#[test]
fn lists_are_sent_in_messages_of_bounded_size() {
    let nodes: Vec<u64> = (100..400).collect();
    let mut gossip = gossip(100, &nodes);
    let lines: Vec<_> = nodes.iter().map(|&node| line(node, 1, &[(101, 1), (102, 1)])).collect();
    gossip.hear(&lines, START_MS);
    let options = Options { gossip_message_bytes_max: 4_096, ..Options::default() };
    let letters = gossip.beat(Own::default(), START_MS, talking, &options);
    let targets: BTreeSet<_> = letters.iter().map(|letter| letter.to).collect();
    assert!((3..=4).contains(&targets.len()), "{targets:?}");
    let mut told = 0;
    for letter in letters {
        told += usize::from(letter.to == *targets.first().expect("some")) * letter.lines.len();
        let mut frame = Vec::new();
        crate::wire::encode(&crate::message::Message::Gossip(letter.lines), &mut frame);
        assert!(frame.len() <= 4_096 + 64, "{} bytes", frame.len());
    }
    assert!(told >= nodes.len(), "{told} lines");
}

#[test]
fn a_word_names_those_first_on_whom_there_is_no_verdict() {
    let nodes: Vec<u64> = (1..=9).collect();
    let mut gossip = gossip(1, &nodes);
    beat(&mut gossip, &nodes[1..], 0..20);
    beat(&mut gossip, &[2, 3, 4], 20..24);
    let report = [(5, 19), (6, 19), (7, 19)];
    gossip.hear(&[line(2, 24, &report), line(3, 24, &[]), line(4, 24, &[])], START_MS + 24_000);
    let options = Options { gossip_suspects_max: 3, ..Options::default() };
    for second in 24..30 {
        gossip.beat(Own::default(), START_MS + second * 1_000, talking, &options);
        let named: Vec<_> =
            gossip.word.suspects.iter().map(|suspicion| suspicion.member.0).collect();
        assert_eq!(named.len(), 3);
        assert!(named.contains(&8) && named.contains(&9), "{named:?}");
    }
}

fn any_line() -> impl Strategy<Value = Line> {
    let heartbeat = (4_u64..7, 0_u64..4);
    let suspects = prop::collection::vec((2_u64..6, 0_u64..3), 0..3);
    (2_u64..6, heartbeat, 0_u32..2, 0_u64..9, suspects).prop_map(
        |(node, (generation, counter), run, durable, suspects)| {
            let mut line = line(node, counter, &suspects);
            line.word.heartbeat.generation = generation;
            line.word.run = run;
            line.durable = BatchId(durable);
            line
        },
    )
}

/// What a node knows after hearing these lists, without when it heard them.
fn known(lists: &[&[Line]]) -> Vec<Line> {
    let mut gossip = gossip(1, &[1, 2, 3, 4, 5]);
    for list in lists {
        gossip.hear(list, START_MS);
    }
    gossip.members.values().map(|member| member.line(false)).collect()
}

proptest! {
    #[test]
    fn lists_join(a in prop::collection::vec(any_line(), 0..12),
                  b in prop::collection::vec(any_line(), 0..12),
                  c in prop::collection::vec(any_line(), 0..12)) {
        let all = known(&[&a, &b, &c]);
        prop_assert_eq!(&known(&[&c, &a, &b]), &all, "commutative");
        prop_assert_eq!(&known(&[&a, &b, &c, &b, &a]), &all, "idempotent");
        let joined = known(&[&b, &c]);
        prop_assert_eq!(&known(&[&a, &joined]), &all, "associative");
    }

    #[test]
    fn who_is_not_looked_at_would_not_have_changed(
        lists in prop::collection::vec((prop::collection::vec(any_line(), 0..4), 0_u64..4_000), 1..30),
    ) {
        let mut gossip = gossip(1, &[1, 2, 3, 4, 5]);
        let mut now_ms = START_MS;
        for (list, after_ms) in lists {
            now_ms += after_ms;
            gossip.hear(&list, now_ms);
            let doubtful = gossip.members.iter().filter(|(_, member)| member.is_doubtful());
            let doubtful: BTreeSet<_> = doubtful.map(|(&node, _)| node).collect();
            prop_assert_eq!(&gossip.doubts, &doubtful);
            if doubtful.is_empty() {
                let heard = states(&gossip, &[2, 3, 4, 5]);
                gossip.assess(now_ms);
                prop_assert_eq!(states(&gossip, &[2, 3, 4, 5]), heard, "as if all had been assessed");
            }
            gossip.judge(now_ms, []);
            let is_silent = |member: &Member| member.is_suspicious(now_ms, false);
            prop_assert!(gossip.members.values().all(|member| member.suspected == is_silent(member)));
        }
    }

    #[test]
    fn strange_lists_do_no_harm(lines in prop::collection::vec(any_line(), 0..20),
                                generation: u64, counter: u64, at_ms in 0_u64..100_000) {
        let mut gossip = gossip(1, &[1, 2, 3]);
        let mut lines = lines;
        for line in &mut lines {
            line.word.heartbeat = Heartbeat { generation, counter };
            line.member = NodeId(line.member.0 - 1);
        }
        gossip.hear(&lines, START_MS + at_ms);
        gossip.judge(START_MS + at_ms, []);
        gossip.beat(Own::default(), START_MS + at_ms, talking, &Options::default());
        gossip.report(Own::default(), talking, &Options::default());
        prop_assert_eq!(gossip.views(START_MS + at_ms).len(), 3);
    }
}
