//! Metadata of calls: which headers it consists of, and the base64 of its binary values.

use base64::Engine as _;
use base64::alphabet::STANDARD;
use base64::engine::DecodePaddingMode;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig, STANDARD_NO_PAD};
use http::{HeaderMap, HeaderName, HeaderValue};

/// A value of metadata.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    /// The value of a key that does not end in `-bin`.
    Text(String),
    /// The value of a key that ends in `-bin`.
    Binary(Vec<u8>),
}

/// Bytes that HTTP/2 counts for each header in addition to name and value.
const ENTRY: usize = 32;

/// Headers that belong to gRPC or HTTP, so that they are not metadata.
const RESERVED: [&str; 14] = [
    "connection",
    "content-type",
    "grpc-accept-encoding",
    "grpc-encoding",
    "grpc-message",
    "grpc-message-type",
    "grpc-status",
    "grpc-timeout",
    "host",
    "keep-alive",
    "proxy-connection",
    "te",
    "transfer-encoding",
    "upgrade",
];

/// Senders may pad or not.
const LENIENT: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// Returns the metadata among headers. Binary values that are not base64 are left out.
#[must_use]
pub fn read(headers: &HeaderMap) -> Vec<(&str, Value)> {
    let mut pairs = Vec::with_capacity(headers.len());
    for (name, value) in headers {
        let name = name.as_str();
        if RESERVED.contains(&name) {
            continue;
        }
        if name.ends_with("-bin") {
            let parts = value.as_bytes().split(|byte| *byte == b',');
            pairs.extend(parts.filter_map(|part| Some((name, Value::Binary(LENIENT.decode(part).ok()?)))));
        } else {
            // HTTP defines no charset. Latin-1 loses nothing.
            pairs.push((name, Value::Text(value.as_bytes().iter().copied().map(char::from).collect())));
        }
    }
    pairs
}

/// Adds a pair to headers.
///
/// # Errors
///
/// The key or the value is not allowed; the text says why.
pub fn write(headers: &mut HeaderMap, key: &str, value: &Value) -> Result<(), String> {
    let name = HeaderName::from_lowercase(key.as_bytes())
        .map_err(|_| format!("metadata: the key {key:?} is not allowed; use a-z, 0-9, '-', '_' and '.'"))?;
    if RESERVED.contains(&key) {
        return Err(format!("metadata: the key {key:?} belongs to gRPC or HTTP; use another one"));
    }
    let value = match (value, key.ends_with("-bin")) {
        (Value::Text(text), false) => {
            if !text.bytes().all(|byte| (b' '..=b'~').contains(&byte)) {
                return Err(format!(
                    "metadata: the value of {key:?} is not printable ASCII; use a key that ends in -bin"
                ));
            }
            HeaderValue::from_str(text).map_err(|error| format!("metadata: {key:?}: {error}"))?
        }
        (Value::Binary(bytes), true) => HeaderValue::try_from(STANDARD_NO_PAD.encode(bytes))
            .map_err(|error| format!("metadata: {key:?}: {error}"))?,
        (Value::Binary(_), false) => return Err(format!("metadata: the value of {key:?} is bytes; use str")),
        (Value::Text(_), true) => return Err(format!("metadata: the value of {key:?} is str; use bytes")),
    };
    headers.try_append(name, value).map_err(|_| "metadata: too many entries".to_owned())?;
    Ok(())
}

/// Returns the size of a header list as HTTP/2 counts it.
#[must_use]
pub fn size(headers: &HeaderMap) -> usize {
    headers.iter().map(|(name, value)| name.as_str().len() + value.len() + ENTRY).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pairs_survive_the_way_through_headers() {
        let pairs = [
            ("a", Value::Text("text with spaces".into())),
            ("a", Value::Text("again".into())),
            ("b-bin", Value::Binary(vec![0, 255, 7, 9])),
            ("c-bin", Value::Binary(vec![])),
        ];
        let mut headers = HeaderMap::new();
        for (key, value) in &pairs {
            write(&mut headers, key, value).unwrap();
        }
        assert_eq!(read(&headers), pairs);
    }

    #[test]
    fn binary_values_may_be_padded_and_joined() {
        let mut headers = HeaderMap::new();
        headers.insert("a-bin", HeaderValue::from_static("CAM=,CAM,!"));
        let expected = Value::Binary(vec![8, 3]);
        assert_eq!(read(&headers), [("a-bin", expected.clone()), ("a-bin", expected)]);
    }

    #[test]
    fn what_no_header_can_carry_is_refused() {
        let text = Value::Text("x".into());
        for key in ["", "Upper", "sp ace", ":path", "te", "grpc-status", "ü"] {
            assert!(write(&mut HeaderMap::new(), key, &text).is_err(), "{key}");
        }
        for value in ["line\nbreak", "ü", "\u{7f}"] {
            assert!(write(&mut HeaderMap::new(), "a", &Value::Text(value.into())).is_err(), "{value}");
        }
        assert!(write(&mut HeaderMap::new(), "a-bin", &text).is_err());
        assert!(write(&mut HeaderMap::new(), "a", &Value::Binary(vec![])).is_err());
    }
}
