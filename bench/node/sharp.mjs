// sharp, with one thread, and how alike two images are.
//
//   node sharp.mjs photograph FILE               writes a JPEG of 4000x3000 with the detail of a photograph
//   node sharp.mjs resize FILE FORMAT TIMES OUT  resizes FILE to a width of 800, TIMES times; prints the CPU seconds and the
//                                                seconds of one, and writes the last result to OUT
//   node sharp.mjs ssim ONE OTHER                prints the SSIM of two files of one size
import { readFileSync, writeFileSync } from "node:fs";
import sharp from "sharp";

sharp.concurrency(1);
sharp.cache(false);
const [, , what, ...words] = process.argv;

/// sharp's own settings, with the quality that its documentation names for JPEG and WebP, and its defaults for AVIF.
const encoders = {
  jpg: (image) => image.jpeg({ quality: 80 }),
  webp: (image) => image.webp({ quality: 80 }),
  avif: (image) => image.avif(),
  png: (image) => image.png(),
};

/// Noise of several sizes, as in nature: the larger the detail, the stronger. The generator is seeded.
async function photograph(file) {
  const [width, height] = [4000, 3000];
  let seed = 1;
  const random = () => {
    seed = (Math.imul(seed, 1664525) + 1013904223) >>> 0;
    return seed / 2 ** 32;
  };
  const sum = new Float32Array(width * height * 3).fill(128);
  for (const [cells, strength] of [[4, 110], [16, 60], [64, 30], [256, 14], [1000, 6], [4000, 4]]) {
    const [w, h] = [cells, (cells * 3) / 4];
    const pixels = Buffer.from(Array.from({ length: w * h * 3 }, () => Math.floor(random() * 256)));
    const layer = await sharp(pixels, { raw: { width: w, height: h, channels: 3 } })
      .resize(width, height, { kernel: "cubic", fit: "fill" })
      .raw()
      .toBuffer();
    for (let at = 0; at < sum.length; at++) sum[at] += ((layer[at] - 127.5) / 127.5) * strength;
  }
  const pixels = Buffer.from(Uint8ClampedArray.from(sum).buffer);
  writeFileSync(file, await sharp(pixels, { raw: { width, height, channels: 3 } }).jpeg({ quality: 92 }).toBuffer());
}

async function resize(file, format, times, out) {
  const source = readFileSync(file);
  const once = () => encoders[format](sharp(source).resize(800)).toBuffer();
  let result = await once();
  const [cpu, began] = [process.cpuUsage(), process.hrtime.bigint()];
  for (let number = 0; number < times; number++) result = await once();
  const { user, system } = process.cpuUsage(cpu);
  writeFileSync(out, result);
  const seconds = Number(process.hrtime.bigint() - began) / 1e9;
  console.log(JSON.stringify({ cpu: (user + system) / 1e6 / times, time: seconds / times }));
}

/// The mean SSIM of the luma, in windows of 8 by 8 pixels, four pixels apart (Wang et al., 2004).
async function ssim(one, other) {
  const grey = async (file) => sharp(file).greyscale().raw().toBuffer({ resolveWithObject: true });
  const [{ data: a, info }, { data: b, info: second }] = await Promise.all([grey(one), grey(other)]);
  if (info.width !== second.width || info.height !== second.height) {
    throw new Error(`${info.width}x${info.height} and ${second.width}x${second.height} have no SSIM`);
  }
  const [c1, c2] = [(0.01 * 255) ** 2, (0.03 * 255) ** 2];
  let [total, windows] = [0, 0];
  for (let top = 0; top + 8 <= info.height; top += 4) {
    for (let left = 0; left + 8 <= info.width; left += 4) {
      let [sumA, sumB, squareA, squareB, product] = [0, 0, 0, 0, 0];
      for (let y = top; y < top + 8; y++) {
        for (let x = left; x < left + 8; x++) {
          const [p, q] = [a[(y * info.width + x) * info.channels], b[(y * info.width + x) * second.channels]];
          sumA += p;
          sumB += q;
          squareA += p * p;
          squareB += q * q;
          product += p * q;
        }
      }
      const [meanA, meanB] = [sumA / 64, sumB / 64];
      const [varA, varB] = [squareA / 64 - meanA ** 2, squareB / 64 - meanB ** 2];
      const both = product / 64 - meanA * meanB;
      total += ((2 * meanA * meanB + c1) * (2 * both + c2)) / ((meanA ** 2 + meanB ** 2 + c1) * (varA + varB + c2));
      windows += 1;
    }
  }
  console.log(total / windows);
}

const commands = { photograph, resize, ssim };
await commands[what](...words);
