//! Expiry: a deadline is a moment of the clock of the node that takes the command; changing it is an update.

use moim_node::api::{Action, Expiry};
use moim_node::update::{ExpiryCondition, Update};

use super::super::answer::Shape;
use super::super::encode::Reply;
use super::strings::{ExpiryUnit, expiry_at, invalid_expiry, one_value};
use super::{Call, Decided, Step};

/// `EXPIRE`, `PEXPIRE`, `EXPIREAT`, `PEXPIREAT`: the name tells the unit. A moment that has passed deletes the key.
pub(super) fn expire(call: &Call<'_>) -> Decided {
    let name = call.command.name;
    let unit = ExpiryUnit { millis: name.starts_with('p'), absolute: name.ends_with("at") };
    let given = call.integer(2)?;
    let options = Options::parse(call)?;
    let moment = unit.moment(given, call.front().store.now().wall_ms);
    let expiry = expiry_at(moment.ok_or_else(|| invalid_expiry(call))?);
    if options.present && options.earlier {
        return Ok(expire_present_if_earlier(call, expiry));
    }
    let update = Update::Expire { expiry, condition: options.condition() };
    Ok(call.one(1, Action::Update(update), Shape::Number))
}

#[derive(Clone, Copy, Debug, Default)]
#[expect(clippy::struct_excessive_bools, reason = "four words, each there or not")]
struct Options {
    none: bool,
    present: bool,
    later: bool,
    earlier: bool,
}

impl Options {
    fn parse(call: &Call<'_>) -> Result<Self, Reply> {
        let mut options = Self::default();
        for at in 3..call.len() {
            match call.get(at).to_ascii_uppercase().as_slice() {
                b"NX" => options.none = true,
                b"XX" => options.present = true,
                b"GT" => options.later = true,
                b"LT" => options.earlier = true,
                _ => return Err(Reply::error(format!("ERR Unsupported option {}", call.text(at)))),
            }
        }
        if options.none && (options.present || options.later || options.earlier) {
            let text = "ERR NX and XX, GT or LT options at the same time are not compatible";
            return Err(Reply::error(text));
        }
        if options.later && options.earlier {
            let text = "ERR GT and LT options at the same time are not compatible";
            return Err(Reply::error(text));
        }
        Ok(options)
    }

    fn condition(self) -> ExpiryCondition {
        match self {
            Self { none: true, .. } => ExpiryCondition::IfNone,
            // No expiry counts as an infinite one, so nothing is later than it and `XX` adds nothing.
            Self { later: true, .. } => ExpiryCondition::IfLater,
            Self { earlier: true, .. } => ExpiryCondition::IfEarlier,
            Self { present: true, .. } => ExpiryCondition::IfSome,
            _ => ExpiryCondition::Always,
        }
    }
}

/// `XX LT`: two conditions, the first of which is looked at beforehand. Who removes the expiry in between is not seen.
fn expire_present_if_earlier(call: &Call<'_>, expiry: Expiry) -> Step {
    let read = call.request(call.get(1), Action::Get);
    let update = Update::Expire { expiry, condition: ExpiryCondition::IfEarlier };
    let write = call.request(call.get(1), Action::Update(update));
    let front = call.front().clone();
    Step::Task(Box::pin(async move {
        let (store, namespace) = (&front.store, read.namespace);
        match one_value(store.request(read).await, namespace, store) {
            Err(error) => error,
            Ok(Some(version)) if version.expires_ms > 0 => {
                Shape::Number.reply(store.request(write).await, namespace, store)
            }
            Ok(_) => Reply::Integer(0),
        }
    }))
}

pub(super) fn persist(call: &Call<'_>) -> Decided {
    let update = Update::Expire { expiry: Expiry::Never, condition: ExpiryCondition::Always };
    Ok(call.one(1, Action::Update(update), Shape::Number))
}

fn tell(call: &Call<'_>, absolute: bool, millis: bool) -> Decided {
    Ok(call.one(1, Action::Get, Shape::Expiry { absolute, millis }))
}

pub(super) fn ttl(call: &Call<'_>) -> Decided {
    tell(call, false, false)
}

pub(super) fn pttl(call: &Call<'_>) -> Decided {
    tell(call, false, true)
}

pub(super) fn expiretime(call: &Call<'_>) -> Decided {
    tell(call, true, false)
}

pub(super) fn pexpiretime(call: &Call<'_>) -> Decided {
    tell(call, true, true)
}
