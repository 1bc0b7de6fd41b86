// What the checks of pages share: Chromium, a page whose errors and requests are recorded, axe, screenshots.

import assert from "node:assert/strict";
import { mkdirSync, readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { join } from "node:path";

const require = createRequire(join(process.env.BROWSER_PACKAGES, "package.json"));
const { chromium } = require("playwright-core");
const { privateKeyToAccount } = require("viem/accounts");
const AXE = readFileSync(require.resolve("axe-core/axe.min.js"), "utf8");

// Starts Debian's Chromium.
export function launch() {
  return chromium.launch({
    executablePath: process.env.CHROMIUM ?? "chromium",
    args: ["--no-sandbox", "--disable-gpu", "--disable-quic", "--disable-background-networking", "--disable-component-update"],
  });
}

// A page with a profile of its own. `origins` are the origins that it may ask. Everything that goes wrong
// is recorded; `page.check()` fails if anything did.
export async function open(browser, { width = 1440, height = 900, scheme = "light", origins, ...options }) {
  const context = await browser.newContext({ viewport: { width, height }, colorScheme: scheme, reducedMotion: "reduce", ...options });
  const page = await context.newPage();
  page.setDefaultTimeout(10_000);
  const wrong = [];
  // An error response that the check itself caused is allowed by its status, and another message by a part of its text.
  page.allowed = new Set();
  const isAllowed = (text) => [...page.allowed].some((it) => typeof it === "string" && text.includes(it));
  page.on("console", (message) => {
    const status = /status of (\d+)/.exec(message.text())?.[1];
    if (["error", "warning"].includes(message.type()) && !page.allowed.has(Number(status)) && !isAllowed(message.text())) wrong.push(`console: ${message.text()}`);
  });
  page.on("pageerror", (error) => wrong.push(`script: ${error.message}`));
  page.on("dialog", (dialog) => {
    // The browser's own question before a page is left.
    if (dialog.type() === "beforeunload") return dialog.accept();
    wrong.push(`a script opened a dialog: ${dialog.message()}`);
    return dialog.dismiss();
  });
  page.on("request", (request) => {
    const url = new URL(request.url());
    const isLocal = url.protocol === "data:" || url.protocol === "blob:";
    if (!isLocal && !origins.includes(url.origin)) wrong.push(`a request left for ${url.origin}`);
  });
  page.check = () => assert.deepEqual(wrong, []);
  return page;
}

// Fails if axe finds anything that breaks WCAG 2.2 A or AA or a good practice.
export async function audit(page, what) {
  await page.evaluate(AXE);
  const { violations } = await page.evaluate(() => globalThis.axe.run(document, { resultTypes: ["violations"] }));
  const found = violations.map(({ id, help, nodes }) => `${id}: ${help}: ${nodes.map((node) => node.html).slice(0, 3).join(" ")}`);
  assert.deepEqual(found, [], what);
}

// Fails if the page is wider than its window.
export async function fits(page, what) {
  const wide = await page.evaluate(() => document.documentElement.scrollWidth - document.documentElement.clientWidth);
  assert.ok(wide <= 0, `${what}: ${wide} pixels wider than the window`);
}

// Saves the whole page as PNG, if there is a folder for it.
export async function shoot(page, folder, name) {
  if (!folder) return;
  mkdirSync(folder, { recursive: true });
  await page.screenshot({ path: join(folder, `${name}.png`), fullPage: true });
}

// Loses the server's answer to the next payment of a page, or, without `arrives`, the payment itself. `lost` of the result
// receives the answers.
export async function losePayment(page, { arrives }) {
  const lost = [];
  page.allowed.add("ERR_CONNECTION_RESET");
  const devtools = await page.context().newCDPSession(page);
  devtools.on("Fetch.requestPaused", async ({ requestId, request }) => {
    const isPaid = Object.keys(request.headers).some((name) => name.toLowerCase() === "payment-signature");
    if (!isPaid || lost.length) return devtools.send("Fetch.continueRequest", { requestId });
    lost.push(null);
    if (arrives) {
      const { body, base64Encoded } = await devtools.send("Fetch.getResponseBody", { requestId });
      lost[0] = JSON.parse(base64Encoded ? Buffer.from(body, "base64") : body);
    }
    return devtools.send("Fetch.failRequest", { requestId, errorReason: "ConnectionReset" });
  });
  const requestStage = arrives ? "Response" : "Request";
  await devtools.send("Fetch.enable", { patterns: ["*/api/upload/*", "*/renew?*"].map((urlPattern) => ({ urlPattern, requestStage })) });
  return lost;
}

// Gives the pages of `context` a wallet that announces itself by EIP-6963. Its answers are decided here: `wallet.declines`
// refuses the next signature, `wallet.chainId` is its network, and `wallet.knows` the networks that it can switch to.
// `wallet.pause(method)` lets calls of this method wait until the function that it returns is called.
export async function giveWallet(context, { key, name = "Test Wallet", chainId = 84532, knows = [84532, 8453] }) {
  const account = privateKeyToAccount(key);
  const wallet = { address: account.address, chainId, knows, declines: false, calls: [], signed: 0 };
  const paused = new Map();
  wallet.pause = (method = "eth_requestAccounts") => {
    let release = () => {};
    paused.set(method, new Promise((resolve) => { release = resolve; }));
    return () => {
      paused.delete(method);
      release();
    };
  };
  const refuse = (code, message) => ({ error: { code, message } });
  const answers = {
    eth_requestAccounts: () => [account.address.toLowerCase()],
    eth_accounts: () => [account.address.toLowerCase()],
    eth_chainId: () => `0x${wallet.chainId.toString(16)}`,
    wallet_switchEthereumChain([{ chainId }]) {
      if (!wallet.knows.includes(Number(chainId))) return refuse(4902, "Unrecognized chain ID");
      wallet.chainId = Number(chainId);
      return null;
    },
    wallet_addEthereumChain([{ chainId }]) {
      wallet.knows.push(Number(chainId));
      wallet.chainId = Number(chainId);
      return null;
    },
    async eth_signTypedData_v4([address, text]) {
      const { domain, types, primaryType, message } = JSON.parse(text);
      assert.equal(address.toLowerCase(), account.address.toLowerCase());
      // Wallets refuse data for another network than theirs.
      if (Number(domain.chainId) !== wallet.chainId) return refuse(-32603, "Provided chainId must match the active chainId");
      if (wallet.declines) return refuse(4001, "User rejected the request.");
      wallet.signed++;
      const { EIP712Domain, ...rest } = types;
      return account.signTypedData({ domain, types: rest, primaryType, message });
    },
    async personal_sign([hex]) {
      if (wallet.declines) return refuse(4001, "User rejected the request.");
      wallet.signed++;
      return account.signMessage({ message: { raw: hex } });
    },
  };
  const id = name.replaceAll(" ", "");
  await context.exposeFunction(`ask${id}`, async ({ method, params }) => {
    wallet.calls.push(method);
    await paused.get(method);
    const answer = answers[method] ? await answers[method](params) : refuse(-32601, `no method ${method}`);
    return answer?.error ? answer : { result: answer };
  });
  await context.addInitScript(({ id, name }) => {
    const provider = {
      async request(call) {
        const { result, error } = await globalThis[`ask${id}`](call);
        if (error) throw Object.assign(new Error(error.message), { code: error.code });
        return result;
      },
    };
    const icon = "data:image/svg+xml,%3Csvg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 8 8'%3E%3Crect width='8' height='8' rx='2' fill='%234a6'/%3E%3C/svg%3E";
    const detail = Object.freeze({ info: Object.freeze({ uuid: id, name, icon, rdns: `com.example.${id}` }), provider });
    const announce = () => globalThis.dispatchEvent(new CustomEvent("eip6963:announceProvider", { detail }));
    globalThis.addEventListener("eip6963:requestProvider", announce);
    announce();
  }, { id, name });
  return wallet;
}
