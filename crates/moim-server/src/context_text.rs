//! Causal contexts as text: what `MOIM.GET` and the `X-Moim-Context` header hand out and take back.
//!
//! Base64url without padding, so that it needs no quoting anywhere. The bytes begin with a tag of namespace and key:
//! a context that comes back with another key is a client's mistake, and is told so instead of being applied.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use moim_core::NamespaceId;
use moim_core::object::Context;

/// The longest text that is looked at, in bytes. A context of `clock_pairs_max` pairs is far below it.
pub const CONTEXT_TEXT_BYTES_MAX: usize = 64 * 1024;

/// The text of a context.
pub fn encode(namespace: NamespaceId, key: &[u8], context: &Context) -> String {
    URL_SAFE_NO_PAD.encode(context.encode(key_tag(namespace, key)))
}

/// The counterpart of [`encode`]; the error says what is wrong with the text, for the client.
pub fn decode(namespace: NamespaceId, key: &[u8], text: &str) -> Result<Context, String> {
    if text.len() > CONTEXT_TEXT_BYTES_MAX {
        return Err(format!(
            "context of {} bytes, the limit is {CONTEXT_TEXT_BYTES_MAX}",
            text.len()
        ));
    }
    let bytes = URL_SAFE_NO_PAD
        .decode(text)
        .map_err(|error| format!("context is no base64url text without padding: {error}"))?;
    let tag = key_tag(namespace, key);
    if bytes.first_chunk().is_some_and(|begin| u32::from_be_bytes(*begin) != tag) {
        return Err("the context belongs to another key or namespace".to_owned());
    }
    Context::decode(bytes.into(), tag).map_err(|error| error.to_string())
}

/// Tells keys apart well enough to catch a mix-up; it is no secret and no proof.
fn key_tag(namespace: NamespaceId, key: &[u8]) -> u32 {
    let mut bytes = Vec::with_capacity(4 + key.len());
    bytes.extend_from_slice(&namespace.0.to_be_bytes());
    bytes.extend_from_slice(key);
    let [a, b, c, d, ..] = moim_core::fingerprint(&bytes).to_be_bytes();
    u32::from_be_bytes([a, b, c, d])
}

#[cfg(test)]
mod tests {
    use super::*;
    use moim_core::clock::Hlc;
    use proptest::prelude::*;

    const CARTS: NamespaceId = NamespaceId(77);

    proptest! {
        #[test]
        fn a_context_comes_back_with_its_own_key_only(time: u64, key: Vec<u8>, other: Vec<u8>) {
            let context = Context::Lww(Hlc::from_u64(time));
            let text = encode(CARTS, &key, &context);
            prop_assert!(text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte)));
            prop_assert_eq!(decode(CARTS, &key, &text), Ok(context));
            if key != other {
                prop_assert!(decode(CARTS, &other, &text).unwrap_err().contains("another key"));
            }
            prop_assert!(decode(NamespaceId(78), &key, &text).unwrap_err().contains("another key"));
        }

        #[test]
        fn any_text_is_answered(text: String) {
            prop_assert!(decode(CARTS, b"key", &text).is_err());
        }
    }

    #[test]
    fn a_text_beyond_the_limit_is_not_decoded() {
        let error = decode(CARTS, b"key", &"A".repeat(CONTEXT_TEXT_BYTES_MAX + 1)).unwrap_err();
        assert!(error.contains("the limit is 65536"), "{error}");
    }
}
