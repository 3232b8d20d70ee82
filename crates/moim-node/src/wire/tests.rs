use bytes::Bytes;
use moim_core::clock::VersionVector;
use moim_core::merkle::{GROUPS, Place, Slice};
use moim_core::object::Context;
use moim_core::quorum::Level;
use moim_core::ring::{Member, PartitionCount};
use moim_core::{MachineId, NodeId};
use proptest::prelude::*;

use super::*;
use crate::anti_entropy::{Ask, PageOfEntries, PageOfRest, SliceGroups, SliceSum, Span, Terms};
use crate::api::{
    Action, BatchId, Expiry, Failure, Intent, NotReady, Outcome, Queue, Request, Why,
};
use crate::gossip::word::{Heartbeat, Line, Suspicion, Word};
use crate::membership::{Founding, FoundingStep, MemberInfo, PROTOCOL};
use crate::update::{Condition, ExpiryCondition, Reply, Update, UpdateError};

fn info(node: u64) -> MemberInfo {
    MemberInfo {
        member: Member {
            node: NodeId(node),
            machine: MachineId(node),
            zone: "a".to_owned(),
            dc: "서울".to_owned(),
            weight: 1,
        },
        peer_address: "127.0.0.1:9001".to_owned(),
        redis_address: "127.0.0.1:7001".to_owned(),
        cluster_address: "127.0.0.1:7101".to_owned(),
        http_address: "127.0.0.1:8001".to_owned(),
    }
}

fn updates() -> Vec<Update> {
    let value = Bytes::from_static(b"v");
    let at = Expiry::At(77);
    vec![
        Update::Set { value: value.clone(), expiry: None, condition: Condition::IfMissing },
        Update::Set { value: value.clone(), expiry: Some(at), condition: Condition::IfPresent },
        Update::Delete,
        Update::DeleteIfEqual(value.clone()),
        Update::Append(value.clone()),
        Update::SetRange { offset: 7, patch: value.clone() },
        Update::Add(-1),
        Update::AddFloat(1.5_f64.to_bits()),
        Update::Expire { expiry: Expiry::Never, condition: ExpiryCondition::IfLater },
        Update::GetAndExpire(Expiry::Default),
        Update::ExpireIfEqual { expected: value, expiry: at },
    ]
}

fn failures() -> Vec<Failure> {
    let whys = [
        Why::Unreachable,
        Why::NoAnswer(9),
        Why::ClockSkew(1 << 40),
        Why::Disk,
        Why::Unsupported,
        Why::DiskFull,
        Why::Forgotten,
    ];
    let missing = whys.into_iter().map(|why| (NodeId(7), why)).collect();
    vec![
        Failure::Unavailable {
            intent: Intent::Write,
            level: Level::All,
            needed: 3,
            got: 2,
            missing,
        },
        Failure::Timeout { node: NodeId(1), waited_ms: 5 },
        Failure::Overloaded { queue: Queue::UpdatesPerKey, limit: 3 },
        Failure::Overloaded { queue: Queue::HintStore, limit: 3 },
        Failure::TooLarge { pair_bytes: 10_241, limit_bytes: 10_240 },
        Failure::Conflict { siblings: 2 },
        Failure::NotReady(NotReady::Founding { met: 1, expected: 3 }),
        Failure::NotReady(NotReady::Stopping),
        Failure::NotReady(NotReady::Recalling { awaited: 2 }),
        Failure::NotReady(NotReady::Filling { filled: 7, partitions: 4_096 }),
        Failure::DiskFull { node: NodeId(7), limit_percent: 90 },
        Failure::Stopped("full".to_owned()),
        Failure::NoSuchNamespace,
        Failure::BadContext,
        Failure::Update(UpdateError::NotFinite),
    ]
}

fn hint(op: OpId) -> Message {
    let (key, object) = (Bytes::from_static(b"key"), Bytes::from_static(b"object"));
    Message::Hint { op, namespace: NamespaceId(3), key, owner: NodeId(7), object, budget_ms: 1 }
}

