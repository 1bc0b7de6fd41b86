//! Walks the segments of an image and chooses a coder for each scan.

use super::bits::{Bits, Marker, next_marker};
use super::header::{Fields, Headers, ScanHeader, check_conditioning};
use super::pixels::Gathering;
use super::progressive::{AcFirst, AcRefine, AcScan};
use super::scan::{Clock, Coder, DcFirst, DcRefine, Part, Sequential, read_scan};
use super::tables::Table;
use super::{Decoded, Fault, Limits, MAX_SCANS, Reason, Segment};

/// The most segments of an image.
const MAX_SEGMENTS: usize = 65_536;

/// The largest number of blocks in an MCU.
const MAX_MCU_BLOCKS: u32 = 10;

/// Reads one image.
pub(super) struct Decoder<'a> {
    data: &'a [u8],
    headers: Headers,
    /// For each component, a bit for each coefficient of each block that is not zero. Empty before
    /// the first AC scan.
    masks: Vec<Vec<u64>>,
    /// For each component and coefficient, the lowest bit that a progressive scan has contained.
    finest: Vec<[Option<u8>; 64]>,
    clock: Clock,
    limits: Limits,
    scans: u32,
    warnings: u32,
    missing: u64,
    total: u64,
    end: usize,
    segments: Vec<Segment>,
    standard_tables: Vec<(bool, u8)>,
    has_jfif: bool,
    /// The colour transform of the Adobe segment, if there is one.
    adobe: Option<u8>,
    /// Present from the first scan on, if an eighth of the picture is wanted.
    gathering: Option<Gathering>,
}

impl<'a> Decoder<'a> {
    pub(super) fn new(data: &'a [u8], limits: Limits) -> Self {
        Self {
            data,
            headers: Headers::default(),
            masks: Vec::new(),
            finest: Vec::new(),
            clock: Clock::new(limits.deadline),
            limits,
            scans: 0,
            warnings: 0,
            missing: 0,
            total: 0,
            end: 0,
            segments: Vec::new(),
            standard_tables: Vec::new(),
            has_jfif: false,
            adobe: None,
            gathering: None,
        }
    }

    /// Reads the image.
    pub(super) fn decode(mut self) -> Result<Decoded, Fault> {
        let end_of_image = self.run()?;
        let Some(frame) = self.headers.frame else {
            return Err(Fault::new(0, Reason::NoFrame));
        };
        let gathered = self.gathering.map(|gathering| gathering.finish(&frame));
        Ok(Decoded {
            small: gathered.flatten(),
            frame,
            scans: self.scans,
            warnings: self.warnings,
            missing: self.missing,
            total: self.total,
            steps: self.clock.steps,
            end: self.end,
            segments: self.segments,
            end_of_image,
            standard_tables: self.standard_tables,
        })
    }

    /// Reads all segments and scans. Returns the offset of the end marker, if there is one.
    fn run(&mut self) -> Result<Option<usize>, Fault> {
        // Chromium and Pillow check three bytes.
        if !self.data.starts_with(&[0xff, 0xd8, 0xff]) {
            return Err(Fault::new(0, Reason::NoStart));
        }
        let mut at = 2;
        while let Some(marker) = next_marker(self.data, at) {
            let fault = Fault::at(marker.at);
            match marker.code {
                0xd9 if self.scans == 0 => return Err(fault(Reason::NoScan)),
                0xd9 if self.is_progressive() && !self.all_begun() => {
                    return Err(fault(Reason::ScansMissing));
                }
                0xd9 => return Ok(Some(marker.at)),
                0xd8 => return Err(fault(Reason::SecondStart)),
                // RSTn and TEM have no content.
                0xd0..=0xd7 | 0x01 => at = marker.at + 2,
                code => {
                    if self.segments.len() == MAX_SEGMENTS {
                        return Err(fault(Reason::Segments(MAX_SEGMENTS)));
                    }
                    at = self.segment(&marker)?;
                    self.segments.push(Segment {
                        code,
                        range: marker.at..at,
                    });
                }
            }
            // Viewers have all rows then, and ignore the rest.
            if self.is_single_scan() {
                return Ok(self.end_behind(at));
            }
        }
        if self.is_complete() {
            Ok(None)
        } else {
            Err(Fault::new(self.data.len(), Reason::ScansMissing))
        }
    }

