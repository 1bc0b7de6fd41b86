// The chain: anvil with the chain id of Base Sepolia and our token at the address of its USDC.
import { createRequire } from "node:module";
import { readFileSync } from "node:fs";
import {
  createPublicClient, createTestClient, createWalletClient, defineChain, encodeFunctionData, getAddress, http, parseAbiItem,
  parseSignature,
} from "viem";
import { generatePrivateKey, privateKeyToAccount } from "viem/accounts";
import { check, until } from "./check.mjs";
import { start } from "./processes.mjs";

const require = createRequire(import.meta.url);

export const USDC = "0x036CbD53842c5426634e7929541eC2318f3dCF7e";
/// The factory of contract wallets, and the contract for many calls, at the address that it has on every network.
export const FACTORY = "0x00000000000000000000000000000000000fac70";
const MULTICALL = "0xcA11bde05977b3631167028862bE2a173976CA11";
export const DOMAIN = { name: "USDC", version: "2", chainId: 84532, verifyingContract: USDC };
export const TYPES = {
  TransferWithAuthorization: [
    { name: "from", type: "address" },
    { name: "to", type: "address" },
    { name: "value", type: "uint256" },
    { name: "validAfter", type: "uint256" },
    { name: "validBefore", type: "uint256" },
    { name: "nonce", type: "bytes32" },
  ],
  CancelAuthorization: [
    { name: "authorizer", type: "address" },
    { name: "nonce", type: "bytes32" },
  ],
};
TYPES.ReceiveWithAuthorization = TYPES.TransferWithAuthorization;

const TRANSFER = parseAbiItem("event Transfer(address indexed from, address indexed to, uint256 value)");
const USED = parseAbiItem("event AuthorizationUsed(address indexed authorizer, bytes32 indexed nonce)");
const CANCELED = parseAbiItem("event AuthorizationCanceled(address indexed authorizer, bytes32 indexed nonce)");

/// Runs functions one after the other. The transactions of an account are sent so: each takes the nonce after those that
/// were sent, and one that fails leaves no gap. Later nonces would wait behind a gap for minutes, as they do behind viem's
/// nonce manager when a transaction fails while others are sent.
export function inTurn() {
  let last = Promise.resolve();
  return (send) => {
    const sent = last.then(send);
    last = sent.catch(() => {});
    return sent;
  };
}

/// A chain definition for viem, with its node at `url`. The default id is that of Base Sepolia.
export function chainOf(url, id = DOMAIN.chainId) {
  return defineChain({
    id,
    name: `anvil as eip155:${id}`,
    nativeCurrency: { name: "Ether", symbol: "ETH", decimals: 18 },
    rpcUrls: { default: { http: [url] } },
  });
}

/// Compiles Token.sol. Returns abi, code and creation code by the name of the contract.
function compile() {
  const solc = require("solc");
  const input = {
    language: "Solidity",
    sources: { "Token.sol": { content: readFileSync(new URL("Token.sol", import.meta.url), "utf8") } },
    settings: {
      optimizer: { enabled: true, runs: 200 },
      outputSelection: { "*": { "*": ["abi", "evm.bytecode.object", "evm.deployedBytecode.object"] } },
    },
  };
  const output = JSON.parse(solc.compile(JSON.stringify(input)));
  const complaints = (output.errors ?? []).map((error) => error.formattedMessage);
  check(complaints.length === 0, `Token.sol does not compile cleanly:\n${complaints.join("\n")}`);
  return Object.fromEntries(
    Object.entries(output.contracts["Token.sol"]).map(([name, contract]) => [
      name,
      {
        abi: contract.abi,
        creation: `0x${contract.evm.bytecode.object}`,
        code: `0x${contract.evm.deployedBytecode.object}`,
      },
    ]),
  );
}

/// The path of anvil itself. The platform-independent package @foundry-rs/anvil is a script that starts this program; a
/// signal to that script would not reach anvil.
function anvil() {
  const folder = require.resolve("@foundry-rs/anvil-linux-amd64/package.json");
  return folder.replace(/package\.json$/, "bin/anvil");
}

export class Chain {
  static async start(port, id = DOMAIN.chainId) {
    const chain = new Chain();
    chain.turn = inTurn();
    chain.id = id;
    chain.url = `http://127.0.0.1:${port}`;
    // One slot per epoch makes the block before the newest one the safe block, which the server needs to decide.
    const args = ["--host", "127.0.0.1", "--port", String(port), "--chain-id", String(id)];
    chain.process = start(anvil(), [...args, "--slots-in-an-epoch", "1", "--accounts", "1", "--color", "never"]);
    const options = { chain: chainOf(chain.url, id), transport: http(chain.url), pollingInterval: 50, cacheTime: 0 };
    chain.options = options;
    chain.reads = createPublicClient(options);
    chain.control = createTestClient({ ...options, mode: "anvil" });
    await until("anvil to answer", async () => {
      check(chain.process.code === undefined, `anvil ended:\n${chain.process.output}`);
      return chain.reads.getChainId().catch(() => undefined);
    });
    const { Token, Wallet, Factory, Multicall } = compile();
    chain.abi = Token.abi;
    chain.walletContract = Wallet;
    chain.factoryContract = Factory;
    await chain.control.setCode({ address: USDC, bytecode: Token.code });
    await chain.control.setCode({ address: FACTORY, bytecode: Factory.code });
    await chain.control.setCode({ address: MULTICALL, bytecode: Multicall.code });
    // The account that pays for the test's own transactions: mints, transfers, and authorizations submitted by others.
    chain.stranger = await chain.funded();
    // Older blocks have no token, so that the server must not read them.
    await chain.control.mine({ blocks: 3 });
    return chain;
  }

