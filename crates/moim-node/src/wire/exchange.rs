//! Bytes of anti-entropy: see [`crate::anti_entropy`].

use bytes::{BufMut, Bytes};
use moim_core::NamespaceId;
use moim_core::clock::Hlc;
use moim_core::codec::{DecodeError, Put, Reader};
use moim_core::merkle::{GROUPS, Place, Slice};
use moim_core::ring::Partition;

use crate::anti_entropy::{
    Answer, Ask, PageOfEntries, PageOfRest, SliceGroups, SliceSum, Span, Terms,
};
use crate::keyspace;

/// Anything that a peer may send in one list.
const LIST_MAX: usize = 1 << 17;

pub(super) fn put_terms(out: &mut Vec<u8>, terms: &Terms) {
    out.put_u64(terms.ring);
    out.put_u64(terms.since.as_u64());
    out.put_u64(terms.theirs.as_u64());
    out.put_u64(terms.horizon_ms);
    out.put_u8(u8::from(terms.filled) | (u8::from(terms.namespace.is_some()) << 1));
    out.put_u32(terms.namespace.map_or(0, |namespace| namespace.0));
}

pub(super) fn terms(reader: &mut Reader) -> Result<Terms, DecodeError> {
    let ring = reader.u64("ring version")?;
    let since = Hlc::from_u64(reader.u64("start of the comparison")?);
    let theirs = Hlc::from_u64(reader.u64("start of the comparison")?);
    let horizon_ms = reader.u64("horizon")?;
    let flags = reader.u8("terms")?;
    let namespace = NamespaceId(reader.u32("namespace")?);
    let namespace = (flags & 2 != 0).then_some(namespace);
    Ok(Terms { ring, since, theirs, horizon_ms, namespace, filled: flags & 1 != 0 })
}

pub(super) fn put_ask(out: &mut Vec<u8>, ask: &Ask) {
    match ask {
        Ask::Spans(spans) => {
            put_list(out, 1, spans, |out, span| {
                out.put_u16(span.first.get());
                out.put_u16(span.last.get());
                out.put_u64(span.sum);
            });
        }
        Ask::Slices(partition, slices) => {
            put_list(out, 2, slices, |out, known| {
                put_slice(out, known.namespace, known.slice);
                out.put_u64(known.sum);
            });
            out.put_u16(partition.get());
        }
        Ask::Leaves(place, groups) => {
            put_list(out, 3, groups, |out, (group, sums)| {
                out.put_u8(*group);
                put_sums(out, sums);
            });
            put_place(out, *place);
        }
        Ask::Entries(page) => {
            put_list(out, 4, &page.entries, |out, &entry| out.put_u64(entry));
            put_place(out, page.place);
            out.put_u32(page.from_hash);
            put_bound(out, page.below);
            put_list(out, 0, &page.slices, |out, slice| {
                out.put_u64(slice.end_ms());
                out.put_u8(slice.class());
            });
        }
        Ask::Object { namespace, key, object } => {
            out.put_u8(5);
            out.put_u32(namespace.0);
            out.put_length_prefixed(key);
            out.put_slice(object);
        }
        Ask::Done(partition) => {
            out.put_u8(6);
            out.put_u16(partition.get());
        }
        Ask::Begin => out.put_u8(7),
        Ask::Rest(page) => {
            out.put_u8(8);
            out.put_u16(page.last.get());
            page.empty.iter().for_each(|&word| out.put_u64(word));
            out.put_slice(&page.from);
        }
    }
}

pub(super) fn ask(mut reader: Reader) -> Result<Ask, DecodeError> {
    let reader = &mut reader;
    Ok(match reader.u8("question")? {
        1 => Ask::Spans(list(reader, |reader| {
            let (first, last) = (partition(reader)?, partition(reader)?);
            Ok(Span { first, last, sum: reader.u64("sum")? })
        })?),
        2 => {
            let slices = list(reader, |reader| {
                let (namespace, slice) = slice_of(reader)?;
                Ok(SliceSum { namespace, slice, sum: reader.u64("sum")? })
            })?;
            Ask::Slices(partition(reader)?, slices)
        }
        3 => {
            let groups = list(reader, |reader| Ok((reader.u8("group")?, sums(reader)?)))?;
            Ask::Leaves(place(reader)?, groups)
        }
        4 => {
            let entries = list(reader, |reader| reader.u64("entry"))?;
            let place = place(reader)?;
            let (from_hash, below) = (reader.u32("hash")?, bound(reader)?);
            reader.u8("slices")?;
            let slices = list(reader, slice)?;
            Ask::Entries(PageOfEntries { place, slices, from_hash, below, entries })
        }
        5 => {
            let namespace = NamespaceId(reader.u32("namespace")?);
            let key = reader.slice("key")?;
            let object = reader.take("object", reader.remaining())?;
            Ask::Object { namespace, key, object }
        }
        6 => Ask::Done(partition(reader)?),
        7 => Ask::Begin,
        8 => {
            let (last, mut empty) = (partition(reader)?, [0; 4]);
            for word in &mut empty {
                *word = reader.u64("empty partitions")?;
            }
            let from = reader.take("persisted key", reader.remaining())?;
            Ask::Rest(PageOfRest { from, last, empty })
        }
        _ => return Err(DecodeError::Invalid("question")),
    })
}