    /// The offset of the end marker behind the only scan, if only segments without an image stand
    /// between.
    fn end_behind(&self, mut at: usize) -> Option<usize> {
        loop {
            let marker = next_marker(self.data, at)?;
            at = match marker.code {
                0xd9 => return Some(marker.at),
                0xd0..=0xd7 | 0x01 => marker.at + 2,
                0xc4 | 0xdb..=0xdd | 0xe0..=0xef | 0xfe => self.segment_end(&marker)?,
                _ => return None,
            };
        }
    }

    /// The offset behind a segment. Returns `None` if the file ends before it.
    fn segment_end(&self, marker: &Marker) -> Option<usize> {
        let length = self.data.get(marker.at + 2..)?.first_chunk::<2>()?;
        // libjpeg treats lengths below 2 as 2 in segments that it skips.
        let end = marker.at + 2 + usize::from(u16::from_be_bytes(*length)).max(2);
        (end <= self.data.len()).then_some(end)
    }

    /// Reads a segment, including the data of a scan. Returns the offset behind it.
    fn segment(&mut self, marker: &Marker) -> Result<usize, Fault> {
        let fault = Fault::at(marker.at);
        let end = self.segment_end(marker);
        let contents = end.and_then(|end| Some((end, Fields(self.data.get(marker.at + 4..end)?))));
        let Some((end, contents)) = contents else {
            return Err(Fault::new(self.data.len(), Reason::ScansMissing));
        };
        match marker.code {
            0xc0..=0xc2 => self.start_frame(marker.code, contents).map_err(fault)?,
            0xc4 => self.headers.huffman(contents).map_err(fault)?,
            0xdb => self.headers.quantization(contents).map_err(fault)?,
            0xdd => self.headers.restart_interval(contents).map_err(fault)?,
            0xda => {
                let scan = self.headers.scan(contents).map_err(&fault)?;
                return self.scan(&scan, end).map_err(|reason| match reason {
                    Reason::Truncated(..) => Fault::new(self.data.len(), reason),
                    reason => fault(reason),
                });
            }
            0xcc => check_conditioning(contents).map_err(fault)?,
            0xe0 if contents.0.starts_with(b"JFIF\0") => self.has_jfif = true,
            0xee if contents.0.starts_with(b"Adobe") => self.adobe = contents.0.get(11).copied(),
            // DNL is skipped, like application segments and comments.
            0xdc | 0xe0..=0xef | 0xfe => {}
            code => return Err(fault(Reason::Marker(code))),
        }
        Ok(end)
    }

    fn start_frame(&mut self, code: u8, contents: Fields<'_>) -> Result<(), Reason> {
        self.headers.frame(code, contents)?;
        if let Some(frame) = &self.headers.frame {
            let pixels = u64::from(frame.width) * u64::from(frame.height);
            if self.limits.max_pixels.is_some_and(|limit| pixels > limit) {
                return Err(Reason::Size(frame.width, frame.height));
            }
            self.masks = vec![Vec::new(); frame.components.len()];
            self.finest = vec![[None; 64]; frame.components.len()];
        }
        Ok(())
    }

