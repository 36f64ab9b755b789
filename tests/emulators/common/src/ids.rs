//! Identifiers that only have to be new, in the shapes that services give them.

use aws_lc_rs::rand;

use crate::clock::system_now;

/// `bytes` random bytes as hex.
pub fn random_hex(bytes: usize) -> String {
    let mut buffer = vec![0_u8; bytes];
    if rand::fill(&mut buffer).is_err() {
        // The operating system gives no randomness: nothing else will work either, and the value only has to be new.
        buffer = system_now().as_nanosecond().to_le_bytes().repeat(bytes / 16 + 1);
        buffer.truncate(bytes);
    }
    hex(&buffer)
}

/// A random identifier in the shape of a GUID.
pub fn guid() -> String {
    guid_of_hex(&random_hex(16))
}

/// The first 32 digits of `text` in the shape of a GUID.
pub fn guid_of_hex(text: &str) -> String {
    let parts = [text.get(..8), text.get(8..12), text.get(12..16), text.get(16..20), text.get(20..32)];
    parts.into_iter().flatten().collect::<Vec<_>>().join("-")
}

/// Bytes as hex digits, in lower case.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::guid;

    #[test]
    fn a_guid_has_its_shape_and_is_new() {
        let (one, other) = (guid(), guid());
        assert_eq!(one.split('-').map(str::len).collect::<Vec<_>>(), [8, 4, 4, 4, 12]);
        assert_ne!(one, other);
    }
}
