// Keccak-256, as Ethereum uses it, for texts of at most 135 bytes; and the checksum of addresses that is made of it (EIP-55).

const MASK = (1n << 64n) - 1n;
/** The length of a block in bytes. */
const RATE = 136;
const ROUNDS = 24;
/** How far the lanes are turned, and where they go, in the order of the steps ρ and π. */
const TURNS = [1, 3, 6, 10, 15, 21, 28, 36, 45, 55, 2, 14, 27, 41, 56, 8, 25, 43, 62, 18, 39, 61, 20, 44];
const PLACES = [10, 7, 11, 17, 18, 3, 5, 16, 8, 21, 24, 4, 15, 23, 19, 13, 12, 2, 20, 14, 22, 9, 6, 1];

/** @param {bigint} lane @param {number} by @returns {bigint} */
const turned = (lane, by) => (lane << BigInt(by) | lane >> BigInt(64 - by)) & MASK;

/** The constants of the step ι, by the shift register of FIPS 202. @returns {bigint[]} */
function constants() {
  let register = 1;
  const bit = () => {
    const out = register & 1;
    register = register << 1 ^ (register & 0x80 ? 0x171 : 0);
    return out;
  };
  return Array.from({ length: ROUNDS }, () => {
    let constant = 0n;
    for (let power = 0; power <= 6; power++) if (bit()) constant |= 1n << BigInt(2 ** power - 1);
    return constant;
  });
}

/** The permutation Keccak-f[1600]. @param {bigint[]} lanes */
function permute(lanes) {
  for (const constant of constants()) {
    const columns = [0, 1, 2, 3, 4].map((x) => lanes[x] ^ lanes[x + 5] ^ lanes[x + 10] ^ lanes[x + 15] ^ lanes[x + 20]);
    for (let at = 0; at < 25; at++) lanes[at] ^= columns[(at + 4) % 5] ^ turned(columns[(at + 1) % 5], 1);
    let moved = lanes[1];
    PLACES.forEach((place, at) => {
      const next = lanes[place];
      lanes[place] = turned(moved, TURNS[at]);
      moved = next;
    });
    for (let row = 0; row < 25; row += 5) {
      const old = lanes.slice(row, row + 5);
      for (let x = 0; x < 5; x++) lanes[row + x] = old[x] ^ (~old[(x + 1) % 5] & MASK & old[(x + 2) % 5]);
    }
    lanes[0] ^= constant;
  }
}

/** @param {string} text at most 135 bytes of ASCII @returns {string} 64 hexadecimal digits */
export function keccak256(text) {
  const block = new Uint8Array(RATE);
  block.set(new TextEncoder().encode(text));
  block[text.length] = 0x01;
  block[RATE - 1] |= 0x80;
  const view = new DataView(block.buffer);
  const lanes = Array.from({ length: 25 }, (_, at) => (at * 8 < RATE ? view.getBigUint64(at * 8, true) : 0n));
  permute(lanes);
  const out = new DataView(new ArrayBuffer(32));
  for (let at = 0; at < 4; at++) out.setBigUint64(at * 8, lanes[at], true);
  return Array.from(new Uint8Array(out.buffer), (byte) => byte.toString(16).padStart(2, "0")).join("");
}

/** The address with its checksum. Wallets often leave it out. @param {string} address @returns {string} */
export function checksummed(address) {
  const digits = address.slice(2).toLowerCase();
  const hash = keccak256(digits);
  return `0x${Array.from(digits, (digit, at) => (parseInt(hash[at], 16) >= 8 ? digit.toUpperCase() : digit)).join("")}`;
}
