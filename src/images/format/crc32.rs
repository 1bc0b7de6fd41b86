//! The checksum of PNG chunks (CRC-32, ISO 3309).

use crc32fast::Hasher;

/// The checksum of both parts, as if they were one.
pub(in crate::images) fn crc32(parts: [&[u8]; 2]) -> u32 {
    let mut crc = Hasher::new();
    for part in parts {
        crc.update(part);
    }
    crc.finalize()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn crc32_of_the_test_vector_is_the_published_value() {
        assert_eq!(crc32([b"1234", b"56789"]), 0xcbf4_3926);
        assert_eq!(crc32([b"", b""]), 0);
        assert_eq!(crc32([b"IEND", b""]), 0xae42_6082);
    }
}
