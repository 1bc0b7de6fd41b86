//! Pictures for benchmarks.

use std::io::Write;

use flate2::Compression;
use flate2::write::ZlibEncoder;
use pixtoll::system::random::Randomness;

/// A PNG of random pixels, with a comment to remove.
pub(crate) fn png(width: u32, height: u32) -> Vec<u8> {
    let randomness = Randomness::seeded(1);
    let mut rows = ZlibEncoder::new(Vec::new(), Compression::fast());
    for _ in 0..height {
        rows.write_all(&[0]).unwrap();
        for _ in 0..width {
            rows.write_all(&randomness.bytes::<3>()).unwrap();
        }
    }
    let header = [
        &width.to_be_bytes()[..],
        &height.to_be_bytes(),
        &[8, 2, 0, 0, 0],
    ]
    .concat();
    let mut file = b"\x89PNG\r\n\x1a\n".to_vec();
    for (kind, body) in [
        (b"IHDR", header),
        (b"tEXt", b"Comment\0A picture".to_vec()),
        (b"IDAT", rows.finish().unwrap()),
        (b"IEND", Vec::new()),
    ] {
        file.extend(u32::try_from(body.len()).unwrap().to_be_bytes());
        let chunk = [&kind[..], &body].concat();
        file.extend(&chunk);
        file.extend(crc32fast::hash(&chunk).to_be_bytes());
    }
    file
}
