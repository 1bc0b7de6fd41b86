//! The checksum of PNG chunks (CRC-32, ISO 3309), with a table that is built at compile time.

#[expect(
    clippy::indexing_slicing,
    reason = "an index out of bounds here would not compile"
)]
const TABLE: [u32; 256] = {
    let mut table = [0; 256];
    let mut byte = 0_u32;
    while byte < 256 {
        let mut remainder = byte;
        let mut bit = 0;
        while bit < 8 {
            let carry = remainder & 1;
            remainder >>= 1;
            if carry == 1 {
                remainder ^= 0xedb8_8320;
            }
            bit += 1;
        }
        table[byte as usize] = remainder;
        byte += 1;
    }
    table
};

/// The checksum of both parts, as if they were one.
pub(in crate::images) fn crc32(parts: [&[u8]; 2]) -> u32 {
    let remainder = parts
        .into_iter()
        .flatten()
        .fold(u32::MAX, |remainder, byte| {
            let [low, ..] = remainder.to_le_bytes();
            // The index is a byte and the table has 256 entries: the compiler drops the check.
            let step = TABLE
                .get(usize::from(low ^ byte))
                .copied()
                .unwrap_or_default();
            (remainder >> 8) ^ step
        });
    !remainder
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