fn messages() -> Vec<Message> {
    let op = OpId(42);
    let namespace = NamespaceId(3);
    let key = Bytes::from_static(b"key");
    let object = Bytes::from_static(b"object");
    let partition = PartitionCount::DEFAULT.partition(4_095).expect("the last one");
    let request = |action| Request {
        namespace,
        key: key.clone(),
        action,
        r: Some(Level::Quorum),
        w: Some(Level::TWO),
        timeout_ms: Some(9),
    };
    let context = Some(Context::Siblings(VersionVector::new()));
    let put = Action::Put { value: "v".into(), expiry: Expiry::At(5), context: context.clone() };
    let mut actions = vec![put, Action::Delete { context }];
    actions.extend(updates().into_iter().map(Action::Update));
    let mut outcomes: Vec<_> = failures().into_iter().map(Outcome::Failed).collect();
    outcomes.push(Outcome::Written {
        context: Context::Lww(Hlc::from_millis(3)),
        version: Hlc::from_millis(3),
    });
    outcomes.push(Outcome::Updated(Reply::Integer(-3)));
    outcomes.push(Outcome::Updated(Reply::Value(None)));
    outcomes.push(Outcome::Updated(Reply::Set { applied: true, previous: Some(key.clone()) }));
    let entries = KeyEntries {
        keys: vec![(key.clone(), Hlc::from_millis(1), true)],
        complete_below: Some(9),
    };
    let mut founding = Founding::new(info(1), 1, PartitionCount::DEFAULT, 3);
    let FoundingStep::Adopt(record) = founding.step() else { panic!("alone, so agreed") };
    let mut all = vec![
        Message::Ping,
        Message::Pong,
        Message::Goodbye,
        Message::Farewell,
        Message::Write { op, namespace, key: key.clone(), object: object.clone(), budget_ms: 1 },
        hint(op),
        Message::WriteReply { op, result: WriteResult::Stored },
        Message::WriteReply { op, result: WriteResult::Superseded(Hlc::from_millis(5)) },
        Message::WriteReply { op, result: WriteResult::Refused(Why::Overloaded) },
        Message::WriteReply { op, result: WriteResult::Refused(Why::HintsFull(1 << 40)) },
        Message::Read { op, namespace, key: key.clone(), want: Want::Object, budget_ms: 2 },
        Message::Read { op, namespace, key: key.clone(), want: Want::Digest, budget_ms: 2 },
        Message::Read { op, namespace, key: key.clone(), want: Want::Hinted, budget_ms: 2 },
        Message::ReadReply { op, result: ReadResult::Object(None), from_disk: false },
        Message::ReadReply { op, result: ReadResult::Object(Some(object)), from_disk: true },
        Message::ReadReply { op, result: ReadResult::Digest(None), from_disk: true },
        Message::ReadReply { op, result: ReadResult::Digest(Some(u128::MAX)), from_disk: false },
        Message::ReadReply { op, result: ReadResult::Refused(Why::NotReady), from_disk: true },
        Message::Keys { op, namespace, partition, from_hash: 1, limit: 10, budget_ms: 7 },
        Message::KeysReply { op, result: Ok(entries) },
        Message::KeysReply { op, result: Err(Why::Namespace) },
        Message::Founding { digest: 8 },
        Message::Complete { until: Hlc::from_millis(1 << 40) },
        Message::Record(record),
        Message::Gossip(vec![]),
        Message::Gossip(gossip_lines()),
        Message::Unsupported { op },
    ];
    all.extend(actions.into_iter().map(|action| Message::Forward {
        op,
        request: Box::new(request(action)),
        budget_ms: 3,
    }));
    all.extend(exchanges());
    all.extend(outcomes.into_iter().map(|outcome| Message::ForwardReply { op, outcome }));
    all
}

fn gossip_lines() -> Vec<Line> {
    let heartbeat = Heartbeat { generation: u64::MAX, counter: 300 };
    let suspects = vec![Suspicion { member: NodeId(9), heartbeat }; 2];
    let floor = Hlc::from_millis(1 << 40);
    let word = Word { heartbeat, run: 7, raised: 1, stopping: true, load: 500, floor, suspects };
    let (member, durable) = (NodeId(3), BatchId(1 << 50));
    let line = Line { member, word, durable, profile: Some(Box::new(info(3))) };
    vec![line.clone(), Line { word: Word::default(), profile: None, ..line }]
}

fn body(frame: &[u8]) -> Bytes {
    Bytes::copy_from_slice(&frame[LENGTH_BYTES..])
}

fn exchanges() -> Vec<Message> {
    let op = OpId(43);
    let partition = PartitionCount::DEFAULT.partition(9).expect("below 4096");
    let namespace = NamespaceId(3);
    let place = Place { partition, namespace };
    let slice = Slice::from_parts(1 << 20, 17).expect("a slice");
    let terms = Terms {
        ring: 1,
        since: Hlc::from_millis(5),
        theirs: Hlc::from_millis(6),
        horizon_ms: 77,
        namespace: Some(namespace),
        filled: true,
    };
    let groups = [7; GROUPS];
    let key = Bytes::from_static(b"key");
    let object = Bytes::from_static(b"object");
    let page = PageOfEntries {
        place,
        slices: vec![slice, Slice::NEVER],
        from_hash: 5,
        below: None,
        entries: vec![1, u64::MAX],
    };
    let asks = [
        Ask::Spans(vec![Span { first: partition, last: partition, sum: 3 }]),
        Ask::Slices(partition, vec![SliceSum { namespace, slice, sum: 9 }]),
        Ask::Leaves(place, vec![(3, groups)]),
        Ask::Entries(page.clone()),
        Ask::Entries(PageOfEntries { below: Some(8), ..page }),
        Ask::Object { namespace, key: key.clone(), object: object.clone() },
        Ask::Done(partition),
        Ask::Rest(PageOfRest {
            from: Bytes::from_static(b"from"),
            last: partition,
            empty: [5 << 60, 1, 0, 7],
        }),
        Ask::Begin,
    ];
    let answers = [
        Ok(Answer::Spans(vec![0, 300], false)),
        Ok(Answer::Slices(vec![SliceGroups { namespace, slice, groups }])),
        Ok(Answer::Leaves(vec![(3, 0x8001)])),
        Ok(Answer::Entries {
            present: vec![0xff, 1],
            objects: vec![(key, object.clone())],
            complete_below: Some(1),
        }),
        Ok(Answer::Object(None)),
        Ok(Answer::Object(Some(object))),
        Ok(Answer::Done),
        Ok(Answer::Rest { objects: Vec::new(), next: None }),
        Ok(Answer::Rest {
            objects: vec![(Bytes::from_static(b"k"), Bytes::from_static(b"o"))],
            next: Some(Bytes::from_static(b"k\0")),
        }),
        Ok(Answer::Passed(99)),
        Ok(Answer::Begun(Hlc::from_millis(7))),
        Err(Why::NotReady),
    ];
    let asks = asks.into_iter().map(|ask| Message::Exchange { op, terms, ask: Box::new(ask) });
    asks.chain(answers.into_iter().map(|result| Message::ExchangeReply { op, result })).collect()
}

