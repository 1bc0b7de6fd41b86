// Verifies what the server signed: JSON Web Signatures (RFC 7515) with Ed25519, by the keys that it publishes.

const KEYS = "/.well-known/jwks.json";

/**
 * @typedef {object} Verdict
 * @property {boolean | null} good null: this browser can't verify Ed25519 signatures.
 * @property {string} says The result, in a sentence.
 * @property {any} [claims] What was signed, if the text could be read.
 */

/** @param {string} text @returns {Uint8Array} */
function bytesOf(text) {
  const plain = text.replaceAll("-", "+").replaceAll("_", "/");
  return Uint8Array.from(atob(plain), (letter) => letter.charCodeAt(0));
}

/** @param {string} text @returns {any} */
function jsonOf(text) {
  return JSON.parse(new TextDecoder("utf-8", { fatal: true }).decode(bytesOf(text)));
}

/** @param {JsonWebKey} jwk @returns {Promise<CryptoKey | null>} null: the browser doesn't know Ed25519. */
async function keyOf({ kty, crv, x }) {
  try {
    return await crypto.subtle.importKey("jwk", { kty, crv, x }, { name: "Ed25519" }, false, ["verify"]);
  } catch {
    return null;
  }
}

/**
 * Verifies a compact JWS with the keys of this server.
 *
 * @param {string} text The JWS: three parts with dots between them.
 * @param {string} typ What its header has to name as `typ`.
 * @param {(claims: any) => string | null} [signedAt] When the claims say that they were signed or became true (RFC 3339). A
 *     retired key signs nothing later than its end.
 * @returns {Promise<Verdict>} Throws if the keys can't be loaded.
 */
export async function verify(text, typ, signedAt = () => null) {
  const [head, body, signature, ...more] = text.trim().split(".");
  let header, claims, signed;
  try {
    [header, claims, signed] = [jsonOf(head), jsonOf(body), bytesOf(signature)];
  } catch {
    return { good: false, says: "This is not a signed document: it must be three parts of base64url with dots between them." };
  }
  if (more.length > 0 || header.alg !== "EdDSA" || header.typ !== typ || "crit" in header) {
    return { good: false, says: `The header does not name ${typ} with EdDSA, so the server did not sign this.`, claims };
  }
  const response = await fetch(KEYS, { cache: "no-cache" });
  if (!response.ok) throw new Error(`${KEYS} answered ${response.status}.`);
  const { keys } = await response.json();
  const jwk = keys.find((/** @type {any} */ key) => key.kid === header.kid && key.crv === "Ed25519");
  if (!jwk) return { good: false, says: `The key ${header.kid} is not among the keys of this server.`, claims };
  const at = signedAt(claims);
  if (jwk.retiredAt && !(at && Date.parse(at) <= Date.parse(jwk.retiredAt))) {
    return { good: false, says: `The key was retired at ${jwk.retiredAt}, and the document is not from before then.`, claims };
  }
  const key = await keyOf(jwk);
  if (!key) return { good: null, says: "This browser can't verify Ed25519 signatures. Use the command on this page instead.", claims };
  const isSigned = await crypto.subtle.verify({ name: "Ed25519" }, key, signed, new TextEncoder().encode(`${head}.${body}`));
  return isSigned
    ? { good: true, says: `The key ${header.kid} of this server signed exactly this.`, claims }
    : { good: false, says: "The signature does not match: the document was changed after it was signed.", claims };
}
