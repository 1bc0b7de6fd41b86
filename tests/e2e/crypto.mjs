// Node.js 18, which Debian has, knows the Web Crypto API, but not as a global; the packages look for it there.
import { webcrypto } from "node:crypto";

globalThis.crypto ??= webcrypto;
