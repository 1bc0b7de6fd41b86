// The packages need the Web Crypto API as a global, but Debian's Node.js 18 has it only as a module.
import { webcrypto } from "node:crypto";

globalThis.crypto ??= webcrypto;