pub(super) fn put_answer(out: &mut Vec<u8>, answer: &Answer) {
    match answer {
        Answer::Spans(differ, filled) => {
            put_list(out, 1, differ, |out, &at| out.put_u16(at));
            out.put_u8(u8::from(*filled));
        }
        Answer::Slices(slices) => put_list(out, 2, slices, |out, own| {
            put_slice(out, own.namespace, own.slice);
            put_sums(out, &own.groups);
        }),
        Answer::Leaves(groups) => put_list(out, 3, groups, |out, &(group, leaves)| {
            out.put_u8(group);
            out.put_u16(leaves);
        }),
        Answer::Entries { present, objects, complete_below } => {
            put_list(out, 4, objects, |out, (key, object)| {
                out.put_length_prefixed(key);
                out.put_length_prefixed(object);
            });
            out.put_length_prefixed(present);
            put_bound(out, *complete_below);
        }
        Answer::Object(None) => out.put_u8(5),
        Answer::Object(Some(object)) => {
            out.put_u8(6);
            out.put_slice(object);
        }
        Answer::Rest { objects, next } => {
            put_list(out, 10, objects, |out, (key, object)| {
                out.put_length_prefixed(key);
                out.put_length_prefixed(object);
            });
            out.put_slice(next.as_deref().unwrap_or_default());
        }
        Answer::Done => out.put_u8(7),
        Answer::Passed(passed_ms) => {
            out.put_u8(8);
            out.put_u64(*passed_ms);
        }
        Answer::Begun(at) => {
            out.put_u8(9);
            out.put_u64(at.as_u64());
        }
    }
}

pub(super) fn answer(reader: &mut Reader) -> Result<Answer, DecodeError> {
    Ok(match reader.u8("answer")? {
        1 => {
            let differ = list(reader, |reader| reader.u16("span"))?;
            Answer::Spans(differ, reader.u8("filled")? != 0)
        }
        2 => Answer::Slices(list(reader, |reader| {
            let (namespace, slice) = slice_of(reader)?;
            Ok(SliceGroups { namespace, slice, groups: sums(reader)? })
        })?),
        3 => {
            Answer::Leaves(list(reader, |reader| Ok((reader.u8("group")?, reader.u16("leaves")?)))?)
        }
        4 => {
            let objects = list(reader, one_of_many)?;
            let present = reader.slice("present entries")?.to_vec();
            Answer::Entries { present, objects, complete_below: bound(reader)? }
        }
        5 => Answer::Object(None),
        6 => Answer::Object(Some(reader.take("object", reader.remaining())?)),
        7 => Answer::Done,
        10 => {
            let objects = list(reader, one_of_many)?;
            let next = reader.take("persisted key", reader.remaining())?;
            Answer::Rest { objects, next: (!next.is_empty()).then_some(next) }
        }
        8 => Answer::Passed(reader.u64("passed slices")?),
        9 => Answer::Begun(Hlc::from_u64(reader.u64("start of the comparison")?)),
        _ => return Err(DecodeError::Invalid("answer")),
    })
}

fn put_list<T>(out: &mut Vec<u8>, tag: u8, items: &[T], put: impl Fn(&mut Vec<u8>, &T)) {
    out.put_u8(tag);
    out.put_varint(items.len() as u64);
    for item in items {
        put(out, item);
    }
}

fn list<T>(
    reader: &mut Reader,
    take: impl Fn(&mut Reader) -> Result<T, DecodeError>,
) -> Result<Vec<T>, DecodeError> {
    let count = reader.count("number of items", LIST_MAX)?;
    let mut items = Vec::with_capacity(count.min(1_024));
    for _ in 0..count {
        items.push(take(reader)?);
    }
    Ok(items)
}

/// A key and its object, of a list. The object outlives the others that came with it, so it has an allocation of its own.
fn one_of_many(reader: &mut Reader) -> Result<(Bytes, Bytes), DecodeError> {
    Ok((reader.slice("key")?, Bytes::copy_from_slice(&reader.slice("object")?)))
}

fn put_place(out: &mut Vec<u8>, place: Place) {
    out.put_u16(place.partition.get());
    out.put_u32(place.namespace.0);
}

fn place(reader: &mut Reader) -> Result<Place, DecodeError> {
    let partition = partition(reader)?;
    Ok(Place { partition, namespace: NamespaceId(reader.u32("namespace")?) })
}

/// Any partition of any cluster: the node looks it up in its ring.
fn partition(reader: &mut Reader) -> Result<Partition, DecodeError> {
    let number = reader.u16("partition")?;
    keyspace::partition(number).ok_or(DecodeError::Invalid("partition"))
}

fn put_slice(out: &mut Vec<u8>, namespace: NamespaceId, slice: Slice) {
    out.put_u32(namespace.0);
    out.put_u64(slice.end_ms());
    out.put_u8(slice.class());
}

fn slice_of(reader: &mut Reader) -> Result<(NamespaceId, Slice), DecodeError> {
    let namespace = NamespaceId(reader.u32("namespace")?);
    Ok((namespace, slice(reader)?))
}

fn slice(reader: &mut Reader) -> Result<Slice, DecodeError> {
    let (end_ms, class) = (reader.u64("slice end")?, reader.u8("slice class")?);
    Slice::from_parts(end_ms, class).ok_or(DecodeError::Invalid("slice"))
}

fn put_sums(out: &mut Vec<u8>, sums: &[u64; GROUPS]) {
    for &sum in sums {
        out.put_u64(sum);
    }
}

fn sums(reader: &mut Reader) -> Result<[u64; GROUPS], DecodeError> {
    let mut sums = [0; GROUPS];
    for sum in &mut sums {
        *sum = reader.u64("sum")?;
    }
    Ok(sums)
}

fn put_bound(out: &mut Vec<u8>, bound: Option<u32>) {
    out.put_u8(u8::from(bound.is_some()));
    out.put_u32(bound.unwrap_or(0));
}

fn bound(reader: &mut Reader) -> Result<Option<u32>, DecodeError> {
    let bounded = reader.u8("end of hashes")? != 0;
    let below = reader.u32("end of hashes")?;
    Ok(bounded.then_some(below))
}
