//! The parameters of a gain map by ISO 21496-1, as JPEG files carry them.
//!
//! Every field is a number. All are read, checked and written again. Bytes behind them are dropped.

const MULTI_CHANNEL: u8 = 0x80;
const BASE_COLOUR_SPACE: u8 = 0x40;
/// Flag of libultrahdr: all fractions have one denominator, which comes first.
const COMMON_DENOMINATOR: u8 = 0x08;
/// Flag of libultrahdr: the base image is the HDR image.
const BACKWARD: u8 = 0x04;
const FLAGS: u8 = MULTI_CHANNEL | BASE_COLOUR_SPACE | COMMON_DENOMINATOR | BACKWARD;

const VERSION_LEN: usize = 4;
const HEAD_LEN: usize = VERSION_LEN + 1;
/// Minimum, maximum, gamma, and the offsets of the base image and of the alternate image.
const NUMBERS_OF_CHANNEL: usize = 5;
const GAMMA: usize = 2;

/// Bytes that passed the check: a version, with or without parameters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Bytes(Vec<u8>);

impl Bytes {
    pub(super) fn as_slice(&self) -> &[u8] {
        &self.0
    }

    /// Reads the version alone, as the base image carries it. Returns `None` for a version that no
    /// reader knows.
    pub(super) fn version(data: &[u8]) -> Option<Self> {
        let version: [u8; VERSION_LEN] = *data.first_chunk()?;
        // The lowest version that a reader must support. The version of the writer follows.
        version.starts_with(&[0, 0]).then(|| Self(version.to_vec()))
    }

    /// Reads the parameters, as the gain map carries them. Returns `None` if they are incomplete or
    /// divide by zero.
    pub(super) fn parameters(data: &[u8]) -> Option<Self> {
        let mut bytes = Self::version(data)?.0;
        let flags = *data.get(VERSION_LEN)? & FLAGS;
        bytes.push(flags);
        let channels = if flags & MULTI_CHANNEL == 0 { 1 } else { 3 };
        let fractions = 2 + channels * NUMBERS_OF_CHANNEL;
        let common = flags & COMMON_DENOMINATOR != 0;
        let words = if common { 1 + fractions } else { 2 * fractions };
        let fields = data.get(HEAD_LEN..)?.get(..words * 4)?;
        let zero = |word: usize| {
            fields
                .get(word * 4..word * 4 + 4)
                .is_none_or(|word| word == [0; 4])
        };
        let divides_by_zero = if common {
            zero(0)
        } else {
            (0..fractions).any(|fraction| zero(fraction * 2 + 1))
        };
        let gamma_of = |channel: usize| 2 + channel * NUMBERS_OF_CHANNEL + GAMMA;
        let gamma_is_zero = (0..channels).map(gamma_of).any(|fraction| {
            if common {
                zero(1 + fraction)
            } else {
                zero(fraction * 2)
            }
        });
        bytes.extend_from_slice(fields);
        (!divides_by_zero && !gamma_is_zero).then_some(Self(bytes))
    }
}