    /// Reads the data of a scan. Returns the offset behind it.
    fn scan(&mut self, scan: &ScanHeader, start: usize) -> Result<usize, Reason> {
        self.scans += 1;
        if self.scans > MAX_SCANS {
            return Err(Reason::Scans(MAX_SCANS));
        }
        if self.limits.keeps_small && self.gathering.is_none() {
            let frame = self.headers.frame.as_ref();
            let gather = |frame| Gathering::new(frame, self.has_jfif, self.adobe);
            self.gathering = frame.map(gather);
        }
        let mut bits = Bits::new(self.data, start);
        let (total, missing) = if self.is_progressive() {
            self.check_progression(scan)?;
            self.progressive(scan, &mut bits)?
        } else {
            if self.scans == 1 {
                self.headers.imply_standard();
            }
            let implied = self.headers.implied(scan);
            self.standard_tables.extend(implied);
            self.standard_tables.sort_unstable();
            self.standard_tables.dedup();
            self.sequential(scan, &mut bits)?
        };
        self.total += u64::from(total);
        self.missing += u64::from(missing);
        self.warnings = self.warnings.saturating_add(bits.warnings);
        // A scan may have no data at all, behind a header whose last byte looks like padding of a
        // marker.
        self.end = bits.used().max(start);
        // Chromium stops at damage. It shows a progressive image if each component was seen before.
        // Sequential images must be whole.
        let shown = self.is_single_scan() || self.is_progressive() && self.all_begun();
        if bits.warnings > 0 && !shown {
            return Err(Reason::DamagedScan);
        }
        Ok(self.end)
    }

    fn sequential(&mut self, scan: &ScanHeader, bits: &mut Bits<'_>) -> Result<(u32, u32), Reason> {
        let tables = scan
            .components
            .iter()
            .map(|part| {
                let dc = Table::new(self.headers.table(true, part.dc)?, false);
                Ok((dc, Table::new(self.headers.table(false, part.ac)?, true)))
            })
            .collect::<Result<Vec<_>, Reason>>()?;
        let (total, blocks) = self.mcus(scan)?;
        let parts = tables.iter().zip(blocks);
        let parts = parts.map(|((dc, ac), blocks)| Part {
            dc,
            ac,
            blocks,
            prediction: 0,
            kept: self.gathering.is_some().then(Vec::new),
        });
        let mut coder = Sequential(parts.collect());
        let missing = self.read(&mut coder, bits, total)?;
        self.gather(scan, &coder.0);
        Ok((total, missing))
    }

    fn progressive(
        &mut self,
        scan: &ScanHeader,
        bits: &mut Bits<'_>,
    ) -> Result<(u32, u32), Reason> {
        let (total, blocks) = self.mcus(scan)?;
        if scan.ss > 0 {
            return Ok((total, self.ac_scan(scan, bits, total)?));
        }
        if scan.ah > 0 {
            return Ok((
                total,
                self.read(&mut DcRefine(blocks.iter().sum()), bits, total)?,
            ));
        }
        let tables = scan
            .components
            .iter()
            .map(|part| Ok(Table::new(self.headers.table(true, part.dc)?, false)));
        let tables = tables.collect::<Result<Vec<_>, Reason>>()?;
        let parts = tables.iter().zip(blocks).map(|(dc, blocks)| Part {
            dc,
            ac: dc,
            blocks,
            prediction: 0,
            kept: self.gathering.is_some().then(Vec::new),
        });
        let mut coder = DcFirst {
            parts: parts.collect(),
            shift: scan.al,
        };
        let missing = self.read(&mut coder, bits, total)?;
        self.gather(scan, &coder.parts);
        Ok((total, missing))
    }

