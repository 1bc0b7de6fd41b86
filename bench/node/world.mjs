// A facilitator that answers at once, and a node whose chain holds what it settled. Both count their calls.
import { randomBytes } from "node:crypto";
import { createServer } from "node:http";

const USED = "0x98de503528ee59b575ef0c0a2576a82497bfc029a5685b209e9ec333479b10a5";
const TRANSFER = "0xddf252ad1be2c89b69c2b068fc378daa952ba7f163c4a11628f55a4df523b3ef";
const AUTHORIZATION_STATE = "0xe94a0102";
const NETWORK = "eip155:84532";

const counts = {};
const count = (what) => (counts[what] = (counts[what] ?? 0) + 1);

/// The settled authorizations, by payer and nonce, and by transaction.
const settled = new Map();
const started = Math.floor(Date.now() / 1000) - 1_000_000;

const word = (value) => BigInt(value).toString(16).padStart(64, "0");
const hash = (number) => "0x" + word(number);
const hex = (number) => "0x" + BigInt(number).toString(16);
/// A block a second.
const height = () => Math.floor(Date.now() / 1000) - started;

function verify({ paymentPayload }) {
  return { isValid: true, payer: paymentPayload.payload.authorization.from };
}

function settle({ paymentPayload, paymentRequirements }) {
  const { from, to, value, nonce } = paymentPayload.payload.authorization;
  const transaction = "0x" + randomBytes(32).toString("hex");
  const transfer = { from, to, value, nonce, transaction, block: height(), asset: paymentRequirements.asset };
  settled.set(word(from) + word(nonce), transfer);
  settled.set(transaction, transfer);
  return { success: true, payer: from, transaction, network: NETWORK };
}

function block(tag) {
  const number = tag === "latest" || tag === "safe" || tag === "finalized" ? height() : Number(tag);
  const zero = hash(0);
  return {
    number: hex(number), hash: hash(number + 1), parentHash: hash(number), timestamp: hex(started + number),
    sha3Uncles: zero, miner: "0x" + "0".repeat(40), stateRoot: zero, transactionsRoot: zero, receiptsRoot: zero,
    logsBloom: "0x" + "0".repeat(512), difficulty: "0x0", gasLimit: "0x1c9c380", gasUsed: "0x0", extraData: "0x",
    mixHash: zero, nonce: "0x0000000000000000", baseFeePerGas: "0x1", size: "0x1", uncles: [], transactions: [],
    totalDifficulty: "0x0",
  };
}

/// The two logs of a settled authorization.
function logs({ from, to, value, nonce, transaction, block, asset }) {
  const common = {
    address: asset, blockNumber: hex(block), blockHash: hash(block + 1), transactionHash: transaction,
    transactionIndex: "0x0", removed: false, blockTimestamp: hex(started + block),
  };
  const [payer, recipient] = [hash(from), hash(to)];
  return [
    { ...common, topics: [USED, payer, nonce], data: "0x", logIndex: "0x0" },
    { ...common, topics: [TRANSFER, payer, recipient], data: hash(value), logIndex: "0x1" },
  ];
}

function receipt(transaction) {
  const transfer = settled.get(transaction);
  if (!transfer) return null;
  return {
    transactionHash: transaction, transactionIndex: "0x0", blockHash: hash(transfer.block + 1),
    blockNumber: hex(transfer.block), from: transfer.from, to: transfer.asset, cumulativeGasUsed: "0x1",
    gasUsed: "0x1", effectiveGasPrice: "0x1", contractAddress: null, logs: logs(transfer),
    logsBloom: "0x" + "0".repeat(512), status: "0x1", type: "0x2",
  };
}

function call({ input, data }) {
  const text = input ?? data;
  // Whether a nonce is used, or else a balance.
  if (text.startsWith(AUTHORIZATION_STATE)) return hash(settled.has(text.slice(10, 138)) ? 1 : 0);
  return hash(10n ** 18n);
}

/// Finds logs by payer and nonce. Without them, as in a search for orphans, there are none.
function find(filter) {
  const [, payer, nonce] = filter.topics;
  const one = (topic) => (Array.isArray(topic) ? topic[0] : topic);
  if (!payer) return [];
  if (nonce) {
    const transfer = settled.get(word(one(payer)) + word(one(nonce)));
    return transfer ? [logs(transfer)[0]] : [];
  }
  for (const transfer of settled.values()) {
    if (hash(transfer.from) === one(payer)) return logs(transfer).filter((log) => log.topics[0] === one(filter.topics[0]));
  }
  return [];
}

function rpc({ id, method, params }) {
  count(method);
  const answer = {
    eth_chainId: () => hex(84532),
    eth_blockNumber: () => hex(height()),
    eth_getBlockByNumber: () => block(params[0]),
    eth_getBlockByHash: () => block(hex(BigInt(params[0]) - 1n)),
    eth_getCode: () => "0x",
    eth_call: () => call(params[0]),
    eth_getLogs: () => find(params[0]),
    eth_getTransactionReceipt: () => receipt(params[0]),
  }[method];
  if (!answer) return { jsonrpc: "2.0", id, error: { code: -32601, message: `no method ${method}` } };
  return { jsonrpc: "2.0", id, result: answer() };
}

function answer(path, body) {
  if (path === "/counts") return counts;
  if (path === "/supported") {
    return { kinds: [{ x402Version: 2, scheme: "exact", network: NETWORK }], extensions: [], signers: {} };
  }
  const request = JSON.parse(body);
  if (path === "/verify" || path === "/settle") {
    count(path);
    return path === "/verify" ? verify(request) : settle(request);
  }
  count("requests to the node");
  return Array.isArray(request) ? request.map(rpc) : rpc(request);
}

const server = createServer((request, response) => {
  const chunks = [];
  request.on("data", (chunk) => chunks.push(chunk));
  request.on("end", () => {
    const body = Buffer.from(JSON.stringify(answer(request.url, Buffer.concat(chunks).toString())));
    response.writeHead(200, { "content-type": "application/json", "content-length": body.length });
    response.end(body);
  });
});
server.keepAliveTimeout = 60_000;
server.listen(0, "127.0.0.1", () => console.log(`listening on ${server.address().port}`));