  /// A new account with ether for gas.
  async funded(account = privateKeyToAccount(generatePrivateKey())) {
    await this.control.setBalance({ address: account.address, value: 10n ** 18n });
    return account;
  }

  read(functionName, args = []) {
    return this.reads.readContract({ address: USDC, abi: this.abi, functionName, args });
  }

  balance(address) {
    return this.read("balanceOf", [address]);
  }

  /// The token's revert reason for a call; undefined when the call would succeed.
  async refusal(account, functionName, args) {
    try {
      await this.reads.simulateContract({ account, address: USDC, abi: this.abi, functionName, args });
      return undefined;
    } catch (error) {
      return error.walk?.((cause) => cause.reason)?.reason ?? String(error);
    }
  }

  /// Sends a transaction to the token, waits until it is in a block, and returns its hash.
  async send(account, functionName, args) {
    const wallet = createWalletClient({ ...this.options, account });
    const write = () => wallet.writeContract({ address: USDC, abi: this.abi, functionName, args });
    // The tests send many transactions of this account at the same time.
    const hash = await (account === this.stranger ? this.turn(write) : write());
    const receipt = await this.reads.waitForTransactionReceipt({ hash, timeout: 60_000 });
    check(receipt.status === "success", `${functionName} failed on the chain`);
    return hash;
  }

  mint(address, value) {
    return this.send(this.stranger, "mint", [address, value]);
  }

  /// Signs an authorization. It is valid for five minutes from now, unless `fields` sets other times.
  async authorize(account, fields, primaryType = "TransferWithAuthorization") {
    const message = {
      from: account.address,
      value: 1n,
      validAfter: 0n,
      validBefore: BigInt(Math.floor(Date.now() / 1000) + 300),
      nonce: generatePrivateKey(),
      ...fields,
    };
    const signature = await account.signTypedData({ domain: DOMAIN, types: TYPES, primaryType, message });
    return { authorization: message, signature };
  }

  /// Submits an authorization from another account, with one of the two forms of its signature.
  submit(authorization, signature, form = "vrs") {
    return this.send(this.stranger, "transferWithAuthorization", args(authorization, signature, form));
  }

  async cancel(account, nonce) {
    const message = { authorizer: account.address, nonce };
    const signature = await account.signTypedData({
      domain: DOMAIN, types: TYPES, primaryType: "CancelAuthorization", message,
    });
    return this.send(this.stranger, "cancelAuthorization", [account.address, nonce, ...spelled(signature, "vrs")]);
  }

  /// Deploys a contract wallet that accepts the signatures of `owner`. Returns its address.
  async deployWallet(owner) {
    const { abi, creation } = this.walletContract;
    const wallet = createWalletClient({ ...this.options, account: this.stranger });
    const hash = await wallet.deployContract({ abi, bytecode: creation, args: [owner.address] });
    const receipt = await this.reads.waitForTransactionReceipt({ hash, timeout: 60_000 });
    check(receipt.contractAddress, "the wallet was not deployed");
    return getAddress(receipt.contractAddress);
  }

  /// A contract wallet of `owner` that is not deployed: its address, and the call of the factory that deploys it.
  async undeployedWallet(owner) {
    const { abi } = this.factoryContract;
    const args = [owner.address];
    const address = await this.reads.readContract({ address: FACTORY, abi, functionName: "predict", args });
    return { address: getAddress(address), factory: FACTORY, data: encodeFunctionData({ abi, functionName: "deploy", args }) };
  }

  async isDeployed(address) {
    return Boolean(await this.reads.getCode({ address }));
  }

  /// Replaces the newest blocks by empty ones. The transaction `kept`, if given, is moved to the newest block.
  async replaceBlocks(count, kept) {
    let transactions = [];
    if (kept) {
      const raw = await this.reads.request({ method: "eth_getRawTransactionByHash", params: [kept] });
      transactions = [[raw, count - 1]];
    }
    await this.control.request({ method: "anvil_reorg", params: [count, transactions] });
  }

  height() {
    return this.reads.getBlockNumber();
  }

  /// The events of the token after the block of this height.
  async logs(height) {
    const query = async (event) => {
      const logs = await this.reads.getLogs({ address: USDC, event, fromBlock: height });
      return logs.filter(({ blockNumber }) => blockNumber > height);
    };
    const [transfers, used, canceled] = await Promise.all([query(TRANSFER), query(USED), query(CANCELED)]);
    return { transfers, used, canceled };
  }
}

/// An authorization and its signature as the arguments of a call.
export function args({ from, to, value, validAfter, validBefore, nonce }, signature, form) {
  const signed = [from, to, BigInt(value), BigInt(validAfter), BigInt(validBefore), nonce];
  return [...signed, ...spelled(signature, form)];
}

/// A signature as the last arguments of a call.
function spelled(signature, form) {
  if (form === "bytes") return [signature];
  const { r, s, v, yParity } = parseSignature(signature);
  return [Number(v ?? 27 + yParity), r, s];
}