    /// Keeps the DC coefficients of a scan for an eighth of the picture.
    fn gather(&mut self, scan: &ScanHeader, parts: &[Part<'_>]) {
        if let Some(gathering) = &mut self.gathering {
            gathering.take(&self.headers, scan, parts);
        }
    }

    fn ac_scan(
        &mut self,
        scan: &ScanHeader,
        bits: &mut Bits<'_>,
        total: u32,
    ) -> Result<u32, Reason> {
        let Some(part) = scan.components.first() else {
            return Ok(0);
        };
        let table = Table::new(self.headers.table(false, part.ac)?, false);
        let mut masks = self
            .masks
            .get_mut(part.index)
            .map(std::mem::take)
            .unwrap_or_default();
        masks.resize(total as usize, 0);
        let (ss, se, al) = (u32::from(scan.ss), u32::from(scan.se), u32::from(scan.al));
        let ac = AcScan {
            table: &table,
            ss,
            se,
            al,
            masks: &mut masks,
            run: 0,
        };
        let missing = if scan.ah == 0 {
            self.read(&mut AcFirst(ac), bits, total)
        } else {
            self.read(&mut AcRefine(ac), bits, total)
        };
        if let Some(place) = self.masks.get_mut(part.index) {
            *place = masks;
        }
        missing
    }

    fn read(
        &mut self,
        coder: &mut impl Coder,
        bits: &mut Bits<'_>,
        total: u32,
    ) -> Result<u32, Reason> {
        read_scan(
            coder,
            bits,
            total,
            self.headers.restart_interval,
            &mut self.clock,
        )
    }

    /// Number of MCUs of a scan, and for each component the number of its blocks in one MCU.
    fn mcus(&self, scan: &ScanHeader) -> Result<(u32, Vec<u32>), Reason> {
        let frame = self.headers.frame.as_ref().ok_or(Reason::NoFrame)?;
        let components: Vec<_> = scan
            .components
            .iter()
            .filter_map(|part| frame.components.get(part.index))
            .collect();
        if let [single] = components[..] {
            return Ok((single.blocks_wide * single.blocks_high, vec![1]));
        }
        let (h, v) = frame.largest();
        let wide = u32::from(frame.width).div_ceil(u32::from(h) * 8);
        let high = u32::from(frame.height).div_ceil(u32::from(v) * 8);
        let blocks: Vec<u32> = components
            .iter()
            .map(|part| u32::from(part.h) * u32::from(part.v))
            .collect();
        if blocks.iter().sum::<u32>() > MAX_MCU_BLOCKS {
            return Err(Reason::McuSize);
        }
        Ok((wide * high, blocks))
    }

    /// Checks the parameters of a progressive scan, and records which bits it contains.
    fn check_progression(&mut self, scan: &ScanHeader) -> Result<(), Reason> {
        let &ScanHeader { ss, se, ah, al, .. } = scan;
        let band = if ss == 0 {
            se == 0
        } else {
            ss <= se && se < 64 && scan.components.len() == 1
        };
        if !band || ah > 0 && al + 1 != ah || al > 13 {
            return Err(Reason::Progression([ss, se, ah, al]));
        }
        for part in &scan.components {
            let Some(finest) = self.finest.get_mut(part.index) else {
                continue;
            };
            // libjpeg warns if bits are out of order, or if AC coefficients precede the DC
            // coefficients.
            if ss > 0 && matches!(finest, [None, ..]) {
                self.warnings += 1;
            }
            for bit in finest
                .iter_mut()
                .take(usize::from(se) + 1)
                .skip(usize::from(ss))
            {
                if bit.unwrap_or(0) != ah {
                    self.warnings += 1;
                }
                *bit = Some(al);
            }
        }
        Ok(())
    }

    fn is_progressive(&self) -> bool {
        self.headers
            .frame
            .as_ref()
            .is_some_and(|frame| frame.progressive)
    }

    /// Whether the only scan of a sequential image was read.
    fn is_single_scan(&self) -> bool {
        self.scans == 1 && !self.is_progressive() && self.headers.all_seen()
    }

    /// Whether the DC coefficients of each component of a progressive image were read.
    fn all_begun(&self) -> bool {
        self.finest.iter().all(|bits| matches!(bits, [Some(_), ..]))
    }

    /// Whether no further scan can be missing.
    fn is_complete(&self) -> bool {
        let whole = || self.finest.iter().flatten().all(|&bit| bit == Some(0));
        self.headers.all_seen() && (!self.is_progressive() || whole())
    }
}
