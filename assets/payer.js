// Who pays: the wallets of this browser, and the one that is connected.

import { byId, make } from "./dom.js";
import { WalletError, connect, watchWallets } from "./wallet.js";

/** @typedef {{wallet: import("./wallet.js").Wallet, address: string}} Payer */

/** @type {import("./wallet.js").Wallet[]} */
let found = [];
/** @type {Payer | null} */
let connected = null;
/** Is called when a wallet appears or is connected. */
let changed = () => {};
/** Shows a problem near the button; an empty text shows none. @type {(text: string) => void} */
let problem = () => {};
/** What to do in the wallet now; empty: nothing. */
let asked = "";
/** The page says to open a wallet that has not answered for so many milliseconds. A connected one answers at once. */
const AT_ONCE = 200;

/** The connected wallet. @returns {Payer | null} */
export const payer = () => connected;

/**
 * Looks for wallets, and shows them.
 * @param {{changed: () => void, problem: (text: string) => void}} page
 */
export function startPayer(page) {
  ({ changed, problem } = page);
  watchWallets((wallets) => {
    found = wallets;
    show();
  });
}

/**
 * The wallet that pays, with its account of this moment. Connects the only wallet, or asks for a choice.
 * @returns {Promise<Payer | null>} null: none is connected, and the page says why
 */
export async function choosePayer() {
  const [only] = found;
  if (connected) return choose(connected.wallet);
  if (only && found.length === 1) return choose(only);
  problem(found.length ? "Choose a wallet in the list above." : "There is no wallet to connect. Install one, or pay another way.");
  (byId("wallets").querySelector("button") ?? byId("other-ways").querySelector("summary"))?.focus();
  return null;
}

/** Says near the button what to do in the wallet. @param {string} text empty: the wallet has answered */
export function walletAsks(text) {
  asked = text;
  showNow();
}

/** @param {import("./wallet.js").Wallet} wallet @returns {Promise<Payer | null>} null: it did not connect */
async function choose(wallet) {
  const timer = setTimeout(() => walletAsks(`Open ${wallet.name} to connect.`), AT_ONCE);
  try {
    connected = { wallet, address: await connect(wallet) };
    problem("");
  } catch (error) {
    if (!(error instanceof WalletError)) throw error;
    connected = null;
    problem(error.message);
  } finally {
    clearTimeout(timer);
    asked = "";
  }
  show();
  return connected;
}

/** Shows what to do in the wallet, or which wallet pays. */
function showNow() {
  const now = byId("wallet-now");
  now.classList.toggle("notice", asked !== "");
  if (asked) {
    now.textContent = asked;
  } else if (connected) {
    const { address, wallet } = connected;
    now.textContent = `Paying from ${address.slice(0, 6)}…${address.slice(-4)} in ${wallet.name}. It asks once for each image.`;
  } else {
    now.textContent = found.length ? "" : "No wallet was found in this browser. A wallet is an extension or an app that holds USDC. It only signs, so that you need no ETH. On a phone, open this page in the browser of the wallet’s app.";
  }
}

function show() {
  showNow();
  if (!connected && !found.length) byId("other-ways").open = true;
  byId("wallets").replaceChildren(...found.map(row));
  changed();
}

/** @param {import("./wallet.js").Wallet} wallet */
function row(wallet) {
  const isConnected = connected?.wallet.id === wallet.id;
  const icon = wallet.icon ? make("img", { src: wallet.icon, alt: "", width: 24, height: 24 }) : null;
  const button = make("button", { type: "button", "aria-pressed": String(isConnected) }, icon, isConnected ? `${wallet.name}, connected` : `Connect ${wallet.name}`);
  button.addEventListener("click", async () => {
    await choose(wallet);
    // The list was made anew.
    byId("wallets").querySelector('[aria-pressed="true"]')?.focus();
  });
  return make("li", {}, button);
}
