//! The causal context as text: what clients carry in `X-Moim-Context` and after `CONTEXT`.
//!
//! Base64url without padding of [`Context::encode`], tied to its key: a context that comes back with another key or
//! namespace is a client's mistake, and is told so instead of making siblings.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use moim_core::NamespaceId;
use moim_core::object::Context;

/// The longest text that is looked at, in bytes: far above any context, as `clock_pairs_refused` bounds them.
pub const CONTEXT_TEXT_BYTES_MAX: usize = 1 << 20;

/// Text for a client.
pub fn encode(namespace: NamespaceId, key: &[u8], context: &Context) -> String {
    URL_SAFE_NO_PAD.encode(context.encode(key_tag(namespace, key)))
}

/// The counterpart of [`encode`]. The error says what is wrong with the text.
pub fn decode(namespace: NamespaceId, key: &[u8], text: &str) -> Result<Context, String> {
    if text.len() > CONTEXT_TEXT_BYTES_MAX {
        let length = text.len();
        return Err(format!(
            "the context of {length} bytes exceeds the limit of {CONTEXT_TEXT_BYTES_MAX}"
        ));
    }
    let bytes = URL_SAFE_NO_PAD
        .decode(text)
        .map_err(|error| format!("the context is no base64url without padding ({error})"))?;
    let tag = key_tag(namespace, key);
    if bytes.first_chunk().is_some_and(|begin| u32::from_be_bytes(*begin) != tag) {
        return Err("the context belongs to another key or namespace".to_owned());
    }
    Context::decode(bytes.into(), tag).map_err(|error| error.to_string())
}

fn key_tag(namespace: NamespaceId, key: &[u8]) -> u32 {
    let tagged = [&namespace.0.to_be_bytes(), key].concat();
    let [_, _, _, _, low @ ..] = moim_core::fingerprint(&tagged).to_be_bytes();
    u32::from_be_bytes(low)
}

#[cfg(test)]
mod tests {
    use super::*;
    use moim_core::clock::Hlc;

    #[test]
    fn a_context_returns_with_its_own_key_only() {
        let context = Context::Lww(Hlc::from_u64(7));
        let text = encode(NamespaceId(0), b"cart", &context);
        assert_eq!(decode(NamespaceId(0), b"cart", &text), Ok(context));
        assert!(
            decode(NamespaceId(1), b"cart", &text)
                .unwrap_err()
                .contains("another key or namespace")
        );
        assert!(
            decode(NamespaceId(0), b"card", &text)
                .unwrap_err()
                .contains("another key or namespace")
        );
        assert!(decode(NamespaceId(0), b"cart", "a+/=").unwrap_err().contains("base64url"));
        assert!(decode(NamespaceId(0), b"cart", "").is_err());
    }
}
