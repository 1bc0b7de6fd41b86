// The wallets of this browser: found by EIP-6963, used by EIP-1193.

/**
 * @typedef {object} Wallet
 * @property {string} id
 * @property {string} name
 * @property {string | null} icon a `data:` URL
 * @property {{request: (call: {method: string, params?: unknown}) => Promise<any>}} provider
 */

/**
 * A wallet did not do what it was asked for. The message is for people.
 * `kind` is "declined", "busy", "locked", "unsupported" or "failed".
 */
export class WalletError extends Error {
  /** @param {string} kind @param {string} message */
  constructor(kind, message) {
    super(message);
    this.kind = kind;
  }
}

/** What wallets that do not know a network need to add it. Others than these are added by hand. */
const NETWORKS = /** @type {Record<number, {name: string, rpc: string, explorer: string}>} */ ({
  8453: { name: "Base", rpc: "https://mainnet.base.org", explorer: "https://basescan.org" },
  84532: { name: "Base Sepolia", rpc: "https://sepolia.base.org", explorer: "https://sepolia.basescan.org" },
});

/** @type {Map<string, Wallet>} */
const announced = new Map();
/** @type {Set<(wallets: Wallet[]) => void>} */
const watchers = new Set();

window.addEventListener("eip6963:announceProvider", (event) => {
  const { info, provider } = /** @type {CustomEvent} */ (event).detail ?? {};
  if (typeof info?.uuid !== "string" || typeof info.name !== "string" || typeof provider?.request !== "function") return;
  const isData = typeof info.icon === "string" && info.icon.startsWith("data:image/");
  announced.set(info.uuid, { id: info.uuid, name: info.name.slice(0, 60), icon: isData ? info.icon : null, provider });
  for (const watcher of watchers) watcher(wallets());
});

/** The wallets that are known now. @returns {Wallet[]} */
export function wallets() {
  if (announced.size) return [...announced.values()];
  const provider = /** @type {any} */ (window).ethereum;
  return typeof provider?.request === "function" ? [{ id: "window.ethereum", name: "Browser wallet", icon: null, provider }] : [];
}

/**
 * Asks the wallets to announce themselves, and calls `changed` with them now and whenever another one comes.
 * @param {(wallets: Wallet[]) => void} changed
 */
export function watchWallets(changed) {
  watchers.add(changed);
  window.dispatchEvent(new Event("eip6963:requestProvider"));
  changed(wallets());
  // A wallet of the older kind may inject itself after the page.
  window.addEventListener("ethereum#initialized", () => changed(wallets()), { once: true });
}

/** The name of a network for people. @param {number} chainId @returns {string} */
export function networkName(chainId) {
  return NETWORKS[chainId]?.name ?? `chain ${chainId}`;
}

/**
 * @param {Wallet} wallet
 * @param {string} method
 * @param {unknown} [params]
 */
async function ask(wallet, method, params) {
  try {
    return await wallet.provider.request(params === undefined ? { method } : { method, params });
  } catch (error) {
    throw explained(wallet, error);
  }
}

/** @param {Wallet} wallet @param {any} error @returns {WalletError} */
function explained(wallet, error) {
  const code = error?.code ?? error?.data?.originalError?.code;
  if (code === 4001 || code === "ACTION_REJECTED") return new WalletError("declined", `You declined in ${wallet.name}. Nothing was signed and nothing was charged.`);
  if (code === -32002) return new WalletError("busy", `${wallet.name} already has an open question. Open the wallet and answer it, then try again.`);
  if (code === 4100) return new WalletError("locked", `${wallet.name} does not let this page use the account. Unlock it, connect again, and choose an account.`);
  if (code === 4200 || code === -32601) return new WalletError("unsupported", `${wallet.name} does not support what paying needs. Use another wallet.`);
  if (code === 4900 || code === 4901) return new WalletError("failed", `${wallet.name} is not connected to its network. Check the wallet, then try again.`);
  const says = typeof error?.message === "string" ? error.message.slice(0, 200) : "no reason";
  return new WalletError("failed", `${wallet.name} returned an error: ${says}`);
}

/**
 * Connects a wallet. It asks its user which account this page may know.
 * @param {Wallet} wallet
 * @returns {Promise<string>} the address
 */
export async function connect(wallet) {
  const accounts = await ask(wallet, "eth_requestAccounts");
  const address = Array.isArray(accounts) ? accounts[0] : null;
  if (typeof address !== "string" || !/^0x[0-9a-fA-F]{40}$/.test(address)) {
    throw new WalletError("locked", `${wallet.name} shows no account. Unlock it or make an account, then connect again.`);
  }
  return address;
}

/**
 * Moves the wallet to a network, and adds the network where the wallet does not know it.
 * @param {Wallet} wallet
 * @param {number} chainId
 */
export async function useNetwork(wallet, chainId) {
  const hex = `0x${chainId.toString(16)}`;
  if (Number(await ask(wallet, "eth_chainId")) === chainId) return;
  try {
    await wallet.provider.request({ method: "wallet_switchEthereumChain", params: [{ chainId: hex }] });
  } catch (/** @type {any} */ error) {
    const network = NETWORKS[chainId];
    const isUnknown = [error?.code, error?.data?.originalError?.code].includes(4902);
    if (!isUnknown) throw explained(wallet, error);
    if (!network) throw new WalletError("unsupported", `${wallet.name} does not know chain ${chainId}. Add this network to the wallet, then try again.`);
    await ask(wallet, "wallet_addEthereumChain", [{
      chainId: hex, chainName: network.name, rpcUrls: [network.rpc], blockExplorerUrls: [network.explorer],
      nativeCurrency: { name: "Ether", symbol: "ETH", decimals: 18 },
    }]);
  }
  if (Number(await ask(wallet, "eth_chainId")) !== chainId) {
    throw new WalletError("failed", `${wallet.name} is on another network. Choose ${networkName(chainId)} in the wallet, then try again.`);
  }
}

/**
 * Signs EIP-712 typed data (`eth_signTypedData_v4`). The wallet has to be on the network of the data's domain.
 * @param {Wallet} wallet
 * @param {string} address
 * @param {object} data
 * @returns {Promise<string>} the signature
 */
export async function signTypedData(wallet, address, data) {
  return signature(wallet, await ask(wallet, "eth_signTypedData_v4", [address, JSON.stringify(data)]));
}

/**
 * Signs a text (`personal_sign`), such as one that signs in.
 * @param {Wallet} wallet
 * @param {string} address
 * @param {string} text
 * @returns {Promise<string>} the signature
 */
export async function personalSign(wallet, address, text) {
  const bytes = new TextEncoder().encode(text);
  const hex = Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
  return signature(wallet, await ask(wallet, "personal_sign", [`0x${hex}`, address]));
}

/** @param {Wallet} wallet @param {unknown} answer @returns {string} */
function signature(wallet, answer) {
  if (typeof answer === "string" && /^0x[0-9a-fA-F]+$/.test(answer)) return answer;
  throw new WalletError("failed", `${wallet.name} returned no signature. Try again, or use another wallet.`);
}