#[test]
fn a_frame_that_shares_its_object_is_the_same_frame() {
    for bytes in [SHARED_BYTES_MIN - 1, SHARED_BYTES_MIN, 100_000] {
        let (namespace, key) = (NamespaceId(3), Bytes::from_static(b"key"));
        let object = Bytes::from(vec![7; bytes]);
        let message = Message::Write { op: OpId(5), namespace, key, object, budget_ms: 9 };
        let (mut whole, mut head) = (vec![1, 2, 3], vec![1, 2, 3]);
        encode(&message, &mut whole);
        let Message::Write { object, .. } = &message else { unreachable!() };
        if encode_front(&message, &mut head) {
            assert_eq!([&head[..], &object[..]].concat(), whole);
        } else {
            assert!(bytes < SHARED_BYTES_MIN && head == [1, 2, 3]);
        }
    }
}

#[test]
fn plain_answers_are_what_they_are_otherwise() {
    let mut plain = 0;
    for message in messages() {
        let mut frame = Vec::new();
        encode(&message, &mut frame);
        let body = body(&frame);
        if let Some(answer) = plain_answer(&body) {
            plain += 1;
            assert_eq!(Ok(answer), decode(body.clone()));
        }
        // Nothing shorter or longer is one.
        let longer = [&body[..], &[0]].concat();
        assert!((0..body.len()).all(|end| plain_answer(&body[..end]).is_none()), "{message:?}");
        assert_eq!(plain_answer(&longer), None, "{message:?}");
    }
    assert_eq!(plain, 2, "a write that is stored, a digest");
}

#[test]
fn every_message_round_trips() {
    for message in messages() {
        let mut frame = Vec::new();
        encode(&message, &mut frame);
        let length = u32::from_be_bytes(frame[..LENGTH_BYTES].try_into().unwrap());
        assert_eq!(length as usize, frame.len() - LENGTH_BYTES);
        assert_eq!(decode(body(&frame)), Ok(message));
    }
}

#[test]
fn hello_round_trips_and_is_told_from_other_frames() {
    for cluster in [None, Some(5)] {
        let hello = Hello { protocol: PROTOCOL, cluster, settings: 1, run: 2, info: info(3) };
        let mut frame = Vec::new();
        encode_hello(&hello, &mut frame);
        assert_eq!(decode_hello(body(&frame)), Ok(hello));
    }
    let mut ping = Vec::new();
    encode(&Message::Ping, &mut ping);
    assert!(decode_hello(body(&ping)).is_err());
}

#[test]
fn a_gossip_line_is_not_longer_than_it_says() {
    for line in gossip_lines() {
        let (bytes, mut frame) = (line.bytes(), Vec::new());
        gossip::put_lines(&mut frame, &[line]);
        assert!(frame.len() <= bytes + 1, "{} bytes instead of {bytes}", frame.len());
    }
}

#[test]
fn a_flipped_bit_is_noticed() {
    for message in messages() {
        let mut frame = Vec::new();
        encode(&message, &mut frame);
        for at in LENGTH_BYTES..frame.len() {
            frame[at] ^= 0x10;
            assert!(decode(body(&frame)).is_err(), "{message:?} at {at}");
            frame[at] ^= 0x10;
        }
    }
}

#[test]
fn an_unknown_message_keeps_its_operation() {
    let mut frame = Vec::new();
    framed(&mut frame, checksum, |out| out.extend([0x7f, 0, 0, 0, 0, 0, 0, 0, 9, 1, 2, 3]));
    assert_eq!(decode(body(&frame)), Ok(Message::Unknown { op: Some(OpId(9)) }));
}

proptest! {
    #[test]
    fn arbitrary_fields_never_panic(kind: u8, fields: Vec<u8>) {
        let mut frame = Vec::new();
        framed(&mut frame, checksum, |out| { out.push(kind); out.extend(&fields); });
        drop(decode(body(&frame)));
        drop(decode_hello(body(&frame)));
        drop(decode(Bytes::from(fields)));
    }
}
