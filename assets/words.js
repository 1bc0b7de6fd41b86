// Sizes and times in words.

const UNITS = /** @type {const} */ ([["year", 31_557_600], ["day", 86_400], ["hour", 3600], ["minute", 60]]);

/** @param {number} bytes @returns {string} such as "1.4 MiB" */
export function sizeInWords(bytes) {
  if (bytes < 1024) return bytes === 1 ? "1 byte" : `${bytes} bytes`;
  const [value, unit] = bytes < 1024 ** 2 ? [bytes / 1024, "KiB"] : [bytes / 1024 ** 2, "MiB"];
  return `${value < 10 ? Math.round(value * 10) / 10 : Math.round(value)} ${unit}`;
}

/** @param {number} seconds @returns {string} such as "7 days": the nearest number of whole units */
export function timeInWords(seconds) {
  // From two of a unit on, so that little is rounded away: 47 hours, not 2 days.
  const unit = UNITS.find(([, size]) => seconds + 60 >= 2 * size) ?? UNITS.find(([, size]) => seconds + 60 >= size);
  if (!unit) return "less than a minute";
  const count = Math.max(1, Math.round(seconds / unit[1]));
  return count === 1 ? `1 ${unit[0]}` : `${count} ${unit[0]}s`;
}

/**
 * How long an image is still there.
 * @param {string | null} expiresAt
 * @returns {string} such as "7 days left"
 */
export function timeLeft(expiresAt) {
  if (!expiresAt) return "kept until the service ends";
  const seconds = (Date.parse(expiresAt) - Date.now()) / 1000;
  return seconds <= 0 ? "expired" : `${timeInWords(seconds)} left`;
}

/** @param {string} time RFC 3339 @returns {string} in the reader's language and time zone */
export function dateInWords(time) {
  return new Date(time).toLocaleString(undefined, { dateStyle: "medium", timeStyle: "short" });
}
